//! ONNX files that bad exports leave (tests/tiny_packs/make_malformed.py): each is refused with the file, what
//! is wrong with it and the way out, and nothing outside of the pack is ever read.

#[path = "support/tiny.rs"]
mod tiny;

use std::fs;

use captiond::{engine::tract::TractEngine, pack::Pack};
use tiny::{copy, folder, put};

/// What loading says of the clip pack with this image tower.
fn load(name: &str) -> Result<(), String> {
    let pack = copy(&folder("clip"));
    let bytes = fs::read(folder("malformed").join(format!("{name}.onnx"))).unwrap();
    put(pack.path(), "image.onnx", &bytes);
    let opened = Pack::open(pack.path()).unwrap();
    match opened.image_tower(&TractEngine) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = error.to_string();
            let path = pack.path().display().to_string();
            assert!(message.contains(&path), "does not name the pack: {message}");
            assert!(message.contains("image.onnx"), "{message}");
            Err(message)
        }
    }
}

#[test]
fn a_whole_graph_is_taken_and_so_is_one_that_leaves_its_shape_open() {
    load("whole").unwrap();
    load("input_open").unwrap();
}

#[test]
fn weights_in_another_file_are_refused_and_never_read() {
    for (name, location) in [
        ("external", "weights.bin"),
        ("external_escape", "../../../etc/passwd"),
        ("external_absolute", "/etc/passwd"),
        ("external_in_branch", "/dev/zero"),
    ] {
        let message = load(name).unwrap_err();
        for part in ["weight", location, "never read", "onnx.save"] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

#[test]
fn operator_sets_of_another_age_are_refused() {
    for (name, found) in [("opset_8", "8"), ("opset_99", "99"), ("opset_none", "none")] {
        let message = load(name).unwrap_err();
        let expected = format!("found {found}, expected 9 to 18");
        assert!(message.contains(&expected), "{message}");
        assert!(message.contains("opset_version"), "{message}");
    }
}

#[test]
fn outputs_and_inputs_that_are_not_what_the_pack_says_are_named() {
    for (name, parts) in [
        (
            "output_renamed",
            ["no output \"projected\"", "it has embedding"],
        ),
        ("output_unmade", ["no node makes its output", "projected"]),
        ("output_of_any_length", ["output \"projected\"", "any"]),
        ("input_fixed_otherwise", ["input \"pixels\"", "24"]),
        ("input_of_bytes", ["input \"pixels\"", "F32"]),
    ] {
        let message = load(name).unwrap_err();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

#[test]
fn a_file_over_two_gibibytes_is_refused_before_it_is_read() {
    let pack = copy(&folder("clip"));
    let file = fs::File::options()
        .write(true)
        .open(pack.path().join("image.onnx"))
        .unwrap();
    // No such space is taken: the file is a hole.
    file.set_len(1 << 31).unwrap();
    // Its hash would be wrong; here the file itself is asked.
    let opened = Pack::read_manifest(pack.path()).unwrap();
    let error = opened.image_tower(&TractEngine).map(|_| ()).unwrap_err();
    let message = error.to_string();
    for part in [
        "image.onnx",
        "size: found 2147483648 bytes",
        "at most 2147483647",
        "int8",
    ] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
