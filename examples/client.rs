//! Example client.
fn main() {}
