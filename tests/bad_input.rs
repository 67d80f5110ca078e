//! Bad and unusual pictures through the real program with the default pack.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use captiond::frame::{DecodeError, Limits, decode};
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

fn captiond(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_captiond"))
        .args(arguments)
        .output()
        .unwrap()
}

fn encode(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG that is all header: signature, IHDR with its checksum, nothing else.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(13u32.to_be_bytes());
    bytes.extend(&chunk);
    bytes.extend((!crc).to_be_bytes());
    bytes
}

#[test]
fn each_bad_file_is_named_and_the_good_one_is_still_captioned() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(samples().join("beach_at_sunset.jpg")).unwrap();
    let bad: [(&str, Vec<u8>, &str); 6] = [
        (
            "words.jpg",
            b"these are words, not a picture".to_vec(),
            "not a JPEG or PNG",
        ),
        ("empty.jpg", Vec::new(), "empty (0 bytes)"),
        (
            "half.jpg",
            whole[..whole.len() / 2].to_vec(),
            "cut off JPEG",
        ),
        ("start.jpg", whole[..20].to_vec(), "cut off JPEG"),
        (
            "bomb.png",
            png_header(30_000, 30_000),
            "30000 x 30000 pixels is over the limit",
        ),
        (
            "animation.gif",
            b"GIF89a\x01\x00\x01\x00\x00\x00\x00;".to_vec(),
            "not a JPEG or PNG",
        ),
    ];
    let mut arguments = vec!["caption".to_owned(), "--json".to_owned()];
    for (name, bytes, _) in &bad {
        fs::write(folder.path().join(name), bytes).unwrap();
        arguments.push(folder.path().join(name).display().to_string());
    }
    arguments.push(folder.path().join("absent.jpg").display().to_string());
    arguments.push(samples().join("beach_at_sunset.jpg").display().to_string());
    let output = captiond(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    for (name, _, reason) in &bad {
        let line = errors
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("{name}: {errors}"));
        assert!(line.contains(reason), "{line}");
    }
    assert!(errors.contains("absent.jpg"));
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), bad.len() + 2);
    assert!(
        lines[..bad.len() + 1]
            .iter()
            .all(|line| line["error"].is_string() && line["file"].is_string())
    );
    let good = &lines[bad.len() + 1];
    assert!(good["caption"].as_str().unwrap().split(' ').count() >= 3);
    let confidence = good["confidence"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&confidence));
    let neighbours = good["neighbours"].as_array().unwrap();
    assert_eq!(neighbours.len(), 13);
    assert!(
        neighbours
            .iter()
            .all(|n| n["caption"].is_string() && n["score"].is_number())
    );
    for stage in [
        "decode",
        "preprocess",
        "embed",
        "realign",
        "retrieve",
        "caption",
        "total",
    ] {
        assert!(good["ms"][stage].as_f64().unwrap() >= 0.0, "{stage}");
    }
}

#[test]
fn a_huge_header_is_refused_before_anything_is_allocated() {
    // With 1 GiB of address space for everything, 2.7 GB of pixels would end the program.
    let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    fs::write(file.path(), png_header(30_000, 30_000)).unwrap();
    let command = format!(
        "ulimit -v 1048576; exec '{}' caption '{}'",
        env!("CARGO_BIN_EXE_captiond"),
        file.path().display()
    );
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("over the limit"));
    let error = decode(&png_header(30_000, 30_000), Limits::default()).unwrap_err();
    assert!(matches!(
        error,
        DecodeError::TooLarge {
            width: 30_000,
            height: 30_000,
            ..
        }
    ));
}

#[test]
fn what_decoding_takes_is_known_and_bounded_before() {
    // 8,000 pixels each; bytes at the most expensive moment.
    let rgb = DynamicImage::ImageRgb8(RgbImage::from_pixel(100, 80, Rgb([9, 90, 200])));
    let jpeg = encode(rgb.clone(), ImageFormat::Jpeg);
    // EXIF that says: a quarter turn.
    let exif =
        b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let turned = [&jpeg[..2], exif, &jpeg[2..]].concat();
    assert_eq!(
        decode(&turned, Limits::default()).unwrap().dimensions(),
        (80, 100)
    );
    let png = |picture: DynamicImage| encode(picture, ImageFormat::Png);
    for (name, bytes, takes) in [
        ("JPEG", jpeg, 24_000),
        ("turned JPEG", turned, 48_000),
        ("RGB", png(rgb.clone()), 24_000),
        ("grey", png(rgb.to_luma8().into()), 32_000),
        ("RGB with alpha", png(rgb.to_rgba8().into()), 56_000),
        (
            "RGB with alpha, 16 bits",
            png(rgb.to_rgba16().into()),
            88_000,
        ),
    ] {
        let within = |bytes: u64| Limits {
            bytes,
            ..Limits::default()
        };
        assert!(decode(&bytes, within(takes)).is_ok(), "{name}");
        let error = decode(&bytes, within(takes - 1)).unwrap_err();
        assert!(
            matches!(error, DecodeError::TooCostly { .. }),
            "{name}: {error}"
        );
        assert!(
            error.to_string().contains("source.max_decode_bytes"),
            "{error}"
        );
    }
}

