//! The pictures of a data set: an image file, or a folder with the frames of a clip (MSR-VTT).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Frames that are taken of a clip when nobody says otherwise.
pub const FRAMES: usize = 8;

/// An image of a data set, or some frames of a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// As the data set names it.
    pub name: String,
    /// Paths within the folder of the images: one of an image, in the order of time of a clip.
    pub files: Vec<String>,
    /// Whether it is a clip.
    pub clip: bool,
}

/// Why a data set's image or clip can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Nothing of this name.
    #[error(
        "{}: no such image, and no folder with a clip's frames; --images takes the folder that has them (extract a video's frames as JPEG into a folder of the video's name)", path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A clip's folder has no picture.
    #[error("{}: a clip without frames; expected JPEG or PNG files in it", path.display())]
    NoFrames {
        /// The folder.
        path: PathBuf,
    },
    /// A clip's folder can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Finds an image or a clip by its path within `folder`, else by its file name: data sets name the
/// folder that they had. Of a clip `frames` frames are taken, evenly spread over its length.
///
/// # Errors
/// [`SampleError`] when there is nothing of this name, or a clip has no frames.
pub fn find(folder: &Path, name: &str, frames: usize) -> Result<Sample, SampleError> {
    let file_name = Path::new(name).file_name().and_then(|file| file.to_str());
    let place = [Some(name), file_name]
        .into_iter()
        .flatten()
        .find(|place| !place.is_empty() && folder.join(place).exists());
    let Some(place) = place else {
        let path = folder.join(name);
        return Err(SampleError::Missing { path });
    };
    let path = folder.join(place);
    let clip = path.is_dir();
    let files = if clip {
        let all = pictures(&path)?;
        if all.is_empty() {
            return Err(SampleError::NoFrames { path });
        }
        spread(all.len(), frames)
            .map(|at| format!("{place}/{}", all[at]))
            .collect()
    } else {
        vec![place.to_owned()]
    };
    Ok(Sample {
        name: name.to_owned(),
        files,
        clip,
    })
}

/// Places of `wanted` frames among `count`: the middles of so many equal parts. All of them when there
/// are no more than are wanted.
fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let taken = wanted.clamp(1, count.max(1));
    (0..taken).map(move |i| (2 * i + 1) * count / (2 * taken))
}

/// JPEG and PNG files of a folder in the order of their numbers: shorter names first, so that
/// `frame_10` comes after `frame_9` as `0010` does after `0009`.
fn pictures(folder: &Path) -> Result<Vec<String>, SampleError> {
    let unreadable = |source| SampleError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        let extension = Path::new(name.as_ref()).extension().unwrap_or_default();
        let picture = ["jpg", "jpeg", "png"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known));
        if picture && !name.starts_with('.') {
            names.push(name.into_owned());
        }
    }
    names.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn images_by_path_and_by_name() {
        let folder = folder(&["val/a.jpg", "b.jpg"]);
        let files = |name: &str| find(folder.path(), name, 4).map(|sample| sample.files);
        assert_eq!(files("val/a.jpg").unwrap(), ["val/a.jpg"]);
        assert_eq!(files("val2014/b.jpg").unwrap(), ["b.jpg"]);
        let error = files("c.jpg").unwrap_err().to_string();
        assert!(error.contains("c.jpg: no such image"), "{error}");
        assert!(files("").is_err());
    }

    #[test]
    fn frames_are_spread_and_in_the_order_of_time() {
        let frames: Vec<String> = (1..=12).map(|n| format!("video7/f{n}.JPG")).collect();
        let mut files: Vec<&str> = frames.iter().map(String::as_str).collect();
        files.extend(["video7/notes.txt", "video7/.f3.jpg", "video8/readme.txt"]);
        let folder = folder(&files);
        let clip = find(folder.path(), "video7", 3).unwrap();
        // Middles of 1 to 4, 5 to 8, 9 to 12.
        assert_eq!(
            clip.files,
            ["video7/f3.JPG", "video7/f7.JPG", "video7/f11.JPG"]
        );
        assert!(clip.clip);
        assert_eq!(find(folder.path(), "video7", 99).unwrap().files.len(), 12);
        let error = find(folder.path(), "video8", 3).unwrap_err();
        assert!(matches!(error, SampleError::NoFrames { .. }), "{error}");
    }
}
