//! Messages on the command topics: a setting that is taken is in its range.
#![no_main]

use std::time::{Duration, SystemTime};

use captiond_fuzz::publish::command;
use captiond_fuzz::publish::topics::Topics;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let topics = Topics::new("captiond", "porch");
    // The first line is the topic, below the device's own.
    let end = input
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(input.len());
    let (name, payload) = input.split_at(end);
    let payload = payload.get(1..).unwrap_or_default();
    let topic = format!("{}{}", topics.base, String::from_utf8_lossy(name));
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_346_612);
    match command(&topics, &topic, payload, false, wall) {
        Ok(values) => {
            assert!((0.0..=1.0).contains(&values.min_confidence));
            assert!(values.interval <= Duration::from_secs(86_400));
        }
        Err(problem) => assert!(problem.len() < 1024, "{problem}"),
    }
});
