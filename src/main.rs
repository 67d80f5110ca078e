//! The command line: `captiond caption`, `captiond fit`, `captiond run`.
fn main() {}
