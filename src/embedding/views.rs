//! Which views of a frame the image tower is shown, and where they lie.

use std::borrow::Cow;

use image::{RgbImage, imageops};

use crate::pack::Views;

/// One view of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The frame itself.
    Frame,
    /// The input that the frame becomes, read from right to left.
    Mirror,
    /// A crop that touches one of the corners.
    Corner { right: bool, bottom: bool },
}

/// The views of a frame; the frame itself is the first.
pub(super) fn of(views: Views) -> &'static [View] {
    match views {
        Views::One => &[View::Frame],
        Views::Mirrored => &[View::Frame, View::Mirror],
        Views::Crops => &[
            View::Frame,
            View::Corner {
                right: false,
                bottom: false,
            },
            View::Corner {
                right: true,
                bottom: false,
            },
            View::Corner {
                right: false,
                bottom: true,
            },
            View::Corner {
                right: true,
                bottom: true,
            },
        ],
    }
}

impl View {
    /// The part of a frame that is brought to the input size.
    pub(super) fn part(self, frame: &RgbImage) -> Cow<'_, RgbImage> {
        let Self::Corner { right, bottom } = self else {
            return Cow::Borrowed(frame);
        };
        let (width, height) = frame.dimensions();
        let (w, h) = (three_quarters(width), three_quarters(height));
        let x = if right { width - w } else { 0 };
        let y = if bottom { height - h } else { 0 };
        Cow::Owned(imageops::crop_imm(frame, x, y, w, h).to_image())
    }
}

/// Three quarters of a side, rounded up: a part has at least one pixel.
fn three_quarters(side: u32) -> u32 {
    side - side / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_three_quarters_and_touch_the_edges() {
        // Every pixel says where it is.
        let frame = RgbImage::from_fn(10, 7, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let ends = |view: View| {
            let part = view.part(&frame);
            let last = part.get_pixel(part.width() - 1, part.height() - 1).0;
            (part.get_pixel(0, 0).0, last)
        };
        let found: Vec<_> = of(Views::Crops).iter().map(|view| ends(*view)).collect();
        assert_eq!(
            found,
            [
                ([0, 0, 0], [9, 6, 0]),
                ([0, 0, 0], [7, 5, 0]),
                ([2, 0, 0], [9, 5, 0]),
                ([0, 1, 0], [7, 6, 0]),
                ([2, 1, 0], [9, 6, 0]),
            ]
        );
        for side in [1, 2, 3] {
            let small = RgbImage::new(side, 1);
            for view in of(Views::Crops) {
                assert_eq!(view.part(&small).dimensions(), (side, 1));
            }
        }
    }

    #[test]
    fn the_frame_itself_is_always_first() {
        for views in [Views::One, Views::Mirrored, Views::Crops] {
            assert_eq!(of(views)[0], View::Frame);
        }
    }
}
