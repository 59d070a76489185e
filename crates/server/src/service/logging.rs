//! How much is logged, which can be changed while the server runs.

use env_logger::Builder;
use log::LevelFilter;

/// Which lines are logged; it wins over `-v`, and stays.
const FILTERS: &str = "RUST_LOG";

/// By how often `-v` was given.
const LEVELS: [LevelFilter; 4] =
    [LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace];

/// Begins to log.
pub fn start(verbosity: u8) {
    let mut builder = Builder::from_default_env();
    if is_fixed() {
        return builder.init();
    }
    // What is said at all is decided before a line comes here, and costs a comparison.
    builder.filter_level(LevelFilter::Trace).init();
    set(verbosity);
}

/// From here on so much is logged, unless the environment says something else.
pub fn set(verbosity: u8) {
    if !is_fixed() {
        log::set_max_level(LEVELS[usize::from(verbosity).min(LEVELS.len() - 1)]);
    }
}

/// How often `-v` would have to be given for what is logged.
#[must_use]
pub fn verbosity() -> usize {
    LEVELS.iter().rposition(|level| *level <= log::max_level()).unwrap_or(0)
}

fn is_fixed() -> bool {
    std::env::var_os(FILTERS).is_some()
}
