//! The body of an answer, however its length is told.

use std::io::Read;
use std::net::TcpStream;

use super::client::{Fault, Patience, read_more};

/// A chunk's size has at most 16 digits; what else may stand in its line is not used by cameras.
const MAX_LINE: usize = 1024;

/// How the end of the body is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Framing {
    /// By `Content-Length`.
    Length {
        /// Bytes in all.
        length: u64,
        /// Bytes so far.
        read: u64,
    },
    /// By chunks (RFC 9112, section 7.1).
    Chunked(Chunk),
    /// By the end of the connection.
    UntilClosed,
}

/// Where in the chunks the reader is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Chunk {
    /// Before the line with a size.
    Size,
    /// In data, with so many bytes to come.
    Data(u64),
    /// Before the line end behind data.
    DataEnd,
    /// Behind the last chunk.
    Done,
}

impl Framing {
    /// Chunks, from their start.
    #[must_use]
    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }
}

/// A body that is read in pieces.
#[derive(Debug)]
pub struct Body<S = TcpStream> {
    stream: S,
    /// Read from the socket and not yet given out.
    buffer: Vec<u8>,
    framing: Framing,
}

impl<S: Read> Body<S> {
    pub(super) fn new(stream: S, buffer: Vec<u8>, framing: Framing) -> Self {
        Self {
            stream,
            buffer,
            framing,
        }
    }

    /// The length that was promised, if one was.
    #[must_use]
    pub fn promised(&self) -> Option<u64> {
        match self.framing {
            Framing::Length { length, .. } => Some(length),
            _ => None,
        }
    }

    /// Appends the next piece to `to`; false at the body's end.
    ///
    /// # Errors
    /// [`Fault`]: the connection ends before the body, the chunks are none, or `patience` ends.
    pub fn read(&mut self, to: &mut Vec<u8>, patience: Patience) -> Result<bool, Fault> {
        loop {
            if let Some(more) = self.give_out(to)? {
                return Ok(more);
            }
            if read_more(&mut self.stream, &mut self.buffer, patience)? == 0 {
                return match self.framing {
                    Framing::UntilClosed => Ok(false),
                    Framing::Length { length, read } => Err(Fault::Failed(format!(
                        "the connection was closed after {read} of {length} bytes"
                    ))),
                    Framing::Chunked(_) => Err(Fault::Failed(
                        "the connection was closed in the middle of a chunk".into(),
                    )),
                };
            }
        }
    }

    /// Moves what the buffer has of the body to `to`: true if that was something, false at the
    /// end, `None` if more has to be read.
    fn give_out(&mut self, to: &mut Vec<u8>) -> Result<Option<bool>, Fault> {
        match &mut self.framing {
            Framing::UntilClosed if self.buffer.is_empty() => Ok(None),
            Framing::UntilClosed => {
                to.append(&mut self.buffer);
                Ok(Some(true))
            }
            Framing::Length { length, read } if read == length => Ok(Some(false)),
            Framing::Length { length, read } => {
                let bytes = move_up_to(*length - *read, &mut self.buffer, to);
                *read += bytes;
                Ok((bytes > 0).then_some(true))
            }
            Framing::Chunked(chunk) => {
                let before = to.len();
                while chunk.step(&mut self.buffer, to)? {}
                Ok(match chunk {
                    _ if to.len() > before => Some(true),
                    Chunk::Done => Some(false),
                    _ => None,
                })
            }
        }
    }
}

impl Chunk {
    /// Goes one step on; false if that needs more bytes or all is done.
    fn step(&mut self, buffer: &mut Vec<u8>, to: &mut Vec<u8>) -> Result<bool, Fault> {
        match self {
            Self::Size => {
                let Some(line) = take_line(buffer)? else {
                    return Ok(false);
                };
                // A chunk extension may follow behind `;`.
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(digits, 16).map_err(|_| {
                    Fault::Failed(format!("a chunk's size is {digits:?}, expected hex digits"))
                })?;
                // What may follow the last one (trailers) is of no interest.
                *self = if size == 0 {
                    Self::Done
                } else {
                    Self::Data(size)
                };
                Ok(true)
            }
            Self::Data(left) => {
                let bytes = move_up_to(*left, buffer, to);
                *left -= bytes;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                Ok(bytes > 0)
            }
            Self::DataEnd => match buffer.first() {
                None => Ok(false),
                Some(b'\r' | b'\n') => {
                    let line = take_line(buffer)?;
                    if line.is_some() {
                        *self = Self::Size;
                    }
                    Ok(line.is_some())
                }
                Some(_) => Err(Fault::Failed(
                    "a chunk is longer than its size; the server counts wrongly".into(),
                )),
            },
            Self::Done => Ok(false),
        }
    }
}

fn move_up_to(most: u64, from: &mut Vec<u8>, to: &mut Vec<u8>) -> u64 {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let bytes = from.len().min(most);
    to.extend(from.drain(..bytes));
    bytes as u64
}

fn take_line(buffer: &mut Vec<u8>) -> Result<Option<String>, Fault> {
    let Some(end) = buffer.iter().take(MAX_LINE).position(|&byte| byte == b'\n') else {
        if buffer.len() >= MAX_LINE {
            return Err(Fault::Failed(format!(
                "a chunk's first line has more than {MAX_LINE} bytes"
            )));
        }
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&buffer[..end]).trim().to_owned();
    buffer.drain(..=end);
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unchunk(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Chunk), Fault> {
        let (mut chunk, mut buffer, mut to) = (Chunk::Size, Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while chunk.step(&mut buffer, &mut to)? {}
        }
        Ok((to, chunk))
    }

    #[test]
    fn chunks_are_joined_however_the_pieces_fall() {
        let bytes = b"4\r\nWiki\r\n6;name=value\r\npedia \r\nB\r\nin \r\nchunks\r\n0\r\n\r\n";
        for piece in 1..bytes.len() {
            let (joined, chunk) = unchunk(bytes, piece).unwrap();
            assert_eq!(joined, b"Wikipedia in \r\nchunks");
            assert_eq!(chunk, Chunk::Done);
        }
    }

    #[test]
    fn wrong_chunks_are_refused() {
        let endless = vec![b'1'; 5000];
        for (bytes, part) in [
            (&b"3\r\nabcd\r\n"[..], "counts wrongly"),
            (b"<html>\r\n", "hex digits"),
            (b"-1\r\n", "hex digits"),
            (b"FFFFFFFFFFFFFFFFF\r\n", "hex digits"),
            (&endless, "first line"),
        ] {
            let Err(Fault::Failed(text)) = unchunk(bytes, 7) else {
                panic!("{bytes:?} was taken");
            };
            assert!(text.contains(part), "{text}");
        }
    }
}
