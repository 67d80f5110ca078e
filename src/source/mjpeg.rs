//! Cuts a byte stream into JPEG files (motion JPEG as cameras, `rpicam-vid` and ffmpeg write it).
//!
//! The marker segments are walked as ITU-T T.81 (the JPEG standard), annex B, lays them out:
//! searching for the end marker FFD9 alone would end a frame inside its embedded EXIF thumbnail.
//! Nothing here decodes; a frame that is cut out may still be refused by the decoder.

use std::fmt;

/// Cuts frames out of a stream that arrives in pieces of any size.
///
/// ```
/// use captiond::source::mjpeg::Splitter;
///
/// let frame = [0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x55, 0xFF, 0xD9];
/// let mut splitter = Splitter::new(1 << 20);
/// splitter.push(&frame[..4]);
/// assert_eq!(splitter.next_frame(), None);
/// splitter.push(&frame[4..]);
/// assert_eq!(splitter.next_frame(), Some(Ok(frame.to_vec())));
/// ```
#[derive(Debug)]
pub struct Splitter {
    max_frame: usize,
    buffer: Vec<u8>,
    /// Everything before this index is understood; it only moves forward within a frame.
    position: usize,
    state: State,
    /// Bytes outside of any frame since the last one.
    garbage: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Between frames, looking for a start of image.
    Seek,
    /// At a marker between segments; the frame starts at buffer index 0.
    Marker,
    /// In entropy-coded data, which ends at the next real marker.
    Scan,
}

/// A stretch of the stream that is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// A frame started anew before it had ended.
    Truncated,
    /// The bytes after a start of image are no JPEG.
    Malformed,
    /// A frame grew over the limit of so many bytes.
    TooLarge(usize),
    /// So many bytes without a single frame: probably not MJPEG at all.
    NotMjpeg(usize),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("JPEG cut off before its end marker"),
            Self::Malformed => f.write_str("a JPEG start marker followed by something else"),
            Self::TooLarge(limit) => write!(f, "a JPEG of more than {limit} bytes"),
            Self::NotMjpeg(bytes) => write!(
                f,
                "{bytes} bytes without a JPEG; is the output MJPEG (rpicam-vid: --codec mjpeg, \
                 ffmpeg: -f mjpeg)?"
            ),
        }
    }
}

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

