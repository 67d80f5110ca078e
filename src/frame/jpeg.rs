//! What is needed of a JPEG's segments (ITU-T T.81, annex B) without decoding it.

use image::metadata::Orientation;

/// Where the segments before the first scan end; `None` when the bytes end within them.
pub(super) fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)?) {
            (0xff, 0xff) => at += 1,
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, marker) if !matches!(marker, 0x00 | 0xd9 | 0xda) => {
                let length = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]);
                at += 2 + usize::from(length);
            }
            // The scan, or nothing that a segment starts with: the decoder will say what.
            _ => return Some(at),
        }
    }
}

/// Bytes of the coefficients that a decoder of a progressive JPEG holds until the last scan: 16 bits for each
/// sample of each component. 0 for any other JPEG, which is decoded row by row.
pub fn coefficients(bytes: &[u8], pixels: u64) -> u64 {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc2 => return samples(bytes.get(at + 4..).unwrap_or_default(), pixels) * 2,
            0x00 | 0xc0 | 0xc1 | 0xd9 | 0xda => return 0,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    0
}

/// Samples of all components of a frame: behind its header's length stand precision (1 byte), height and width
/// (2 each), the number of components (1), and for each its id, sampling factors (4 bits each) and table.
fn samples(frame: &[u8], pixels: u64) -> u64 {
    let factors = |component: &[u8]| {
        let both = component.get(1).copied().unwrap_or_default();
        (u64::from(both >> 4), u64::from(both & 15))
    };
    let count = usize::from(frame.get(5).copied().unwrap_or_default());
    let components = frame
        .get(6..)
        .unwrap_or_default()
        .chunks_exact(3)
        .take(count);
    let (across, down) = components
        .clone()
        .map(factors)
        .fold((1, 1), |(a, d), (h, v)| (a.max(h), d.max(v)));
    components
        .map(factors)
        .map(|(h, v)| pixels.saturating_mul(h * v).div_ceil(across * down))
        .fold(0, u64::saturating_add)
}

/// The picture without what cameras and phones write beside it: EXIF (place, serial number, thumbnail), XMP,
/// IPTC, comments, colour profiles, and whatever follows its end. What is needed to show it stays: tables,
/// scans, the JFIF head, Adobe's note on the colours, and the orientation, in an EXIF block of ours.
///
/// `None` for what isn't one whole JPEG.
pub fn without_metadata(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(bytes.len());
    kept.extend_from_slice(bytes.strip_prefix(&[0xff, 0xd8]).map(|_| &bytes[..2])?);
    let mut at = 2;
    let mut orientation = None;
    loop {
        let &[0xff, marker] = bytes.get(at..at + 2)? else {
            return None;
        };
        match marker {
            // Filling bytes; markers that stand alone.
            0xff => {
                at += 1;
                continue;
            }
            0x01 | 0xd0..=0xd7 => {
                at += 2;
                continue;
            }
            0xd9 => {
                kept.extend_from_slice(&[0xff, 0xd9]);
                break;
            }
            0x00 | 0xd8 => return None,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes([
            *bytes.get(at + 2)?,
            *bytes.get(at + 3)?,
        ]));
        let content = bytes.get(at + 4..at + 2 + length)?;
        match marker {
            // Without the thumbnail that may follow these 14 bytes.
            0xe0 if content.starts_with(b"JFIF\0") && content.len() >= 14 => {
                kept.extend_from_slice(&[0xff, 0xe0, 0, 16]);
                kept.extend_from_slice(&content[..12]);
                kept.extend_from_slice(&[0, 0]);
            }
            0xe1 => {
                let exif = content.strip_prefix(b"Exif\0\0".as_slice());
                orientation = orientation.or(exif.and_then(Orientation::from_exif_chunk));
            }
            0xee if content.starts_with(b"Adobe") => {
                kept.extend_from_slice(&bytes[at..at + 2 + length]);
            }
            0xe0..=0xef | 0xfe => {}
            _ => kept.extend_from_slice(&bytes[at..at + 2 + length]),
        }
        at += 2 + length;
        if marker == 0xda {
            let end = scan_end(bytes, at)?;
            kept.extend_from_slice(&bytes[at..end]);
            at = end;
        }
    }
    if let Some(turned) = orientation.filter(|&turned| turned != Orientation::NoTransforms) {
        kept.splice(2..2, exif_of(turned));
    }
    Some(kept)
}

