//! Frames from a V4L2 device (USB camera, capture stick) through nokhwa, in a process of its own.
//!
//! A camera that stalls holds its thread inside the kernel's `poll` for ever, and its buffers with
//! it: nokhwa's `frame()` has no time-out, and the device can't be opened a second time ("busy")
//! while the first opening lives. A thread can't be ended from outside; a process can. So the
//! daemon starts itself again as `captiond camera-helper` ([`helper`]), reads JPEG files from its
//! pipe ([`records`]), and ends it when no whole frame comes for `stall_after`. The kernel then
//! closes the device whatever state the driver was in, and the next helper opens it anew. The
//! same helps against a driver that crashes its caller. Frames are passed through as they are.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use super::child::Running;
use super::stall::StallDetector;
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;
use records::{Reader, Record};

pub mod helper;
pub mod records;

/// Names the program whose `camera-helper` command reads the camera. Default: the running one.
/// For programs that embed this library, such as its tests.
pub const HELPER_VARIABLE: &str = "CAPTIOND_CAMERA_HELPER";

/// What to ask the camera for; the nearest that it offers is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
}

/// A video device.
#[derive(Debug)]
pub struct VideoSource {
    device: PathBuf,
    wanted: Wanted,
    origin: String,
    clock: Arc<dyn Clock>,
    stall: StallDetector,
    running: Option<(Running, Reader)>,
    /// Read buffer, the size of a Linux pipe.
    piece: Vec<u8>,
}

impl VideoSource {
    /// `device` is best a name that follows the camera (`/dev/v4l/by-id/...`): after a replug the
    /// number in `/dev/videoN` may be another. Without a whole frame for `stall_after` the device
    /// is closed and opened again.
    pub fn new(
        device: &Path,
        wanted: Wanted,
        stall_after: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            device: device.to_owned(),
            wanted,
            origin: device.display().to_string(),
            stall: StallDetector::new(stall_after, Arc::clone(&clock)),
            clock,
            running: None,
            piece: vec![0; 64 << 10],
        }
    }

    fn lost(&self, reason: String) -> SourceError {
        SourceError::Lost {
            origin: self.origin.clone(),
            reason,
        }
    }

    fn start(&mut self) -> Result<(Running, Reader), SourceError> {
        // Resolved anew at each opening, see `new`. Here and not in the helper: while the camera
        // is away, no process need start.
        let index = device_index(&self.device).map_err(|reason| self.lost(reason))?;
        // Not the file's name: after an upgrade another version stands there.
        let program = std::env::var_os(HELPER_VARIABLE).unwrap_or_else(|| "/proc/self/exe".into());
        let mut arguments: Vec<OsString> = vec!["camera-helper".into()];
        for (option, number) in [
            ("--index", index),
            ("--width", self.wanted.width),
            ("--height", self.wanted.height),
            ("--fps", self.wanted.fps),
        ] {
            arguments.push(option.into());
            arguments.push(number.to_string().into());
        }
        let running = Running::start(&program, &arguments, Stdio::piped()).map_err(|error| {
            let program = program.display();
            self.lost(format!(
                "the camera helper ({program}) can't be started: {error}"
            ))
        })?;
        self.stall.fresh();
        Ok((running, Reader::default()))
    }

    /// What a record means to the caller; `None`: nothing.
    fn take(&mut self, record: Record) -> Result<Option<Frame>, SourceError> {
        let pixels = match record {
            Record::Opened(format) => {
                tracing::info!(origin = self.origin, format, "camera opened");
                return Ok(None);
            }
            Record::Jpeg(bytes) => Ok(Pixels::Encoded(bytes)),
            Record::Yuyv {
                width,
                height,
                bytes,
            } => yuyv_to_rgb(&bytes, width, height).map(Pixels::Rgb),
            Record::Bad(reason) => Err(reason),
            Record::Lost(reason) => {
                self.restart();
                return Err(self.lost(reason));
            }
        };
        match pixels {
            Ok(pixels) => {
                self.stall.fresh();
                Ok(Some(Frame {
                    pixels,
                    origin: self.origin.clone(),
                    taken: self.clock.monotonic(),
                }))
            }
            Err(reason) => {
                self.check_stall()?;
                Err(SourceError::BadFrame {
                    origin: self.origin.clone(),
                    reason,
                })
            }
        }
    }

    fn check_stall(&mut self) -> Result<(), SourceError> {
        let stalled = self
            .stall
            .check(&self.origin, "the camera is closed and opened again");
        if stalled.is_err() {
            self.restart();
        }
        stalled
    }
}

