//! The tiny packs of tests/tiny_packs, and pictures with captions that can be learnt.
#![allow(dead_code)] // Each test program uses its own part.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use captiond::pack::digest;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A folder of tests/tiny_packs.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tiny_packs")
        .join(name)
}

/// A file of tests/tiny_packs/pictures.
pub fn picture(name: &str) -> Vec<u8> {
    fs::read(folder("pictures").join(name)).unwrap()
}

/// A copy of a folder that a test may change.
pub fn copy(of: &Path) -> TempDir {
    let copied = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copied.path().join(path.file_name().unwrap())).unwrap();
    }
    copied
}

/// Replaces a part of pack.toml.
pub fn edit(pack: &Path, from: &str, to: &str) {
    let path = pack.join("pack.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in pack.toml");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Writes a file with a hash that fits, so that only its content can be refused.
pub fn put(pack: &Path, file: &str, bytes: &[u8]) {
    let old = digest::of_file(&pack.join(file)).unwrap();
    fs::write(pack.join(file), bytes).unwrap();
    edit(pack, &old, &digest::of_bytes(bytes));
}

/// The real program, behind the emulator where the tests themselves run under one (cross/test).
pub fn program() -> Command {
    let program = env!("CARGO_BIN_EXE_captiond");
    let Ok(runner) = std::env::var("CAPTIOND_TEST_RUNNER") else {
        return Command::new(program);
    };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(program);
    command
}

/// The real program.
pub struct Captiond(Command);

impl Captiond {
    /// With these words on its command line.
    pub fn new(words: &[&str]) -> Self {
        let mut command = program();
        command.args(words).env_remove("CAPTIOND_PACK");
        Self(command)
    }

    /// With an option that names a path.
    pub fn path(mut self, option: &str, path: impl AsRef<Path>) -> Self {
        self.0.arg(option).arg(path.as_ref());
        self
    }

    /// With one more word.
    pub fn arg(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(word);
        self
    }

    /// With more words.
    pub fn args(mut self, words: &[impl AsRef<std::ffi::OsStr>]) -> Self {
        self.0.args(words);
        self
    }

    /// With an environment variable.
    pub fn variable(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.0.env(name, value.as_ref());
        self
    }

    /// Without environment variables.
    pub fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            self.0.env_remove(name);
        }
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> std::process::Child {
        self.0.spawn().unwrap()
    }

    /// Runs to the end.
    pub fn output(mut self) -> Output {
        self.0.output().unwrap()
    }

    /// Standard output of a run that has to succeed.
    pub fn succeed(self) -> String {
        let output = self.output();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a run that has to fail without a panic.
    pub fn fail(self) -> String {
        let output = self.output();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        errors
    }
}

/// Colours whose pictures and captions go together.
pub const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [200, 20, 20]),
    ("green", [20, 180, 30]),
    ("blue", [20, 40, 210]),
    ("yellow", [220, 210, 30]),
    ("white", [240, 240, 240]),
    ("black", [15, 15, 15]),
];

/// A picture of one colour, a little lighter or darker with `shade`, with a faint pattern.
pub fn colour_field(colour: [u8; 3], shade: u8) -> RgbImage {
    RgbImage::from_fn(40, 30, |x, y| {
        let pattern = ((x * (3 + u32::from(shade)) + y * 5) % 8) as u8;
        Rgb(colour.map(|value| value.saturating_add(shade * 2).saturating_add(pattern)))
    })
}

/// Image names with two captions each, and the pictures in a folder.
pub fn draw_colours(folder: &Path, shades: u8) -> Vec<(String, [String; 2])> {
    let mut pairs = Vec::new();
    for shade in 0..shades {
        for (name, colour) in COLOURS {
            let file = format!("{name}_{shade}.png");
            colour_field(colour, shade)
                .save(folder.join(&file))
                .unwrap();
            let ground = ["field", "square", "picture", "stripe"][usize::from(shade) % 4];
            let captions = [
                format!("a {name} {ground}"),
                format!("the {ground} is {name}"),
            ];
            pairs.push((file, captions));
        }
    }
    pairs
}

/// Votes on captions of the right and of wrong colours, of twelve shades.
pub fn colour_votes() -> String {
    let mut votes = String::new();
    for shade in 0..12usize {
        for (at, (name, _)) in COLOURS.iter().enumerate() {
            let wrong = COLOURS[(at + 1 + shade % 5) % COLOURS.len()].0;
            // People err: one in six is against the right caption.
            let right = if (shade + at) % 6 == 0 { "0.33" } else { "1" };
            votes += &format!("{name}_{shade}.png\ta {name} field\t{right}\n");
            votes += &format!("{name}_{shade}.png\tthe square is {wrong}\tno\n");
        }
    }
    votes
}

/// The pairs as TSV.
pub fn tsv(pairs: &[(String, [String; 2])]) -> String {
    pairs
        .iter()
        .flat_map(|(file, captions)| captions.iter().map(move |c| format!("{file}\t{c}\n")))
        .collect()
}

/// The convnet pack with a datastore and a realignment, made by the program itself. `work` gets
/// the pictures, `pairs.tsv`, `captions.txt` and the cache.
pub fn whole_pack(work: &Path) -> TempDir {
    let pack = pack_with_datastore(work);
    Captiond::new(&["fit", "--held-out", "0.3", "--map", "ridge"])
        .path("--pack", pack.path())
        .path("--cache", work.join("cache"))
        .path("--pairs", work.join("pairs.tsv"))
        .succeed();
    pack
}

/// As [`whole_pack`], before the fit.
pub fn pack_with_datastore(work: &Path) -> TempDir {
    let pack = copy(&folder("convnet"));
    // Of 48 captions, the 50 nearest would be all.
    edit(
        pack.path(),
        "[text_tower]",
        "[caption]\ncandidates = 5\n\n[text_tower]",
    );
    let pairs = draw_colours(work, 12);
    fs::write(work.join("pairs.tsv"), tsv(&pairs)).unwrap();
    let captions: Vec<&str> = pairs
        .iter()
        .flat_map(|(_, captions)| captions.iter().map(String::as_str))
        .collect();
    // Repeated, empty and padded lines are no captions of their own.
    fs::write(
        work.join("captions.txt"),
        format!("\n  {}\n\n", captions.join("\n")),
    )
    .unwrap();
    Captiond::new(&["datastore", "build"])
        .path("--pack", pack.path())
        .path("--cache", work.join("cache"))
        .arg(work.join("captions.txt"))
        .succeed();
    pack
}
