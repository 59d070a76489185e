//! Figures by key prefix: `stats detail`.

use std::collections::HashMap;
use std::fmt::Write;

use crate::limits::DETAIL_PREFIXES_MAX;

/// Counts gets, hits, sets and deletes for every prefix that ends in the delimiter.
#[derive(Debug)]
pub struct Detail {
    delimiter: u8,
    prefixes: HashMap<Box<[u8]>, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    get: u64,
    hit: u64,
    set: u64,
    del: u64,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It was asked for, in vain.
    Miss,
    /// It was asked for and found.
    Hit,
    /// A value was to be stored under it.
    Set,
    /// It was to be deleted.
    Delete,
}

impl Detail {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(delimiter: u8) -> Self {
        Self { delimiter, prefixes: HashMap::new() }
    }

    /// Counts. A key without a delimiter has no prefix.
    #[cold]
    pub fn record(&mut self, key: &[u8], event: Event) {
        let Some(end) = key.iter().position(|byte| *byte == self.delimiter) else {
            return;
        };
        let prefix = &key[..end];
        if !self.prefixes.contains_key(prefix) {
            if self.prefixes.len() >= DETAIL_PREFIXES_MAX {
                return;
            }
            self.prefixes.insert(prefix.into(), Counts::default());
        }
        let Some(counts) = self.prefixes.get_mut(prefix) else {
            return;
        };
        match event {
            Event::Miss => counts.get += 1,
            Event::Hit => {
                counts.get += 1;
                counts.hit += 1;
            }
            Event::Set => counts.set += 1,
            Event::Delete => counts.del += 1,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.prefixes.clear();
    }

    /// A line for each prefix, in memcached's form.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut dump = String::new();
        for (prefix, Counts { get, hit, set, del }) in &self.prefixes {
            let prefix = prefix.escape_ascii();
            // Writing to a string does not fail.
            let _ = write!(dump, "PREFIX {prefix} get {get} hit {hit} set {set} del {del}\r\n");
        }
        dump.push_str("END\r\n");
        dump
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_by_their_prefix() {
        let mut detail = Detail::new(b':');
        detail.record(b"user:1", Event::Set);
        detail.record(b"user:2", Event::Hit);
        detail.record(b"user:3:x", Event::Miss);
        detail.record(b"user:1", Event::Delete);
        detail.record(b"none", Event::Hit);
        assert_eq!(detail.dump(), "PREFIX user get 2 hit 1 set 1 del 1\r\nEND\r\n");
        detail.reset();
        assert_eq!(detail.dump(), "END\r\n");
    }
}
