//! The search of the default pack's datastore against a scan of unquantised floats, for real
//! photographs. Needs the data beside the checkout and the embeddings that a fit has cached
//! (`captiond fit --cache target/embeddings`); without them the test says loudly that it was skipped.

use std::{collections::HashSet, fs, path::Path};

use captiond::{
    datastore::CentredRows,
    fit::cache::{EmbeddingCache, key},
    fit::pairs,
    pack::Pack,
};

const COUNT: usize = 13;
const PHOTOGRAPHS: usize = 200;

/// The cache of an identity, unless there is none yet (opening would make it).
fn cache(folder: &Path, identity: &str, dimension: usize) -> Option<EmbeddingCache> {
    let file = folder.join(format!("{identity}-{dimension}.f32"));
    file.is_file()
        .then(|| EmbeddingCache::open(folder, identity, dimension).unwrap())
}

#[test]
fn integers_find_what_floats_find() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = root.join("../shared/data/flickr8k");
    if !data.is_dir() {
        eprintln!(
            "SKIPPED: {} is absent, nothing was measured",
            data.display()
        );
        return;
    }
    let pack = Pack::open(&root.join("models/default")).unwrap();
    let m = &pack.manifest;
    let folder = root.join("target/embeddings");
    let images = pack.image_embedding_identity();
    let texts = pack.text_embedding_identity();
    let (Some(mut images), Some(mut texts)) = (
        cache(&folder, &images, m.image_tower.dimension),
        cache(&folder, &texts, m.text_tower.dimension),
    ) else {
        eprintln!(
            "SKIPPED: no embeddings of models/default in target/embeddings, nothing was measured"
        );
        return;
    };
    let realignment = pack.realignment().unwrap();
    let store = pack.datastore().unwrap();
    let rows: Option<Vec<Vec<f32>>> = store
        .captions()
        .map(|caption| texts.get(&key(caption.as_bytes())).unwrap())
        .map(|found| found.map(|embedding| realignment.centre_text(&embedding)))
        .collect();
    let photographs = pairs::read(&data.join("dev.tsv"), None).unwrap();
    let queries: Option<Vec<Vec<f32>>> = photographs
        .iter()
        .take(PHOTOGRAPHS)
        .map(|pair| fs::read(data.join("images").join(&pair.image)).unwrap())
        .map(|bytes| images.get(&key(&bytes)).unwrap())
        .map(|found| found.map(|embedding| realignment.realign(&embedding)))
        .collect();
    let (Some(rows), Some(queries)) = (rows, queries) else {
        eprintln!(
            "SKIPPED: target/embeddings has not all captions and photographs, nothing was measured"
        );
        return;
    };

    let search = CentredRows::new(store, realignment.mean_text());
    let (mut agreed, mut furthest) = (0, 0f32);
    for (query, hits) in queries.iter().zip(search.nearest_many(&queries, COUNT)) {
        let cosine = |row: &Vec<f32>| -> f32 { row.iter().zip(query).map(|(r, q)| r * q).sum() };
        let mut scores: Vec<(usize, f32)> = rows.iter().map(cosine).enumerate().collect();
        for hit in &hits {
            furthest = furthest.max((hit.score - scores[hit.row].1).abs());
        }
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let exact: HashSet<usize> = scores[..COUNT].iter().map(|score| score.0).collect();
        agreed += hits.iter().filter(|hit| exact.contains(&hit.row)).count();
    }
    let recall = agreed as f32 / (COUNT * queries.len()) as f32;
    eprintln!("recall@13 {recall:.4} against floats, scores off by at most {furthest:.5}");
    assert!(recall >= 0.99 && furthest < 0.01, "{recall} {furthest}");
}