impl Splitter {
    /// Frames of more than `max_frame` bytes are refused; memory stays under that and one piece.
    #[must_use]
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            buffer: Vec::new(),
            position: 0,
            state: State::Seek,
            garbage: 0,
        }
    }

    /// Takes the next piece of the stream. Call [`Self::next_frame`] until it returns `None` after
    /// each piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, or why a stretch of the stream is none; `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Option<Result<Vec<u8>, Skipped>> {
        loop {
            let step = match self.state {
                State::Seek => self.seek(),
                State::Marker => self.marker(),
                State::Scan => self.scan(),
            };
            match step {
                Step::Continue => {}
                Step::NeedMore => return None,
                Step::Frame => {
                    let rest = self.buffer.split_off(self.position);
                    let frame = std::mem::replace(&mut self.buffer, rest);
                    self.restart(0);
                    return Some(Ok(frame));
                }
                Step::Skip(why) => return Some(Err(why)),
            }
        }
    }

    /// The stream has ended; true if it ended inside a frame. Starts anew for another stream.
    pub fn finish(&mut self) -> bool {
        let inside = self.state != State::Seek;
        self.buffer.clear();
        self.restart(0);
        self.garbage = 0;
        inside
    }

    /// Forgets everything before `from` and looks for a new frame there.
    fn restart(&mut self, from: usize) {
        self.buffer.drain(..from.min(self.buffer.len()));
        self.position = 0;
        self.state = State::Seek;
    }

    fn seek(&mut self) -> Step {
        // A start of image counts only with the FF of the next marker behind it: in noise FFD8
        // comes by every 65,536 bytes.
        let found = self
            .buffer
            .windows(3)
            .position(|window| window == [0xFF, START_OF_IMAGE, 0xFF]);
        let skip = found.unwrap_or_else(|| {
            let tail = if self.buffer.ends_with(&[0xFF, START_OF_IMAGE]) {
                2
            } else {
                usize::from(self.buffer.ends_with(&[0xFF]))
            };
            self.buffer.len() - tail
        });
        // Told each time the limit is reached, at the same byte however the pieces fall.
        let until_told = self.max_frame.max(1) - self.garbage;
        if skip >= until_told {
            self.restart(until_told);
            self.garbage = 0;
            return Step::Skip(Skipped::NotMjpeg(self.max_frame.max(1)));
        }
        self.restart(skip);
        self.garbage += skip;
        if found.is_none() {
            return Step::NeedMore;
        }
        self.garbage = 0;
        self.position = 2;
        self.state = State::Marker;
        Step::Continue
    }

    fn marker(&mut self) -> Step {
        let Some(&prefix) = self.buffer.get(self.position) else {
            return Step::NeedMore;
        };
        if prefix != 0xFF {
            return self.malformed();
        }
        let Some(&code) = self.buffer.get(self.position + 1) else {
            return Step::NeedMore;
        };
        match code {
            // Any number of FF may stand before a marker's code.
            0xFF => self.forward(1),
            START_OF_IMAGE => self.truncated(),
            // An end without any scan: nothing to decode.
            END_OF_IMAGE => self.malformed(),
            0x01 | 0xD0..=0xD7 => self.forward(2),
            0x02..=0xBF | 0x00 => self.malformed(),
            _ => {
                let Some(&[high, low]) = self.buffer.get(self.position + 2..self.position + 4)
                else {
                    return Step::NeedMore;
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                // A scan header has 6 bytes and 2 for each of 1 to 4 components. In a frame that
                // was cut off, the next one's bytes stand here and would open a scan far ahead,
                // in the middle of another frame.
                let possible = if code == START_OF_SCAN {
                    matches!(length, 8 | 10 | 12 | 14)
                } else {
                    length >= 2
                };
                if !possible {
                    return self.malformed();
                }
                let end = self.position + 2 + length;
                if end > self.max_frame {
                    return self.too_large();
                }
                if end > self.buffer.len() {
                    return Step::NeedMore;
                }
                self.position = end;
                if code == START_OF_SCAN {
                    self.state = State::Scan;
                }
                Step::Continue
            }
        }
    }

    fn scan(&mut self) -> Step {
        while let Some(&byte) = self.buffer.get(self.position) {
            // Two more bytes have to fit: the end marker.
            if self.position + 2 > self.max_frame {
                return self.too_large();
            }
            if byte != 0xFF {
                self.position += 1;
                continue;
            }
            let Some(&code) = self.buffer.get(self.position + 1) else {
                return Step::NeedMore;
            };
            match code {
                // A stuffed zero, or a restart marker: still the same scan.
                0x00 | 0xD0..=0xD7 => self.position += 2,
                0xFF => self.position += 1,
                END_OF_IMAGE => {
                    self.position += 2;
                    return Step::Frame;
                }
                START_OF_IMAGE => return self.truncated(),
                // The next segment of a progressive file (tables, another scan).
                _ => {
                    self.state = State::Marker;
                    return Step::Continue;
                }
            }
        }
        Step::NeedMore
    }

    fn forward(&mut self, bytes: usize) -> Step {
        self.position += bytes;
        if self.position > self.max_frame {
            return self.too_large();
        }
        Step::Continue
    }

    /// Another frame starts where this one goes on: keep the new one.
    fn truncated(&mut self) -> Step {
        self.restart(self.position);
        Step::Skip(Skipped::Truncated)
    }

    /// Behind the start marker rather than behind the damage: a wrong segment length may have
    /// jumped over the start of the next frame.
    fn malformed(&mut self) -> Step {
        self.restart(2);
        Step::Skip(Skipped::Malformed)
    }

    fn too_large(&mut self) -> Step {
        self.restart(self.position);
        Step::Skip(Skipped::TooLarge(self.max_frame))
    }
}

enum Step {
    Continue,
    NeedMore,
    Frame,
    Skip(Skipped),
}

