//! Frames from a V4L2 device (USB camera, capture stick) through nokhwa.
//!
//! nokhwa's `frame()` has no time-out: a stalled camera would hold its caller for ever. A capture
//! thread of its own therefore owns the device, and [`VideoSource::next_frame`] waits for what it
//! sends, for as long as no shutdown is asked for. If the camera is gone nokhwa fails at once, a
//! million times a second; the first failure ends the capture thread, and the caller's back-off
//! paces the next attempt.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use nokhwa::Camera;
use nokhwa::utils::{
    CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution,
};

use super::mjpeg::Splitter;
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;

/// How often waiting for a frame is left to see whether a shutdown was asked for.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A JPEG of this size is damaged: a 4K frame at best quality has a quarter of it.
const MAX_FRAME: usize = 16 << 20;

/// The formats that are understood, the better one first: MJPEG needs a tenth of the USB bandwidth
/// and a frame that is overtaken costs nothing.
const FORMATS: [FrameFormat; 2] = [FrameFormat::MJPEG, FrameFormat::YUYV];

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
    capture: Option<Receiver<Captured>>,
}

enum Captured {
    Frame(Frame),
    Bad(String),
    Lost(String),
}

impl VideoSource {
    /// `device` is best a name that follows the camera (`/dev/v4l/by-id/...`): after a replug the
    /// number in `/dev/videoN` may be another.
    pub fn new(device: &Path, wanted: Wanted, clock: Arc<dyn Clock>) -> Self {
        Self {
            device: device.to_owned(),
            wanted,
            origin: device.display().to_string(),
            clock,
            capture: None,
        }
    }

    fn start(&self) -> Result<Receiver<Captured>, SourceError> {
        let lost = |reason: String| SourceError::Lost {
            origin: self.origin.clone(),
            reason,
        };
        // Resolved anew at each opening, see `new`.
        let index = device_index(&self.device).map_err(lost)?;
        let (sender, receiver) = sync_channel(1);
        let (wanted, clock, origin) = (self.wanted, Arc::clone(&self.clock), self.origin.clone());
        // Never joined: while the camera stalls, the thread can't be ended by anybody. It ends
        // with the process, or at the first frame after the receiver has gone.
        thread::Builder::new()
            .name("camera".into())
            .spawn(move || capture(index, wanted, &origin, &*clock, &sender))
            .map_err(|error| lost(format!("no thread for the camera: {error}")))?;
        Ok(receiver)
    }
}

impl FrameSource for VideoSource {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let capture = match self.capture.take() {
            Some(capture) => capture,
            None => self.start()?,
        };
        let captured = loop {
            if shutdown.requested() {
                return Ok(None);
            }
            match capture.recv_timeout(LOOK_UP) {
                Ok(captured) => break captured,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    break Captured::Lost("the capture thread has died".into());
                }
            }
        };
        match captured {
            Captured::Frame(frame) => {
                self.capture = Some(capture);
                Ok(Some(frame))
            }
            Captured::Bad(reason) => {
                self.capture = Some(capture);
                Err(SourceError::BadFrame {
                    origin: self.origin.clone(),
                    reason,
                })
            }
            Captured::Lost(reason) => Err(SourceError::Lost {
                origin: self.origin.clone(),
                reason,
            }),
        }
    }
}

/// The capture thread: until the camera fails or nobody listens.
fn capture(
    index: u32,
    wanted: Wanted,
    origin: &str,
    clock: &dyn Clock,
    sender: &SyncSender<Captured>,
) {
    let reason = match capture_until_lost(index, wanted, origin, clock, sender) {
        Ok(()) => return,
        Err(error) => with_advice(index, &error.to_string()),
    };
    // Waits for the place in the channel: this one must not be dropped. Fails if nobody listens.
    let _ = sender.send(Captured::Lost(reason));
}

fn capture_until_lost(
    index: u32,
    wanted: Wanted,
    origin: &str,
    clock: &dyn Clock,
    sender: &SyncSender<Captured>,
) -> Result<(), nokhwa::NokhwaError> {
    let mut camera = open(index, wanted)?;
    let format = camera.camera_format();
    tracing::info!(origin, device = index, %format, "camera opened");
    loop {
        let bytes = camera.frame_raw()?;
        let taken = clock.monotonic();
        let pixels = match format.format() {
            FrameFormat::MJPEG => first_jpeg(&bytes).map(Pixels::Encoded),
            _ => yuyv_to_rgb(&bytes, format.width(), format.height()).map(Pixels::Rgb),
        };
        let captured = match pixels {
            Ok(pixels) => Captured::Frame(Frame {
                pixels,
                origin: origin.to_owned(),
                taken,
            }),
            Err(reason) => Captured::Bad(reason),
        };
        match sender.try_send(captured) {
            // Full: the listener is busy for a moment; the next frame is a newer one.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return Ok(()),
        }
    }
}

