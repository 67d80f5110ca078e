//! From frames to what a browser shows, and to the numbers of the aiming help: once for each frame,
//! however many pages ask, and on their threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::view::Numbered;
use crate::frame::{self, FrameQuality, Limits};
use crate::publish::jpeg;
use crate::source::Pixels;

/// Larger pictures are scaled down: they would take too long over a slow link.
const MOST_BYTES: usize = 2 << 20;

/// What was measured of a frame, or why it can't be shown.
type Measured = Result<Looks, Arc<str>>;

/// A JPEG, or why there is none.
type Shown = Result<Arc<[u8]>, Arc<str>>;

/// A frame's size and quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Looks {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) quality: FrameQuality,
}

/// The newest result of each kind.
#[derive(Debug)]
pub(super) struct Pictures {
    limits: Limits,
    measured: Newest<Measured>,
    live: Newest<Shown>,
    captioned: Newest<Shown>,
}

impl Pictures {
    /// Of frames whose decoding may cost no more than the limits.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            measured: Newest::default(),
            live: Newest::default(),
            captioned: Newest::default(),
        }
    }

    /// Measures a frame. Calls `worked` with the time that it took, unless it was known.
    pub(super) fn measure(&self, frame: &Numbered, worked: impl FnOnce(Duration)) -> Measured {
        self.measured
            .get(frame, |frame| looks(frame, self.limits), worked)
    }

    /// The newest frame as JPEG; `worked` as in [`Pictures::measure`].
    pub(super) fn live(&self, frame: &Numbered, worked: impl FnOnce(Duration)) -> Shown {
        self.live
            .get(frame, |frame| encoded(frame, self.limits), worked)
    }

    /// The frame of the newest caption as JPEG.
    pub(super) fn captioned(&self, frame: &Numbered) -> Shown {
        self.captioned
            .get(frame, |frame| encoded(frame, self.limits), |_| ())
    }
}

fn looks(frame: &Numbered, limits: Limits) -> Measured {
    let decoded;
    let picture = match &frame.frame.pixels {
        Pixels::Rgb(picture) => picture,
        Pixels::Encoded(bytes) => {
            decoded = frame::decode(bytes, limits).map_err(|error| Arc::from(error.to_string()))?;
            &decoded
        }
    };
    let quality = FrameQuality::measure(picture).map_err(|error| Arc::from(error.to_string()))?;
    if !quality.is_finite() {
        return Err("its quality can't be measured".into());
    }
    Ok(Looks {
        width: picture.width(),
        height: picture.height(),
        quality,
    })
}

fn encoded(frame: &Numbered, limits: Limits) -> Shown {
    jpeg(&frame.frame, MOST_BYTES, limits)
        .map(Arc::from)
        .map_err(|error| Arc::from(error.to_string()))
}

/// Remembers the result for the newest number.
#[derive(Debug)]
struct Newest<T>(Mutex<Option<(u64, T)>>);

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Newest<T> {
    /// The lock is held while `make` works, so that a second page waits for the result of the first
    /// instead of doing the same work. No thread of the daemon takes it.
    fn get(
        &self,
        frame: &Numbered,
        make: impl FnOnce(&Numbered) -> T,
        worked: impl FnOnce(Duration),
    ) -> T {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            Some((number, made)) if *number == frame.number => made.clone(),
            _ => {
                let start = Instant::now();
                let made = make(frame);
                worked(start.elapsed());
                *newest = Some((frame.number, made.clone()));
                made
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Frame;
    use image::{Rgb, RgbImage};

    fn numbered(number: u64, pixels: Pixels) -> Numbered {
        Numbered {
            number,
            frame: Arc::new(Frame {
                pixels,
                origin: "porch.jpg".into(),
                taken: Duration::ZERO,
            }),
        }
    }

    #[test]
    fn a_frame_is_measured_once() {
        let pictures = Pictures::new(Limits::default());
        let picture = RgbImage::from_fn(64, 48, |x, y| Rgb([((x ^ y) * 4) as u8; 3]));
        let frame = numbered(1, Pixels::Rgb(picture.clone()));
        let mut worked = 0;
        let looks = pictures.measure(&frame, |_| worked += 1).unwrap();
        assert_eq!((looks.width, looks.height), (64, 48));
        assert_eq!(looks.quality, FrameQuality::measure(&picture).unwrap());
        assert_eq!(pictures.measure(&frame, |_| worked += 1), Ok(looks));
        assert_eq!(worked, 1);
        let next = numbered(2, Pixels::Rgb(RgbImage::new(8, 8)));
        assert_eq!(pictures.measure(&next, |_| ()).unwrap().width, 8);
        let shown = pictures.live(&frame, |_| ()).unwrap();
        assert!(shown.starts_with(&[0xFF, 0xD8]));
    }

    #[test]
    fn what_is_no_picture_is_told() {
        let pictures = Pictures::new(Limits::default());
        let frame = numbered(1, Pixels::Encoded(b"GIF89a".to_vec()));
        assert!(pictures.measure(&frame, |_| ()).is_err());
        assert!(
            pictures
                .captioned(&frame)
                .unwrap_err()
                .contains("porch.jpg")
        );
    }
}
