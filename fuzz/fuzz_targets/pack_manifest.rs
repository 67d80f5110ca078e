//! `pack.toml`, from its text to checked settings.
#![no_main]

use std::path::Path;

use captiond_fuzz::caption::Corrections;
use captiond_fuzz::pack::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Manifest::parse(text, Path::new("pack")) {
        Ok(manifest) => {
            for name in manifest.files.keys() {
                assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."));
            }
            let Ok(corrections) = Corrections::new(&manifest.generation.corrections) else {
                panic!("a pattern was checked, and is none");
            };
            corrections.apply("A man and a woman is walking, a dog and a dog.".to_owned());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
