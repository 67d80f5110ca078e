//! Memory of the default pack by part, as a markdown table: what each part holds once it is loaded, what
//! loading it takes at most, and what ten frames add.
//!
//! `cargo bench --all-features --bench memory` (or with `--profile dev`). Linux only: it reads /proc/self/status.
//! "Own" is memory that only this process has (RssAnon), "file" what it maps of files (RssFile: the program
//! itself, the datastore), which the system can drop and read again.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use captiond::{
    captioner::{Captioner, Describe as _},
    datastore::CentredRows,
    engine::tract::TractEngine,
    pack::Pack,
    source::{Frame, Pixels},
};

/// Frames of the growth test.
const FRAMES: usize = 60;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    println!("| part | own, MB | file, MB | most while loading, MB |\n|---|---|---|---|");
    let mut table = Table::begin()?;
    let pack = table.part("pack.toml and SHA-256 of all files", || {
        Ok(Pack::open(&root.join("models/default"))?)
    })?;
    let tower = table.part("image tower", || Ok(pack.image_tower(&TractEngine)?))?;
    let realignment = table.part("realignment", || Ok(pack.realignment()?))?;
    let rows = table.part("datastore", || {
        Ok(CentredRows::new(pack.datastore()?, realignment.mean_text()))
    })?;
    let judge = table.part("judge", || Ok(pack.judge()?))?;
    let decoder = table.part("decoder with its tokenizer", || {
        Ok(pack.decoder(&TractEngine)?)
    })?;
    let text = table.part("text tower with its tokenizer", || {
        Ok(pack.text_tower(&TractEngine)?)
    })?;
    table.part("all of that dropped again", || {
        drop((tower, realignment, rows, judge, decoder, text));
        Ok(())
    })?;

    let mut captioner = table.part("the chain, loaded as `run` does", || {
        Ok(Captioner::load(&pack, &TractEngine)?)
    })?;
    let samples = fs::read_dir(root.join("tests/samples"))?;
    let mut pictures: Vec<_> = samples
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jpg"))
        .collect();
    pictures.sort();
    let mut caption = |frame: usize| -> Result<()> {
        let path = &pictures[frame % pictures.len()];
        captioner.describe(&Frame {
            pixels: Pixels::Encoded(fs::read(path)?),
            origin: path.display().to_string(),
            taken: Default::default(),
        })?;
        Ok(())
    };
    table.part("the first captions", || {
        (0..pictures.len()).try_for_each(&mut caption)
    })?;
    let name = format!("{FRAMES} more");
    table.part(&name, || (0..FRAMES).try_for_each(&mut caption))?;
    println!("\npeak, MB: {:.1}", status("VmHWM")?);
    Ok(())
}

struct Table {
    own: f64,
    file: f64,
}

impl Table {
    fn begin() -> Result<Self> {
        let (own, file) = (status("RssAnon")?, status("RssFile")?);
        println!("| the program | {own:.1} | {file:.1} | |");
        Ok(Self { own, file })
    }

    /// Runs one part and prints what it added.
    fn part<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // "5": the peak begins anew here.
        fs::write("/proc/self/clear_refs", "5").context("/proc/self/clear_refs")?;
        let before = status("VmRSS")?;
        let result = work()?;
        let (own, file) = (status("RssAnon")?, status("RssFile")?);
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            own - self.own,
            file - self.file,
            status("VmHWM")? - before,
        );
        (self.own, self.file) = (own, file);
        Ok(result)
    }
}

/// A line of /proc/self/status in megabytes.
fn status(key: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| key.to_owned())?.parse::<f64>()? * 1024.0 / 1e6)
}
