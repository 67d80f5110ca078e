//! Datastore files: what is taken can be read and searched.
#![no_main]

use captiond_fuzz::datastore::{CentredRows, Datastore};
use captiond_fuzz::pieces::tensor_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(store) = Datastore::from_bytes(&tensor_file(input)) else {
        return;
    };
    let text: usize = store.captions().map(str::len).sum();
    assert!(text <= store.bytes().len());
    let (rows, dimension) = (store.len(), store.dimension());
    assert_eq!(store.embedding(rows), [0f32; 0]);
    assert_eq!(store.caption(rows), "");
    let query = vec![0.5; dimension];
    let centred = CentredRows::new(store, &vec![0.1; dimension]);
    let hits = centred.nearest(&query, 3);
    assert_eq!(hits.len(), rows.min(3));
    assert!(hits.iter().all(|hit| hit.row < rows));
});