/// The whole JPEG at the head of a buffer, without what stands before and behind it.
///
/// nokhwa hands over the whole buffer and not how much of it the camera has filled, so behind the
/// end marker old bytes follow; and a frame that was cut off may end in an older one's. A web
/// server may close in the middle.
///
/// # Errors
/// [`Skipped`], when there is none of at most `max_frame` bytes.
pub fn first_frame(buffer: &[u8], max_frame: usize) -> Result<Vec<u8>, Skipped> {
    let mut splitter = Splitter::new(max_frame);
    for piece in buffer.chunks(64 << 10) {
        splitter.push(piece);
        if let Some(found) = splitter.next_frame() {
            return found;
        }
    }
    Err(if splitter.finish() {
        Skipped::Truncated
    } else {
        Skipped::NotMjpeg(buffer.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    /// A JPEG as the image crate writes it.
    fn jpeg(seed: u8, side: u32) -> Vec<u8> {
        let picture = image::RgbImage::from_fn(side, side, |x, y| {
            image::Rgb([x as u8 ^ seed, (y as u8).wrapping_mul(seed), seed])
        });
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes)
            .encode_image(&picture)
            .unwrap();
        bytes
    }

    /// The same with an APP1 segment that holds a whole other JPEG, end marker included.
    fn jpeg_with_thumbnail() -> Vec<u8> {
        let (outer, thumbnail) = (jpeg(3, 40), jpeg(9, 8));
        let mut bytes = outer[..2].to_vec();
        bytes.extend([0xFF, 0xE1]);
        bytes.extend(u16::try_from(thumbnail.len() + 8).unwrap().to_be_bytes());
        bytes.extend(b"Exif\0\0");
        bytes.extend(&thumbnail);
        bytes.extend(&outer[2..]);
        bytes
    }

    fn split(
        stream: &[u8],
        limit: usize,
        mut piece: impl FnMut() -> usize,
    ) -> Vec<Result<Vec<u8>, Skipped>> {
        let mut splitter = Splitter::new(limit);
        let mut out = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
            splitter.push(now);
            while let Some(item) = splitter.next_frame() {
                out.push(item);
            }
            assert!(splitter.buffer.len() <= limit.max(4) + now.len() + 65_540);
            rest = later;
        }
        out
    }

    fn whole(stream: &[u8]) -> Vec<Result<Vec<u8>, Skipped>> {
        split(stream, LIMIT, || usize::MAX)
    }

    #[test]
    fn frames_back_to_back_come_out_byte_for_byte() {
        let frames = [jpeg(1, 16), jpeg_with_thumbnail(), jpeg(2, 33)];
        assert_eq!(whole(&frames.concat()), frames.map(Ok));
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_end_the_frame() {
        let frame = jpeg_with_thumbnail();
        let first_end = frame.windows(2).position(|w| w == [0xFF, 0xD9]).unwrap();
        assert!(first_end < frame.len() - 2);
        assert_eq!(whole(&frame), [Ok(frame)]);
    }

    #[test]
    fn restart_markers_fill_bytes_and_stuffed_zeros_belong_to_the_frame() {
        let frame = [
            &[0xFF, 0xD8, 0xFF, 0xFF, 0xFF, 0xDD, 0, 4, 0, 1][..],
            &[
                0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 1, 0xFF, 0x00, 0xFF, 0xD0, 0xFF, 0xD7, 5,
            ],
            &[
                0xFF, 0xFF, 0xC4, 0, 3, 9, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 6, 0xFF, 0xFF, 0xD9,
            ],
        ]
        .concat();
        assert_eq!(whole(&frame), [Ok(frame)]);
    }

    #[test]
    fn text_between_frames_is_skipped_in_silence() {
        // What ffmpeg -f mpjpeg and HTTP cameras put between frames.
        let (a, b) = (jpeg(1, 16), jpeg(2, 16));
        let header: &[u8] = b"--boundary\r\nContent-Type: image/jpeg\r\n\r\n";
        let stream = [header, &a, b"\r\n", header, &b, b"\r\n"].concat();
        assert_eq!(whole(&stream), [Ok(a), Ok(b)]);
    }

    #[test]
    fn after_a_truncated_frame_the_next_is_whole() {
        let (a, b) = (jpeg(1, 64), jpeg(2, 64));
        let in_scan = [&a[..a.len() - 20], &b].concat();
        assert_eq!(whole(&in_scan), [Err(Skipped::Truncated), Ok(b.clone())]);
        // A cut inside a segment takes the missing bytes from the next frame, and one inside a
        // segment's length may announce up to 65,535 of them: that frame may be lost, no other.
        let frames = 70_000 / b.len();
        for cut in 3..a.len() - 2 {
            let items = whole(&[&a[..cut], &b.repeat(frames)].concat());
            let whole_ones = items.iter().filter(|item| **item == Ok(b.clone())).count();
            assert!(whole_ones >= frames - 1, "{whole_ones}, cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_segment_length_does_not_swallow_the_stream() {
        let (mut a, b) = (jpeg(1, 64), jpeg(2, 64));
        a[4..6].copy_from_slice(&[0xFF, 0xF0]);
        let stream = [a, b.clone(), b.clone(), b.repeat(80)].concat();
        let frames = whole(&stream);
        assert_eq!(frames[0], Err(Skipped::Malformed));
        assert!(frames.iter().filter(|item| **item == Ok(b.clone())).count() >= 82);
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_and_the_next_one_found() {
        let (large, small) = (jpeg(1, 256), jpeg(2, 8));
        let limit = small.len();
        assert!(large.len() > limit);
        let items = split(&[&large[..], &small].concat(), limit, || usize::MAX);
        assert!(items[0] == Err(Skipped::TooLarge(limit)), "{:?}", items[0]);
        assert_eq!(items.last(), Some(&Ok(small.clone())));
        // Exactly at the limit is allowed.
        assert_eq!(split(&small, limit, || 1), [Ok(small)]);
    }

    #[test]
    fn a_stream_that_is_no_mjpeg_is_told_and_costs_no_memory() {
        let items = split(&vec![0x41; 10_000], 1000, || 333);
        assert_eq!(items, vec![Err(Skipped::NotMjpeg(1000)); 10]);
    }

    #[test]
    fn the_end_of_the_stream_inside_a_frame_is_noticed() {
        let frame = jpeg(1, 16);
        let mut splitter = Splitter::new(LIMIT);
        splitter.push(&frame[..frame.len() - 1]);
        assert_eq!(splitter.next_frame(), None);
        assert!(splitter.finish());
        splitter.push(&frame);
        assert_eq!(splitter.next_frame(), Some(Ok(frame)));
        assert!(!splitter.finish());
    }

    /// Property: however a stream falls into pieces, the same items come out.
    #[test]
    fn pieces_do_not_matter() {
        let mut random = fastrand::Rng::with_seed(7);
        let frames = [
            jpeg(1, 16),
            jpeg(2, 40),
            jpeg_with_thumbnail(),
            jpeg(200, 64),
        ];
        for round in 0..300 {
            let mut stream = Vec::new();
            for _ in 0..random.usize(1..6) {
                let mut frame = random.choice(&frames).unwrap().clone();
                match random.u8(0..5) {
                    0 => frame.truncate(random.usize(0..frame.len())),
                    1 => {
                        for _ in 0..random.usize(1..8) {
                            let at = random.usize(0..frame.len());
                            frame[at] = *random.choice(&[0xFF, 0xD8, 0xD9, 0x00, 0x17]).unwrap();
                        }
                    }
                    2 => stream.extend((0..random.usize(0..900)).map(|_| random.u8(..))),
                    _ => {}
                }
                stream.extend(frame);
            }
            let limit = *random.choice(&[300, 1500, LIMIT]).unwrap();
            let expected = split(&stream, limit, || usize::MAX);
            assert_eq!(
                split(&stream, limit, || 1),
                expected,
                "round {round}, bytes"
            );
            let pieces = split(&stream, limit, || random.usize(1..200));
            assert_eq!(pieces, expected, "round {round}, pieces");
        }
    }

    #[test]
    fn the_frame_at_the_head_of_a_buffer_is_cut_out() {
        let frame = [
            0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x55, 0xFF, 0xD9,
        ];
        let buffer = [&frame[..], &[7; 500]].concat();
        assert_eq!(first_frame(&buffer, LIMIT).unwrap(), frame);
        assert_eq!(first_frame(&frame[..6], LIMIT), Err(Skipped::Truncated));
        assert_eq!(first_frame(&[], LIMIT), Err(Skipped::NotMjpeg(0)));
        assert_eq!(first_frame(b"<html>", LIMIT), Err(Skipped::NotMjpeg(6)));
    }

    /// Property: noise never panics, never loops, and an undamaged stream behind it is found.
    #[test]
    fn noise_is_survived() {
        let mut random = fastrand::Rng::with_seed(11);
        let good = jpeg(5, 16);
        for _ in 0..200 {
            let mut stream: Vec<u8> = (0..random.usize(0..5000))
                .map(|_| match random.u8(0..4) {
                    0 => 0xFF,
                    1 => *random
                        .choice(&[0xD8, 0xD9, 0xDA, 0xE0, 0x00, 0x01])
                        .unwrap(),
                    _ => random.u8(..),
                })
                .collect();
            // A segment that the noise opened can be 65,535 bytes long.
            for _ in 0..70_000 / good.len() + 2 {
                stream.extend(&good);
            }
            let items = split(&stream, LIMIT, || random.usize(1..4000));
            assert_eq!(items.last(), Some(&Ok(good.clone())));
        }
    }
}
