//! The chain over many pictures, one thread a captioner: what augmentation and calibration do.

use std::{path::Path, thread};

use anyhow::{Context as _, Result, anyhow};
use indicatif::ProgressBar;

use crate::{
    captioner::{Captioner, Description, Seen, StageTimes},
    datastore::Datastore,
    source::{Frame, Pixels},
};

/// What is seen in pictures, in the order of `files`, taken by all captioners side by side.
///
/// # Errors
/// Names the picture that can't be read or decoded.
pub fn features(
    captioners: &mut [Captioner],
    folder: &Path,
    files: &[String],
    bar: &ProgressBar,
) -> Result<Vec<Seen>> {
    spread(captioners, files, bar, |captioner, _, file| {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let frame = Frame {
            pixels: Pixels::Encoded(bytes),
            origin: path.display().to_string(),
            taken: Default::default(),
        };
        captioner.look(&frame, &mut StageTimes::default())
    })
}

/// What the chain says of each picture.
///
/// # Errors
/// When the engine fails.
pub fn say(
    captioners: &mut [Captioner],
    seen: &[Seen],
    bar: &ProgressBar,
) -> Result<Vec<Description>> {
    spread(captioners, seen, bar, |captioner, _, seen| {
        captioner.say(seen, StageTimes::default())
    })
}

/// What the chain says of each picture, retrieving from `store` all rows but those that
/// `owner` (one a row, the rows beyond its end are nobody's) gives to the picture itself.
///
/// # Errors
/// When the engine fails.
pub fn describe(
    captioners: &mut [Captioner],
    store: &Datastore,
    owner: &[Option<usize>],
    seen: &[Seen],
    bar: &ProgressBar,
) -> Result<Vec<Description>> {
    for captioner in captioners.iter_mut() {
        captioner.set_datastore(Datastore::from_bytes(store.bytes())?);
    }
    spread(captioners, seen, bar, |captioner, index, seen| {
        let own = |row: usize| owner.get(row).copied().flatten() == Some(index);
        captioner.say_without(seen, StageTimes::default(), &own)
    })
}

/// Runs `work` on each item, one thread a captioner; results in the items' order.
fn spread<T: Sync, R: Send>(
    captioners: &mut [Captioner],
    items: &[T],
    bar: &ProgressBar,
    work: impl Fn(&mut Captioner, usize, &T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    bar.reset();
    bar.set_length(items.len() as u64);
    let step = captioners.len();
    let work = &work;
    let parts: Vec<Result<Vec<(usize, R)>>> = thread::scope(|scope| {
        let threads: Vec<_> = captioners
            .iter_mut()
            .enumerate()
            .map(|(first, captioner)| {
                scope.spawn(move || {
                    let mine = items.iter().enumerate().skip(first).step_by(step);
                    mine.map(|(index, item)| {
                        let result = work(captioner, index, item)?;
                        bar.inc(1);
                        Ok((index, result))
                    })
                    .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a thread has panicked")))
            })
            .collect()
    });
    let mut all = Vec::with_capacity(items.len());
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