fn open(index: u32, wanted: Wanted) -> Result<Camera, nokhwa::NokhwaError> {
    let index = CameraIndex::Index(index);
    // Opened twice, because nokhwa 0.10's `Closest` finds nothing unless the camera has exactly
    // the wanted resolution. First with anything, to ask what there is.
    let offered = {
        let any = RequestedFormat::with_formats(RequestedFormatType::None, &FORMATS);
        Camera::new(index.clone(), any)?.compatible_camera_formats()?
    };
    let chosen = choose(&offered, wanted).ok_or(nokhwa::NokhwaError::GetPropertyError {
        property: "format".into(),
        error: "the camera offers neither MJPEG nor YUYV".into(),
    })?;
    let exact = RequestedFormat::with_formats(RequestedFormatType::Exact(chosen), &FORMATS);
    let mut camera = Camera::new(index, exact)?;
    camera.open_stream()?;
    Ok(camera)
}

/// The nearest resolution counts first, then MJPEG before YUYV, then the nearest frame rate.
fn choose(offered: &[CameraFormat], wanted: Wanted) -> Option<CameraFormat> {
    let distance = |format: &CameraFormat| {
        let Resolution { width_x, height_y } = format.resolution();
        (
            width_x.abs_diff(wanted.width) + height_y.abs_diff(wanted.height),
            format.format() != FORMATS[0],
            format.frame_rate().abs_diff(wanted.fps),
        )
    };
    offered
        .iter()
        .filter(|format| FORMATS.contains(&format.format()))
        .min_by_key(|format| distance(format))
        .copied()
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

fn with_advice(index: u32, error: &str) -> String {
    // nokhwa passes the operating system's error on as text only.
    let advice = if error.contains("os error 13") {
        "; add the daemon's user to the group `video`"
    } else if error.contains("os error 16") {
        "; another program is using the camera"
    } else if error.contains("os error 19") || error.contains("os error 2)") {
        "; the camera was unplugged or has lost its power"
    } else {
        ""
    };
    format!("/dev/video{index}: {error}{advice}")
}

/// The JPEG at the head of a buffer.
///
/// nokhwa hands over the whole buffer and not how much of it the camera has filled, so behind the
/// end marker old bytes follow; and a frame that was cut off may end in an older one's.
fn first_jpeg(buffer: &[u8]) -> Result<Vec<u8>, String> {
    let mut splitter = Splitter::new(MAX_FRAME);
    for piece in buffer.chunks(64 << 10) {
        splitter.push(piece);
        if let Some(found) = splitter.next_frame() {
            return found.map_err(|skipped| skipped.to_string());
        }
    }
    Err("no whole JPEG in the camera's buffer".into())
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

    fn offer(width: u32, height: u32, format: FrameFormat, fps: u32) -> CameraFormat {
        CameraFormat::new(Resolution::new(width, height), format, fps)
    }

    #[test]
    fn the_nearest_offer_is_chosen_and_mjpeg_wins_a_tie() {
        let offers = [
            offer(1920, 1080, FrameFormat::MJPEG, 30),
            offer(640, 480, FrameFormat::YUYV, 30),
            offer(640, 480, FrameFormat::MJPEG, 60),
            offer(640, 480, FrameFormat::MJPEG, 15),
            offer(600, 400, FrameFormat::NV12, 10),
        ];
        let wanted = |width, height, fps| Wanted { width, height, fps };
        assert_eq!(choose(&offers, wanted(600, 400, 10)), Some(offers[3]));
        assert_eq!(choose(&offers, wanted(640, 480, 50)), Some(offers[2]));
        assert_eq!(choose(&offers, wanted(4000, 3000, 1)), Some(offers[0]));
        assert_eq!(choose(&offers[4..], wanted(600, 400, 10)), None);
    }

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

    #[test]
    fn old_bytes_behind_a_jpeg_are_cut_off() {
        let frame = [
            0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x55, 0xFF, 0xD9,
        ];
        let buffer = [&frame[..], &[7; 500]].concat();
        assert_eq!(first_jpeg(&buffer).unwrap(), frame);
        assert!(first_jpeg(&frame[..6]).is_err());
        assert!(first_jpeg(&[]).is_err());
    }
}
