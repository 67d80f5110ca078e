//! Every form of JPEG and PNG that cameras and editors write comes out upright, in its colours,
//! whole or not at all. (tests/bad_input.rs has what is no picture.)

#[path = "support/tiny.rs"]
mod tiny;

use std::{collections::BTreeMap, fs, io::Cursor, path::Path, process::Command};

use captiond::frame::{DecodeError, Limits, decode};
use image::{DynamicImage, GrayAlphaImage, ImageFormat, Rgb, RgbImage};
use tiny::{Captiond, picture, whole_pack};

fn sample(name: &str) -> Vec<u8> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    fs::read(samples.join(name)).unwrap()
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn pixels(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    decode(bytes, Limits::default())
}

/// Why the bytes are refused; without pouring an accepted picture's pixels over the terminal.
fn refusal(bytes: &[u8]) -> DecodeError {
    match pixels(bytes) {
        Ok(picture) => panic!("accepted as {:?} pixels", picture.dimensions()),
        Err(error) => error,
    }
}

fn near(a: Rgb<u8>, b: [u8; 3], within: u8) -> bool {
    a.0.iter().zip(b).all(|(x, y)| x.abs_diff(y) <= within)
}

/// A JPEG with one more segment behind its start marker.
fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, marker]);
    bytes.extend((content.len() as u16 + 2).to_be_bytes());
    bytes.extend(content);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn the_three_forms_of_cmyk_have_the_colours_that_pillow_reads() {
    let colours: BTreeMap<String, [[u8; 3]; 4]> =
        serde_json::from_slice(&picture("colours.json")).unwrap();
    assert_eq!(colours.len(), 3);
    let mut wrong = Vec::new();
    for (name, expected) in colours {
        let rgb = pixels(&picture(&name)).unwrap();
        for ((x, y), expected) in [(8, 8), (24, 8), (8, 24), (24, 24)]
            .into_iter()
            .zip(expected)
        {
            let found = *rgb.get_pixel(x, y);
            if !near(found, expected, 6) {
                wrong.push(format!(
                    "{name} ({x}, {y}): found {found:?}, expected {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which side of the upright picture row 0 and column 0 of the file show, by the EXIF standard.
const SIDES: [(u8, &str, &str); 8] = [
    (1, "top", "left"),
    (2, "top", "right"),
    (3, "bottom", "right"),
    (4, "bottom", "left"),
    (5, "left", "top"),
    (6, "right", "top"),
    (7, "right", "bottom"),
    (8, "left", "bottom"),
];

/// The picture as a camera of this orientation stores it.
fn stored(upright: &RgbImage, row_0: &str, column_0: &str) -> RgbImage {
    let (width, height) = upright.dimensions();
    // A step along the file's rows goes away from the side that row 0 shows.
    let place = |side: &str, step: u32| match side {
        "top" | "left" => step,
        "bottom" => height - 1 - step,
        _ => width - 1 - step,
    };
    if matches!(row_0, "top" | "bottom") {
        RgbImage::from_fn(width, height, |x, y| {
            *upright.get_pixel(place(column_0, x), place(row_0, y))
        })
    } else {
        RgbImage::from_fn(height, width, |x, y| {
            *upright.get_pixel(place(row_0, y), place(column_0, x))
        })
    }
}

#[test]
fn all_eight_orientations_come_out_upright() {
    let quarters = [[[250, 0, 0], [0, 200, 0]], [[0, 0, 250], [240, 240, 240]]];
    let upright = RgbImage::from_fn(48, 32, |x, y| {
        Rgb(quarters[(y / 16) as usize][(x / 24) as usize])
    });
    for (orientation, row_0, column_0) in SIDES {
        let camera = DynamicImage::ImageRgb8(stored(&upright, row_0, column_0));
        // A TIFF of one entry: tag 0x0112, SHORT, one value; both byte orders are in use.
        let mut motorola = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        motorola.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut intel = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        intel.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        let jpeg = encode(&camera, ImageFormat::Jpeg);
        for exif in [motorola, intel] {
            let found = pixels(&with_segment(&jpeg, 0xe1, &exif)).unwrap();
            assert_eq!(found.dimensions(), (48, 32), "orientation {orientation}");
            for (x, y) in [(4, 4), (44, 4), (4, 28), (44, 28)] {
                let expected = upright.get_pixel(x, y).0;
                assert!(
                    near(*found.get_pixel(x, y), expected, 12),
                    "orientation {orientation} at ({x}, {y}): {:?}",
                    found.get_pixel(x, y)
                );
            }
        }
    }
}

#[test]
fn nonsense_in_exif_leaves_the_picture_as_it_is() {
    let plain = DynamicImage::ImageRgb8(RgbImage::from_pixel(20, 10, Rgb([200, 30, 90])));
    let jpeg = encode(&plain, ImageFormat::Jpeg);
    let entry = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    let with = |value: u8| [entry.as_slice(), &[value, 0, 0, 0, 0, 0, 0]].concat();
    for exif in [
        b"Exif\0\0".to_vec(),
        b"Exif\0\0MM\0*\xff\xff\xff\xff".to_vec(),
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff".to_vec(),
        with(0),
        with(9),
        with(255),
        entry[..20].to_vec(),
        vec![0x41; 3000],
    ] {
        let found = pixels(&with_segment(&jpeg, 0xe1, &exif)).unwrap();
        assert_eq!(found.dimensions(), (20, 10), "{exif:?}");
    }
}

#[test]
fn a_thumbnails_end_is_not_the_pictures_end() {
    let small = RgbImage::from_fn(16, 12, |x, y| Rgb([(x * 16) as u8, (y * 20) as u8, 40]));
    let thumbnail = encode(&DynamicImage::ImageRgb8(small), ImageFormat::Jpeg);
    let exif = [
        b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0".as_slice(),
        &thumbnail,
    ]
    .concat();
    let whole = with_segment(&sample("blurred_football.jpg"), 0xe1, &exif);
    assert!(
        whole.len() < 60_000,
        "else the thumbnail is not in the last bytes anyway"
    );
    pixels(&whole).unwrap();
    for keep in [
        exif.len() + 10,
        whole.len() / 2,
        whole.len() - 200,
        whole.len() - 2,
    ] {
        let error = refusal(&whole[..keep]);
        assert!(
            matches!(error, DecodeError::Damaged { .. }),
            "cut to {keep}: {error}"
        );
    }
    // Padding behind the end and fill bytes before a marker are no damage.
    pixels(&[whole.clone(), vec![0; 500]].concat()).unwrap();
    let filled = [&whole[..2], &[0xff; 5], &whole[2..]].concat();
    pixels(&filled).unwrap();
}

#[test]
fn every_sample_cut_short_is_refused() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut seen = 0;
    for entry in fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if !(name.ends_with(".jpg") || name.ends_with(".png")) {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        pixels(&whole).unwrap();
        for share in [0.001, 0.02, 0.3, 0.7, 0.95, 0.999] {
            let keep = 20.max((whole.len() as f64 * share) as usize);
            let error = refusal(&whole[..keep]);
            assert!(
                matches!(error, DecodeError::Damaged { .. }),
                "{name} cut to {keep}: {error}"
            );
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen} samples");
}

#[test]
fn progressive_jpeg_and_palette_png() {
    let bytes = sample("snowy_mountain_and_forest.jpg");
    assert!(
        bytes.windows(2).any(|pair| pair == [0xff, 0xc2]),
        "no longer progressive"
    );
    let mountain = pixels(&bytes).unwrap();
    // Sky above, forest below: the first scan alone would be grey.
    let mean = |rows: std::ops::Range<u32>| {
        let mut sum = [0u64; 3];
        for y in rows.clone() {
            for x in 0..mountain.width() {
                let pixel = mountain.get_pixel(x, y).0;
                sum.iter_mut()
                    .zip(pixel)
                    .for_each(|(s, v)| *s += u64::from(v));
            }
        }
        sum.map(|s| s / u64::from(mountain.width() * rows.len() as u32))
    };
    let (sky, ground) = (mean(0..10), mean(mountain.height() - 10..mountain.height()));
    assert!(sky[2] > sky[0] + 30, "{sky:?}");
    assert!(
        ground.iter().sum::<u64>() < sky.iter().sum::<u64>(),
        "{ground:?}"
    );

    let bytes = sample("sailing_boat_thumbnail.png");
    assert_eq!(bytes[25], 3, "no longer a palette PNG");
    let (small, large) = (
        pixels(&bytes).unwrap(),
        pixels(&sample("sailing_boat_on_the_sea.jpg")).unwrap(),
    );
    let (w, h) = small.dimensions();
    let large = image::imageops::resize(&large, w, h, image::imageops::FilterType::Triangle);
    let off: u64 = small
        .iter()
        .zip(large.iter())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    assert!(
        off / (u64::from(w * h) * 3) < 12,
        "the palette's colours are off by {off}"
    );
}

#[test]
fn grey_with_alpha_and_one_pixel() {
    let grey = GrayAlphaImage::from_pixel(5, 3, image::LumaA([90, 10]));
    let rgb = pixels(&encode(&DynamicImage::ImageLumaA8(grey), ImageFormat::Png)).unwrap();
    assert_eq!((rgb.dimensions(), rgb.get_pixel(4, 2).0), ((5, 3), [90; 3]));
    let one = DynamicImage::ImageRgb8(RgbImage::from_pixel(1, 1, Rgb([1, 2, 3])));
    assert_eq!(
        pixels(&encode(&one, ImageFormat::Png))
            .unwrap()
            .get_pixel(0, 0)
            .0,
        [1, 2, 3]
    );
}

/// A JPEG that says it is larger than it is.
fn claim(width: u16, height: u16) -> Vec<u8> {
    let grey = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 16, Rgb([128; 3])));
    let mut jpeg = encode(&grey, ImageFormat::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

#[test]
fn huge_jpeg_headers_are_refused_within_half_a_gigabyte() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let cases = [(65_500, 65_500), (16_000, 16_000), (65_500, 8), (0, 0)];
    let mut files = Vec::new();
    for (width, height) in cases {
        let file = work.path().join(format!("claims_{width}_{height}.jpg"));
        fs::write(&file, claim(width, height)).unwrap();
        files.push(file);
    }
    // 65,500 x 65,500 pixels are 12 GB; the good picture shows that the rest fits.
    files.push(work.path().join("red_0.png"));
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 524288; exec \"$0\" caption --json --pack \"$@\"",
        ])
        .arg(env!("CARGO_BIN_EXE_captiond"))
        .arg(pack.path())
        .args(&files)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for (width, height) in &cases[..3] {
        let line = errors
            .lines()
            .find(|line| line.contains(&format!("_{width}_{height}.jpg")));
        let words = format!("{width} x {height} pixels is over the limit");
        assert!(line.unwrap().contains(&words), "{errors}");
    }
    assert!(errors.contains("claims_0_0.jpg"), "{errors}");
    let found = String::from_utf8(output.stdout).unwrap();
    let found = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let captions: Vec<serde_json::Value> = found
        .filter(|line: &serde_json::Value| line["error"].is_null())
        .collect();
    assert_eq!(captions.len(), 1, "{captions:?}");
    let (file, caption) = (&captions[0]["file"], &captions[0]["caption"]);
    assert!(file.as_str().unwrap().ends_with("red_0.png"), "{file}");
    assert!(caption.as_str().unwrap().ends_with("red"), "{caption}");
}

#[test]
fn flipped_bits_never_panic() {
    let small = RgbImage::from_fn(24, 20, |x, y| Rgb([(x * 10) as u8, (y * 12) as u8, 99]));
    let small = DynamicImage::ImageRgb8(small);
    for bytes in [
        encode(&small, ImageFormat::Jpeg),
        encode(&small, ImageFormat::Png),
        picture("cmyk_ycck.jpg"),
    ] {
        let limits = Limits {
            side: 4000,
            pixels: 4_000_000,
            ..Limits::default()
        };
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode(&damaged, limits);
            }
        }
    }
}

#[test]
fn folders_and_other_formats_are_named() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let file = |name: &str, bytes: &[u8]| {
        fs::write(work.path().join(name), bytes).unwrap();
        work.path().join(name)
    };
    let files = [
        work.path().to_owned(),
        file("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
        file("moving.webp", b"RIFF\x24\0\0\0WEBPVP8 "),
        file("old.bmp", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0"),
        file("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0"),
        file("one byte.jpg", b"\xff"),
        file("start only.jpg", b"\xff\xd8\xff"),
    ];
    let output = Captiond::new(&["caption"])
        .path("--pack", pack.path())
        .args(&files)
        .output();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty());
    assert_eq!(errors.lines().count(), files.len(), "{errors}");
    for (line, path) in errors.lines().zip(&files) {
        assert!(line.contains(&path.display().to_string()), "{line}");
    }
    assert!(
        errors.lines().next().unwrap().contains("directory"),
        "{errors}"
    );
    assert_eq!(errors.matches("not a JPEG or PNG").count(), 5, "{errors}");
}