/// Where the entropy-coded data from `at` on ends: at a marker that is neither a stuffed zero nor a restart.
fn scan_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)?) {
            (0xff, 0x00 | 0xd0..=0xd7) => at += 2,
            (0xff, 0xff) => at += 1,
            (0xff, _) => return Some(at),
            _ => at += 1,
        }
    }
}

/// An EXIF segment that says the orientation and nothing else (Exif 2.32: a TIFF head and one directory with
/// one entry, tag 0x0112 of type SHORT).
fn exif_of(orientation: Orientation) -> Vec<u8> {
    let mut segment = vec![0xff, 0xe1, 0, 34];
    segment.extend_from_slice(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0");
    segment.extend_from_slice(&[orientation.to_exif(), 0, 0, 0, 0, 0, 0, 0]);
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        let picture =
            image::RgbImage::from_fn(48, 32, |x, y| image::Rgb([x as u8 * 5, y as u8, 9]));
        picture
            .write_with_encoder(JpegEncoder::new(&mut bytes))
            .unwrap();
        bytes
    }

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    }

    /// `bytes` with segments behind its start.
    fn with(segments: &[Vec<u8>], bytes: &[u8]) -> Vec<u8> {
        [&bytes[..2], &segments.concat(), &bytes[2..]].concat()
    }

    /// EXIF with an orientation, a serial number and a place.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut content = exif_of(Orientation::from_exif(orientation).unwrap())[4..].to_vec();
        content.extend_from_slice(b"serial 4711, 52.5 N 13.4 E");
        segment(0xe1, &content)
    }

    #[test]
    fn nothing_but_the_picture_is_left() {
        let plain = encoded();
        let said = [
            exif(1),
            segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>serial"),
            segment(0xe2, b"MPF\0serial"),
            segment(0xed, b"Photoshop 3.0\0serial"),
            segment(0xe0, b"JFXX\0\x10serial"),
            segment(0xfe, b"serial"),
        ];
        let mut spoken = with(&said, &plain);
        spoken.extend_from_slice(b"serial behind the end");
        let kept = without_metadata(&spoken).unwrap();
        assert!(!kept.windows(6).any(|part| part == b"serial"));
        assert_eq!(kept, without_metadata(&plain).unwrap());
        let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgb8();
        assert_eq!(pixels(&kept), pixels(&plain));
    }

    #[test]
    fn the_picture_stays_upright() {
        use image::ImageDecoder as _;
        let plain = encoded();
        for turned in 1..=8 {
            let kept = without_metadata(&with(&[exif(turned)], &plain)).unwrap();
            assert!(!kept.windows(6).any(|part| part == b"serial"));
            let reader = image::ImageReader::with_format(
                std::io::Cursor::new(&kept),
                image::ImageFormat::Jpeg,
            );
            let found = reader.into_decoder().unwrap().orientation().unwrap();
            assert_eq!(found.to_exif(), turned);
            assert_eq!(kept.len() > plain.len(), turned > 1);
        }
    }

    #[test]
    fn what_shows_the_colours_stays() {
        let adobe = segment(0xee, b"Adobe\0\x64\0\0\0\0\x01");
        let kept = without_metadata(&with(std::slice::from_ref(&adobe), &encoded())).unwrap();
        assert!(kept.windows(adobe.len()).any(|part| part == adobe));
        let jfif = segment(0xe0, b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01serial");
        let kept = without_metadata(&with(&[jfif], &encoded()[..])).unwrap();
        assert!(!kept.windows(6).any(|part| part == b"serial"));
        assert!(image::load_from_memory(&kept).is_ok());
    }

    #[test]
    fn what_is_no_whole_jpeg_is_none() {
        let bytes = encoded();
        for length in 0..bytes.len() {
            assert_eq!(without_metadata(&bytes[..length]), None, "{length}");
        }
        assert_eq!(without_metadata(b"\x89PNG"), None);
        assert_eq!(without_metadata(b"\xff\xd8\xff\xe1\x00\x00\xff\xd9"), None);
    }

    #[test]
    fn coefficients_count_for_progressive_files_only() {
        assert_eq!(coefficients(&encoded(), 1000), 0);
        // 4:2:0: half as many samples of colour as of brightness.
        let frame = segment(
            0xc2,
            &[8, 0, 40, 0, 25, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1],
        );
        let jpeg = [&[0xff, 0xd8], &frame[..], &[0xff, 0xda]].concat();
        assert_eq!(coefficients(&jpeg, 1000), 3000);
        assert_eq!(coefficients(&jpeg[..9], 1000), 0);
        assert_eq!(coefficients(&[], 1000), 0);
    }
}
