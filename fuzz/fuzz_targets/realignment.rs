//! Realignment files: what is taken can be used, and is written as it was read.
#![no_main]

use captiond_fuzz::pieces::tensor_file;
use captiond_fuzz::realignment::Realignment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(map) = Realignment::from_bytes(&tensor_file(input)) else {
        return;
    };
    let (image, text) = (map.image_dimension(), map.text_dimension());
    let embedding = vec![0.5; image];
    assert_eq!(map.realign(&embedding).len(), text);
    assert_eq!(map.centre_text(&vec![0.5; text]).len(), text);
    let Ok(bytes) = map.to_bytes() else {
        panic!("what was read can't be written");
    };
    let again = Realignment::from_bytes(&bytes);
    assert_eq!(again.map(|again| again.w().to_vec()), Ok(map.w().to_vec()));
});
