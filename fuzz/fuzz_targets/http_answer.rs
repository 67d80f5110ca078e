//! A camera's HTTP answer, from its first byte to the end of its body.
#![no_main]

use std::cell::Cell;

use captiond_fuzz::pieces::Pieces;
use captiond_fuzz::source::http::address::{Address, shown};
use captiond_fuzz::source::http::client::{Received, receive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (lengths, stream) = input.split_at(input.len().min(4));
    // As the stall detector does: a server that sends nothing of use is left one day.
    let reads = Cell::new(0);
    let patience = || {
        reads.set(reads.get() + 1);
        reads.get() < 10_000
    };
    match receive(Pieces::new(stream, lengths), false, &patience) {
        Ok(Received::Answer(mut answer)) => {
            let mut bytes = Vec::new();
            while let Ok(true) = answer.body.read(&mut bytes, &patience) {}
            assert!(bytes.len() <= stream.len());
            if let Some(promised) = answer.body.promised() {
                assert!(bytes.len() as u64 <= promised);
            }
        }
        Ok(Received::Redirect(location)) => {
            let shown = shown(&location);
            assert!(!shown.contains(['@', '?', '#']) && shown.chars().count() <= 200);
            let Ok(here) = Address::parse("http://camera:81/a/b?c") else {
                panic!("a plain address was refused");
            };
            if let Ok(there) = here.redirected(&location) {
                let again = Address::parse(&format!(
                    "http://{}{}",
                    there.authority(),
                    there.target
                ));
                assert_eq!(again.as_ref(), Ok(&there));
                assert!(there.target.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
        Err(_) => {}
    }
});
