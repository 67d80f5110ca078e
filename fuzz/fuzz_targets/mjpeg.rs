//! A camera's byte stream: what is cut out doesn't depend on how the pieces fall, and is a frame.
#![no_main]

use captiond_fuzz::pieces::Pieces;
use captiond_fuzz::source::mjpeg::{Skipped, Splitter, first_frame};
use libfuzzer_sys::fuzz_target;

type Found = Vec<Result<Vec<u8>, Skipped>>;

fn split(max_frame: usize, mut pieces: Pieces) -> (Found, bool) {
    let mut splitter = Splitter::new(max_frame);
    let mut found = Vec::new();
    loop {
        let piece = pieces.piece(usize::MAX);
        if piece.is_empty() {
            return (found, splitter.finish());
        }
        splitter.push(piece);
        while let Some(next) = splitter.next_frame() {
            found.push(next);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [max_frame, rest @ ..] = input else {
        return;
    };
    let (lengths, stream) = rest.split_at(rest.len().min(4));
    let max_frame = usize::from(*max_frame) * 8;
    let in_pieces = split(max_frame, Pieces::new(stream, lengths));
    assert_eq!(in_pieces, split(max_frame, Pieces::new(stream, &[])));
    for frame in in_pieces.0.iter().flatten() {
        assert!(frame.len() <= max_frame);
        assert!(frame.starts_with(&[0xFF, 0xD8, 0xFF]) && frame.ends_with(&[0xFF, 0xD9]));
    }
    if let Ok(frame) = first_frame(stream, max_frame) {
        assert!(frame.len() <= max_frame);
    }
});
