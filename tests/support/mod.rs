//! What the daemon's tests share: pictures, a model that costs nothing, and waiting for conditions.
#![allow(dead_code)] // Each test program uses its own part.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use captiond::caption::wording::Verdict;
use captiond::captioner::{Describe, Description, Neighbour};
use captiond::source::{Frame, Pixels};

pub mod broker;
pub mod camera;
pub mod certificates;
pub mod http;
pub mod process;
pub mod relay;
pub mod site;

/// So long a condition may take on a busy machine; met conditions return at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` gives something.
pub fn until<T>(what: impl Debug, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A JPEG whose width tells the pictures apart: the fake model's caption names it.
pub fn jpeg(width: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, 24, |x, y| {
        image::Rgb([(x * 3) as u8, (y * 9) as u8, 90])
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode_image(&picture)
        .unwrap();
    bytes
}

/// Puts an image into a watched folder the way a careful writer does.
pub fn drop_in(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (hidden, path) = (folder.join(format!(".{name}")), folder.join(name));
    std::fs::write(&hidden, bytes).unwrap();
    std::fs::rename(&hidden, &path).unwrap();
    path
}

/// A daemon that watches `<folder>/in`.
pub fn folder_config(folder: &Path, port: u16, more_mqtt: &str) -> String {
    let _ = std::fs::create_dir(folder.join("in"));
    format!(
        "[device]\nid = \"porch\"\n\
         [source]\nkind = \"folder\"\npath = \"in\"\nexisting = \"caption\"\npoll = \"20ms\"\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n{more_mqtt}\n"
    )
}

/// Stands for the model: decodes the frame and says how wide it is.
pub struct FakeModel {
    /// How long a caption takes.
    pub takes: Duration,
}

impl Describe for FakeModel {
    fn describe(&mut self, frame: &Frame) -> anyhow::Result<Description> {
        tracing::info!(origin = frame.origin, "the model has a frame");
        let width = match &frame.pixels {
            Pixels::Encoded(bytes) => image::load_from_memory(bytes)
                .map_err(|error| anyhow::anyhow!("{}: {error}", frame.origin))?
                .width(),
            Pixels::Rgb(picture) => picture.width(),
        };
        std::thread::sleep(self.takes);
        Ok(Description {
            caption: format!("a picture {width} wide"),
            confidence: 0.75,
            verdict: Verdict::Hedged,
            spoken: format!("perhaps a picture {width} wide"),
            neighbours: vec![Neighbour {
                caption: "a picture".into(),
                score: 0.5,
            }],
            ..Description::default()
        })
    }

    fn pack(&self) -> &str {
        "fake 1.0.0"
    }
}

/// Whether the long form was asked for (`make faults-long`).
pub fn long() -> bool {
    std::env::var_os("CAPTIOND_FAULTS").is_some_and(|value| value == "long")
}

/// The fault suite's line for a fault that was survived; `make faults` shows these.
pub fn passed(part: &str, fault: &str, took: Duration) {
    println!("PASS | {part} | {fault} | {:.1} s", took.as_secs_f64());
}
