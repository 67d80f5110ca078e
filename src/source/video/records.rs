//! What the camera's helper process writes to its pipe, and how it's read again.
//!
//! A record is a byte for its kind, the width and height in pixels (0 unless it's a YUYV picture)
//! and the length of what follows, each as a 32-bit little-endian number, and so many bytes.

use std::io::{self, Write};

/// A JPEG of this size is damaged: a 4K frame at best quality has a quarter of it. (YUYV at 4K is
/// 16.6 million bytes.)
pub const MAX_PAYLOAD: usize = 17 << 20;

const HEADER: usize = 13;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The camera is open; the text says in which format.
    Opened(String),
    /// A whole JPEG, as the camera made it.
    Jpeg(Vec<u8>),
    /// A picture in YUYV 4:2:2.
    Yuyv {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Two bytes a pixel.
        bytes: Vec<u8>,
    },
    /// A frame that is no picture, and why.
    Bad(String),
    /// The camera has failed, and why; the helper ends.
    Lost(String),
}

impl Record {
    /// Writes the record.
    ///
    /// # Errors
    /// When the reader has gone.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, width, height, bytes) = match self {
            Self::Opened(text) => (b'O', 0, 0, text.as_bytes()),
            Self::Jpeg(bytes) => (b'J', 0, 0, &bytes[..]),
            Self::Yuyv {
                width,
                height,
                bytes,
            } => (b'Y', *width, *height, &bytes[..]),
            Self::Bad(text) => (b'B', 0, 0, text.as_bytes()),
            Self::Lost(text) => (b'L', 0, 0, text.as_bytes()),
        };
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut header = [0; HEADER];
        header[0] = kind;
        for (place, number) in header[1..].chunks_exact_mut(4).zip([width, height, length]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        to.write_all(&header)?;
        to.write_all(bytes)?;
        to.flush()
    }
}

/// Puts records together from pieces of any size.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// Takes the next piece. Call [`Self::next_record`] until it gives `None` after each.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next record, `None` while it isn't whole.
    ///
    /// # Errors
    /// When the bytes are no records: another program's output.
    pub fn next_record(&mut self) -> Result<Option<Record>, String> {
        let Some(header) = self.buffer.get(..HEADER) else {
            return Ok(None);
        };
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (kind, width, height) = (header[0], number(1), number(5));
        let length = number(9) as usize;
        if !b"OJYBL".contains(&kind) || length > MAX_PAYLOAD {
            return Err(format!(
                "the camera helper wrote what is no record (kind {kind:#04x}, {length} bytes)"
            ));
        }
        let end = HEADER + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let rest = self.buffer.split_off(end);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.drain(..HEADER);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(match kind {
            b'O' => Record::Opened(text(bytes)),
            b'J' => Record::Jpeg(bytes),
            b'Y' => Record::Yuyv {
                width,
                height,
                bytes,
            },
            b'B' => Record::Bad(text(bytes)),
            _ => Record::Lost(text(bytes)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_pipe_however_its_pieces_fall() {
        let records = [
            Record::Opened("640x480 MJPEG".into()),
            Record::Jpeg(vec![0xFF; 3000]),
            Record::Yuyv {
                width: 2,
                height: 1,
                bytes: vec![1, 2, 3, 4],
            },
            Record::Jpeg(Vec::new()),
            Record::Bad("torn".into()),
            Record::Lost("unplugged".into()),
        ];
        let mut bytes = Vec::new();
        for record in &records {
            record.write(&mut bytes).unwrap();
        }
        for piece in [1, 7, 13, 1000, bytes.len()] {
            let (mut reader, mut read) = (Reader::default(), Vec::new());
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                while let Some(record) = reader.next_record().unwrap() {
                    read.push(record);
                }
            }
            assert_eq!(read, records);
        }
    }

    #[test]
    fn what_is_no_record_is_refused_before_it_fills_the_memory() {
        let mut reader = Reader::default();
        reader.push(b"Usage: some other program");
        assert!(reader.next_record().unwrap_err().contains("0x55"));
        let mut reader = Reader::default();
        let mut header = [b'J'; HEADER];
        header[9..].copy_from_slice(&u32::MAX.to_le_bytes());
        reader.push(&header);
        assert!(reader.next_record().is_err());
    }
}
