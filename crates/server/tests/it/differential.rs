//! The same bytes to this server and to the one that it stands in for, and the same bytes back.
//!
//! A seeded generator makes batches of requests, from single ones to long pipelines. Both servers get a batch in one
//! write, and their answers are compared. `binary` and `text` are held against Debian's memcached, `resp` against its
//! Redis. Each generator says at its head what it leaves out because the other server answers it by chance, or because
//! the two differ on purpose; README has a table of the latter.
//!
//! `MEMWIRE_DIFF_SEED` and `MEMWIRE_DIFF_OPS` choose the run. A difference is reported with its seed, the requests,
//! both answers and the requests before them.

mod binary;
mod material;
mod resp;
mod side;
mod stream;
mod text;

use std::collections::HashMap;
use std::env;

const SEED_DEFAULT: u64 = 20_260_519;

/// One thread, and none in the background: the threads that tend memcached's LRU hold on to an item
/// for a moment, and a counter that meets such an item is not padded.
const MEMCACHED_ARGS: [&str; 6] = ["-m", "256", "-t", "1", "-o", "no_lru_maintainer,no_lru_crawler"];

/// The seed and the number of operations of this run.
fn run(ops_default: u32) -> (u64, u32) {
    let seed = from_environment("MEMWIRE_DIFF_SEED", SEED_DEFAULT);
    let ops_count = from_environment("MEMWIRE_DIFF_OPS", ops_default);
    println!("seed {seed}, {ops_count} operations");
    (seed, ops_count)
}

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is not a number in range: {text}"))
    })
}

/// A CAS number of each server for the same state of the same item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CasPair {
    ours: u64,
    theirs: u64,
}

impl CasPair {
    fn both(cas: u64) -> Self {
        Self { ours: cas, theirs: cas }
    }
}

/// Which of our CAS numbers stands for which of theirs: each server counts for itself.
#[derive(Default)]
struct CasBijection {
    theirs_by_ours: HashMap<u64, u64>,
    ours_by_theirs: HashMap<u64, u64>,
}

impl CasBijection {
    /// Notes that the two servers answered these numbers for the same thing. False if one of them
    /// has stood for another number before, or only one of them is 0.
    fn admits(&mut self, pair: CasPair) -> bool {
        if pair.ours == 0 || pair.theirs == 0 {
            return pair.ours == pair.theirs;
        }
        *self.theirs_by_ours.entry(pair.ours).or_insert(pair.theirs) == pair.theirs
            && *self.ours_by_theirs.entry(pair.theirs).or_insert(pair.ours) == pair.ours
    }
}

/// Three numbers with dots, the first from 1 to 255: libmemcached rejects anything else.
fn is_version(text: &[u8]) -> bool {
    let numbers: Option<Vec<u32>> = str::from_utf8(text)
        .ok()
        .and_then(|text| text.split('.').map(|number| number.parse().ok()).collect());
    matches!(numbers.as_deref(), Some([1..=255, _, _]))
}