#[test]
fn truncation_is_noticed_at_every_length() {
    let whole = fs::read(samples().join("sailing_boat_thumbnail.png")).unwrap();
    let jpeg = encode(
        DynamicImage::ImageRgb8(RgbImage::from_pixel(40, 30, Rgb([9, 90, 200]))),
        ImageFormat::Jpeg,
    );
    for bytes in [whole, jpeg] {
        assert!(decode(&bytes, Limits::default()).is_ok());
        for cut in (0..bytes.len() - 16).step_by(1 + bytes.len() / 97) {
            assert!(
                decode(&bytes[..cut], Limits::default()).is_err(),
                "cut at {cut} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn grey_deep_and_transparent_pictures_come_out_as_rgb() {
    let grey = ImageBuffer::from_pixel(8, 6, Luma([77u8]));
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        let rgb = decode(
            &encode(DynamicImage::ImageLuma8(grey.clone()), format),
            Limits::default(),
        )
        .unwrap();
        assert_eq!(
            (rgb.dimensions(), rgb.get_pixel(3, 3).0),
            ((8, 6), [77; 3]),
            "{format:?}"
        );
    }
    let deep = ImageBuffer::from_pixel(8, 6, Rgb([0xffffu16, 0x8080, 0]));
    let rgb = decode(
        &encode(DynamicImage::ImageRgb16(deep), ImageFormat::Png),
        Limits::default(),
    )
    .unwrap();
    assert_eq!(rgb.get_pixel(0, 0).0, [255, 128, 0]);
    let deep = ImageBuffer::from_pixel(8, 6, Luma([0x4040u16]));
    let rgb = decode(
        &encode(DynamicImage::ImageLuma16(deep), ImageFormat::Png),
        Limits::default(),
    )
    .unwrap();
    assert_eq!(rgb.get_pixel(0, 0).0, [64; 3]);
    let clear = ImageBuffer::from_pixel(8, 6, image::Rgba([10u8, 20, 30, 128]));
    let rgb = decode(
        &encode(DynamicImage::ImageRgba8(clear), ImageFormat::Png),
        Limits::default(),
    )
    .unwrap();
    assert_eq!(rgb.get_pixel(0, 0).0, [10, 20, 30]);
}

#[test]
fn cmyk_has_the_right_colours() {
    // tests/samples/cmyk_patches.jpg: red, green over blue, white; what Pillow reads of it.
    let rgb = decode(
        &fs::read(samples().join("cmyk_patches.jpg")).unwrap(),
        Limits::default(),
    )
    .unwrap();
    for ((x, y), expected) in [
        ((16, 16), [220, 30, 30]),
        ((48, 16), [30, 200, 40]),
        ((16, 48), [20, 40, 220]),
        ((48, 48), [250; 3]),
    ] {
        let found = rgb.get_pixel(x, y).0;
        assert!(
            found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 12),
            "({x}, {y}): {found:?}"
        );
    }
}

#[test]
fn exif_orientation_is_respected() {
    // Left half red, right half blue, 40 x 20.
    let picture = RgbImage::from_fn(40, 20, |x, _| {
        if x < 20 {
            Rgb([250, 0, 0])
        } else {
            Rgb([0, 0, 250])
        }
    });
    let jpeg = encode(DynamicImage::ImageRgb8(picture), ImageFormat::Jpeg);
    let is_red = |p: &Rgb<u8>| p[0] > 150;
    for (orientation, size, red_at) in [
        (1u8, (40, 20), (2, 10)),
        (3, (40, 20), (38, 10)),
        (6, (20, 40), (10, 2)),
        (8, (20, 40), (10, 38)),
    ] {
        // APP1 with a TIFF of one entry: tag 0x0112, SHORT, one value.
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut bytes = jpeg[..2].to_vec();
        bytes.extend([0xff, 0xe1]);
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.extend(exif);
        bytes.extend(&jpeg[2..]);
        let upright = decode(&bytes, Limits::default()).unwrap();
        assert_eq!(upright.dimensions(), size, "orientation {orientation}");
        assert!(
            is_red(upright.get_pixel(red_at.0, red_at.1)),
            "orientation {orientation}"
        );
    }
}
