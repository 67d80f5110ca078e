//! The process that holds the camera: `captiond camera-helper`.
//!
//! It reads frames through nokhwa and writes [`Record`]s to standard output. If its reader is slow,
//! the newest frame replaces those before it, so the pipe never holds more than one old one. It
//! ends with the camera, or when its standard input is closed: that is the daemon's end, also by
//! `kill -9`. (While the camera stalls nothing is written, so a broken pipe wouldn't tell.)

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use nokhwa::Camera;
use nokhwa::utils::{
    CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution,
};

use super::Wanted;
use super::records::{MAX_PAYLOAD, Record};
use crate::daemon::newest::NewestSlot;
use crate::source::mjpeg::first_frame;

/// The formats that are understood, the better one first: MJPEG needs a tenth of the USB bandwidth
/// and a frame that is overtaken costs nothing.
const FORMATS: [FrameFormat; 2] = [FrameFormat::MJPEG, FrameFormat::YUYV];

/// Reads a camera for the daemon (the daemon starts this itself)
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct HelperArgs {
    /// N of /dev/videoN
    #[arg(long)]
    pub index: u32,
    /// Wanted width in pixels
    #[arg(long)]
    pub width: u32,
    /// Wanted height in pixels
    #[arg(long)]
    pub height: u32,
    /// Wanted frames a second
    #[arg(long)]
    pub fps: u32,
}

/// Runs until the camera fails or nobody listens any more.
///
/// # Errors
/// When a thread can't be started.
pub fn run(args: &HelperArgs) -> io::Result<ExitCode> {
    thread::Builder::new().name("parent".into()).spawn(|| {
        // Nothing is ever written to it; what ends it is its end.
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(0);
    })?;
    let slot = Arc::new(NewestSlot::new());
    let writer = {
        let slot = Arc::clone(&slot);
        thread::Builder::new()
            .name("writer".into())
            .spawn(move || write_all(&slot))?
    };
    let index = args.index;
    let wanted = Wanted {
        width: args.width,
        height: args.height,
        fps: args.fps,
    };
    let Err(error) = capture_until_lost(index, wanted, &slot);
    // Waits for its turn: this one must not overtake, or be overtaken.
    slot.put_in_turn(Record::Lost(with_advice(index, &error.to_string())));
    slot.finish();
    let _ = writer.join();
    Ok(ExitCode::SUCCESS)
}

/// The writer: until the slot is finished. If the reader has gone, the process ends.
fn write_all(slot: &NewestSlot<Record>) {
    // Not through `Stdout`, which looks for line ends in what it's given.
    let Ok(mut out) = io::stdout().as_fd().try_clone_to_owned().map(File::from) else {
        std::process::exit(1);
    };
    while let Some(record) = slot.take() {
        if record.write(&mut out).is_err() {
            std::process::exit(0);
        }
    }
}

/// Puts what the camera gives into the slot, until the camera fails.
fn capture_until_lost(
    index: u32,
    wanted: Wanted,
    slot: &NewestSlot<Record>,
) -> Result<Infallible, nokhwa::NokhwaError> {
    let mut camera = open(index, wanted)?;
    let format = camera.camera_format();
    slot.put_in_turn(Record::Opened(format!("/dev/video{index}, {format}")));
    let mut first = true;
    loop {
        let bytes = camera.frame_raw()?;
        let record = match format.format() {
            FrameFormat::MJPEG => first_frame(&bytes, MAX_PAYLOAD)
                .map_or_else(|why| Record::Bad(why.to_string()), Record::Jpeg),
            _ => Record::Yuyv {
                width: format.width(),
                height: format.height(),
                bytes: bytes.into_owned(),
            },
        };
        // Not `put`: the first frame must not overtake the news of the opening.
        if std::mem::take(&mut first) {
            slot.put_in_turn(record);
        } else {
            slot.put(record);
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
}
