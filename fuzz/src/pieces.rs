//! How fuzzer bytes become input: cut into pieces as a socket cuts them, or put into a tensor file.

use std::io::{self, Read};

/// Gives out its bytes in pieces of lengths that it takes from another stretch of the fuzzer's bytes.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: &'a [u8],
    next: usize,
}

impl<'a> Pieces<'a> {
    /// `lengths` repeats; a length of 0 counts as 256.
    pub fn new(bytes: &'a [u8], lengths: &'a [u8]) -> Self {
        Self {
            bytes,
            lengths,
            next: 0,
        }
    }

    /// The next piece; empty at the end.
    pub fn piece(&mut self, most: usize) -> &'a [u8] {
        let length = match self.lengths {
            [] => usize::MAX,
            lengths => match lengths[self.next % lengths.len()] {
                0 => 256,
                length => usize::from(length),
            },
        };
        self.next += 1;
        let (piece, rest) = self.bytes.split_at(length.min(most).min(self.bytes.len()));
        self.bytes = rest;
        piece
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece(buffer.len());
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

/// A tensor file as a fuzzer can write one: `S` and the file as it is, or else the JSON header, a line end and
/// the data, to which the header's length is added. A length that must be right stops all that changes the
/// header.
pub fn tensor_file(input: &[u8]) -> Vec<u8> {
    match input {
        [b'S', file @ ..] => file.to_vec(),
        _ => {
            let end = input
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(input.len());
            let mut file = (end as u64).to_le_bytes().to_vec();
            file.extend_from_slice(&input[..end]);
            file.extend_from_slice(input.get(end + 1..).unwrap_or_default());
            file
        }
    }
}
