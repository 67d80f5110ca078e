//! Texts of others before the tokenizers of the default pack and of the caption metrics, and token ids
//! before the decoder's words.
#![no_main]

use std::sync::LazyLock;

use captiond_fuzz::caption_tokenizer::{tokenize, tokenize_all};
use captiond_fuzz::decoder::Words;
use libfuzzer_sys::fuzz_target;
use tokenizers::{Tokenizer, TruncationParams};

const MAX_LENGTH: usize = 64;

static TOWER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut tokenizer =
        Tokenizer::from_bytes(include_bytes!("../../models/default/tokenizer.json")).unwrap();
    tokenizer.with_padding(None);
    let truncation = TruncationParams {
        max_length: MAX_LENGTH,
        ..Default::default()
    };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer
});

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let tokenizer =
        Tokenizer::from_bytes(include_bytes!("../../models/default/decoder_tokenizer.json"))
            .unwrap();
    Words::new(tokenizer, Some(1), &[2], &[0], true)
});

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        let encoding = TOWER.encode_fast(text, true).unwrap();
        let ids = encoding.get_ids();
        assert!((2..=MAX_LENGTH).contains(&ids.len()));
        let words = tokenize(text);
        assert!(words.iter().all(|word| !word.is_empty()));
        assert_eq!(tokenize_all(&[text]), [words]);
        // What follows may decide about its last full stop, so the result may differ.
        let _ = tokenize_all(&[text, "A dog"]);
    }
    let ids: Vec<u32> = input
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])))
        .collect();
    // Ids that are no words may be refused.
    let _ = WORDS.sentence(&ids);
});
