//! Sizes in words, and of the files of a pack.

use std::fs;

use crate::pack::Pack;

/// Bytes as people read them, in powers of 1000.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

/// Bytes of a file of the pack as it is on the disk; none when it is not there.
pub(super) fn of(pack: &Pack, file: &str) -> Option<u64> {
    fs::metadata(pack.folder.join(file))
        .map(|meta| meta.len())
        .ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_in_words() {
        let words: Vec<String> = [999, 12_345, 7_654_321, 2_500_000_000]
            .map(super::bytes)
            .into();
        assert_eq!(words, ["999 bytes", "12.3 kB", "7.65 MB", "2.50 GB"]);
    }
}