impl FrameSource for VideoSource {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        loop {
            if shutdown.requested() {
                // Here rather than in `drop`, see the command source.
                self.restart();
                return Ok(None);
            }
            let (mut running, mut reader) = match self.running.take() {
                Some(running) => running,
                None => self.start()?,
            };
            match reader.next_record() {
                Ok(Some(record)) => {
                    self.running = Some((running, reader));
                    if let Some(frame) = self.take(record)? {
                        return Ok(Some(frame));
                    }
                    continue;
                }
                Ok(None) => {}
                // Without `running` the helper ends here.
                Err(reason) => return Err(self.lost(reason)),
            }
            match running.read(&mut self.piece) {
                Ok(Some(0)) | Err(_) => {
                    return Err(self.lost(format!("the camera helper {}", running.ended())));
                }
                Ok(Some(bytes)) => {
                    reader.push(&self.piece[..bytes]);
                    self.running = Some((running, reader));
                }
                Ok(None) => {
                    self.running = Some((running, reader));
                    self.check_stall()?;
                }
            }
        }
    }

    fn restart(&mut self) {
        self.running = None;
    }
}

/// N of `/dev/videoN`, through symbolic links such as those in `/dev/v4l/by-id`.
fn device_index(device: &Path) -> Result<u32, String> {
    let mut path = device.to_owned();
    // udev's links have one step; a chain of more than a few is a loop.
    for _ in 0..8 {
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("video"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            return Ok(number);
        }
        path = fs::read_link(&path).map_err(|_| {
            "not there; is the camera plugged in? `ls -l /dev/v4l/by-id /dev/video*` shows the \
             names for source.device"
                .to_owned()
        })?;
    }
    Err("does not lead to a /dev/videoN; correct source.device".into())
}

/// YUYV 4:2:2 to RGB by ITU-R BT.601 in limited range, what UVC cameras send:
/// R = 1.164 (Y - 16) + 1.596 (Cr - 128), G = 1.164 (Y - 16) - 0.813 (Cr - 128) - 0.392 (Cb - 128),
/// B = 1.164 (Y - 16) + 2.017 (Cb - 128); here in 1/256ths.
fn yuyv_to_rgb(buffer: &[u8], width: u32, height: u32) -> Result<image::RgbImage, String> {
    let expected = width as usize * height as usize * 2;
    let Some(pairs) = buffer.get(..expected) else {
        return Err(format!(
            "{} bytes, but {width}x{height} YUYV has {expected}",
            buffer.len()
        ));
    };
    let mut rgb = Vec::with_capacity(expected / 2 * 3);
    for pair in pairs.chunks_exact(4) {
        let [first, cb, second, cr] = [pair[0], pair[1], pair[2], pair[3]].map(i32::from);
        let (cb, cr) = (cb - 128, cr - 128);
        for luma in [first, second] {
            let y = 298 * (luma - 16) + 128;
            let channels = [y + 409 * cr, y - 208 * cr - 100 * cb, y + 516 * cb];
            // Clamped to a byte, so the cast can't cut anything off.
            rgb.extend(channels.map(|channel| (channel >> 8).clamp(0, 255) as u8));
        }
    }
    image::RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| format!("{width}x{height} is no YUYV size: the width must be even"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_name_leads_to_the_number_of_today() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("usb-cam-index0");
        std::os::unix::fs::symlink("../../video9", &link).unwrap();
        assert_eq!(device_index(&link), Ok(9));
        assert_eq!(device_index(Path::new("/dev/video0")), Ok(0));
        fs::remove_file(&link).unwrap();
        assert!(device_index(&link).unwrap_err().contains("plugged in"));
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert!(device_index(&link).unwrap_err().contains("source.device"));
    }

    #[test]
    fn yuyv_primaries_are_right() {
        // Y, Cb, Cr of BT.601 for black, white, red, green and blue.
        for (ycbcr, rgb) in [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([81, 90, 240], [255, 0, 0]),
            ([145, 54, 34], [0, 255, 0]),
            ([41, 240, 110], [0, 0, 255]),
        ] {
            let [y, cb, cr] = ycbcr;
            let picture = yuyv_to_rgb(&[y, cb, y, cr], 2, 1).unwrap();
            for pixel in picture.pixels() {
                for (got, want) in pixel.0.into_iter().zip(rgb) {
                    assert!(got.abs_diff(want) <= 2, "{:?} for {rgb:?}", pixel.0);
                }
            }
        }
        assert!(yuyv_to_rgb(&[0; 7], 2, 2).unwrap_err().contains("8"));
        assert!(yuyv_to_rgb(&[0; 6], 3, 1).unwrap_err().contains("even"));
    }
}
