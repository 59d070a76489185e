//! What has been evicted, as far as it can be said from outside.
//!
//! The engine tells which keys it has evicted in a batch, and not when. Where the batch has written the same key, it is
//! open which came first, until somebody asks.

use std::collections::{BTreeMap, BTreeSet};

/// Keys that may be missing.
#[derive(Debug, Default)]
pub struct Evicted {
    /// In the batch under way: how often, as far as nobody has noticed.
    in_batch: BTreeMap<Box<[u8]>, u32>,
    written_in_batch: BTreeSet<Box<[u8]>>,
    /// In earlier batches, which wrote them, too.
    perhaps: BTreeSet<Box<[u8]>>,
}

impl Evicted {
    /// A batch was executed, and these keys were evicted.
    pub fn begin(&mut self, keys: Vec<Box<[u8]>>) {
        for key in keys {
            *self.in_batch.entry(key).or_default() += 1;
        }
    }

    /// Whether an item may be missing.
    #[must_use]
    pub fn may_miss(&self, key: &[u8]) -> bool {
        self.in_batch.contains_key(key) || self.perhaps.contains(key)
    }

    /// An item was found missing.
    pub fn missed(&mut self, key: &[u8]) {
        if self.perhaps.remove(key) {
            return;
        }
        if let Some(count) = self.in_batch.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.in_batch.remove(key);
            }
        }
    }

    /// An item was written, whatever was there before.
    pub fn written(&mut self, key: &[u8]) {
        self.perhaps.remove(key);
        self.written_in_batch.insert(key.into());
    }

    /// An item was seen.
    pub fn seen(&mut self, key: &[u8]) {
        self.perhaps.remove(key);
    }

    /// All of the batch has been looked at: gives the keys that are gone for certain.
    pub fn end(&mut self) -> Vec<Box<[u8]>> {
        let mut gone = Vec::new();
        for key in std::mem::take(&mut self.in_batch).into_keys() {
            if self.written_in_batch.contains(&key) {
                self.perhaps.insert(key);
            } else {
                gone.push(key);
            }
        }
        self.written_in_batch.clear();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_evicted_and_not_written_is_gone() {
        let mut evicted = Evicted::default();
        evicted.begin(vec![(*b"a").into(), (*b"b").into()]);
        assert!(evicted.may_miss(b"a") && !evicted.may_miss(b"c"));
        evicted.written(b"b");
        assert_eq!(evicted.end(), [(*b"a").into()]);
        assert!(!evicted.may_miss(b"a"), "the oracle knows");
        assert!(evicted.may_miss(b"b"));
        evicted.seen(b"b");
        assert!(!evicted.may_miss(b"b"));
    }

    #[test]
    fn an_eviction_explains_one_miss() {
        let mut evicted = Evicted::default();
        evicted.begin(vec![(*b"a").into()]);
        evicted.missed(b"a");
        assert!(!evicted.may_miss(b"a"));
        assert!(evicted.end().is_empty());
    }
}
