//! A text session in front of an engine: what it answers.

use memwire::config::Protocol;

use crate::connection::serve;
use crate::{pieces, stream_and_cuts};

/// Serves the stream of `input` in one piece and cut up.
///
/// # Panics
/// Where the answers differ, or are no lines.
pub fn serve_however_cut(input: &[u8]) {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = serve(&[stream], Protocol::Text);
    let cut_up = serve(&pieces(stream, cuts), Protocol::Text);
    assert!(
        whole.is_empty() || whole.ends_with(b"\n"),
        "an answer ends with its line: {}",
        whole.escape_ascii()
    );
    let [whole, cut_up] = [&whole, &cut_up].map(|answers| without_statistics(answers));
    assert!(whole == cut_up, "cut at {cuts:?}:\n{}\n{}", whole.escape_ascii(), cut_up.escape_ascii());
}

/// Statistics tell of the clock, the process, and what was swept between two batches.
fn without_statistics(answers: &[u8]) -> Vec<u8> {
    let lines = answers.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"STAT ")).flatten().copied().collect()
}
