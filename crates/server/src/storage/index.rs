//! From a key's hash to its record.
//!
//! The index is cut into sub-tables of one or two thousand entries, because a hash table that doubles moves all its
//! entries at once: one table of ten million stops the world for a second, four thousand small ones for a third of a
//! millisecond each. An entry is 8 bytes: 40 bits of address, 24 of hash. With these 24 bits a table doubles without
//! looking at a record, and a search looks at a record only where they agree.
//!
//! Which of a hash's 32 bits decides what:
//!
//! ```text
//! bit  31 .................. 19 18 ....... 12 11 ............. 0
//!      sub-table (up to 8192)   tag (7 bits)  place in the table
//!            24 bits kept: 23 ............................... 0
//! ```
//! hashbrown takes its place from the low bits and its tag from the top 7 of 64, so up to 8192 sub-tables (2 GiB) the
//! three do not overlap: choosing the sub-table by the bits that hashbrown has its tag from doubles the cost of a hit.
//! Of 65,536 sub-tables the number shares 3 bits with the tag; then more entries are looked at, but no more records.
//!
//! The sub-tables have unequal shares, so that they do not all double at the same time: table `k` of `n` is
//! `n (4u - u²) / 3` for a hash `u` in [0, 1), which gives the first a share of 3/4 and the last one of 3/2.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::message::KeyHash;
use crate::storage::log::Address;

/// Bytes of memory limit for each sub-table.
const LIMIT_BYTES_PER_TABLE: usize = 256 << 10;
const TABLES_MIN: usize = 256;
const TABLES_MAX: usize = 65_536;

/// The index.
#[derive(Debug)]
pub struct Index {
    tables: Box<[HashTable<Entry>]>,
    len: usize,
    table_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry(u64);

const ENTRY_HASH_BITS: u32 = 24;

impl Entry {
    fn new(hash: KeyHash, address: Address) -> Self {
        Self(address.units() << ENTRY_HASH_BITS | u64::from(kept_bits(hash)))
    }

    fn address(self) -> Address {
        Address::from_units(self.0 >> ENTRY_HASH_BITS)
    }

    fn kept_bits(self) -> u32 {
        self.0 as u32 & ((1 << ENTRY_HASH_BITS) - 1)
    }
}

fn kept_bits(hash: KeyHash) -> u32 {
    hash.0 & ((1 << ENTRY_HASH_BITS) - 1)
}

/// The 64 bits that hashbrown sees: place in the low ones, tag in the top 7.
fn table_hash(kept_bits: u32) -> u64 {
    u64::from(kept_bits) | u64::from(kept_bits >> 12) << 57
}

impl Index {
    /// An index for a server with this memory limit.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        let count = (limit_bytes / LIMIT_BYTES_PER_TABLE).clamp(TABLES_MIN, TABLES_MAX);
        Self { tables: (0..count).map(|_| HashTable::new()).collect(), len: 0, table_bytes: 0 }
    }

    /// Items in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all sub-tables.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table_bytes + size_of_val(&*self.tables)
    }

    /// Entries that fit before anything grows.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.tables.iter().map(HashTable::capacity).sum()
    }

    /// The record with this hash that `is_same` accepts.
    pub fn find(&self, hash: KeyHash, is_same: impl Fn(Address) -> bool) -> Option<Address> {
        let kept = kept_bits(hash);
        let same = |entry: &Entry| entry.kept_bits() == kept && is_same(entry.address());
        Some(self.tables[self.table_of(hash)].find(table_hash(kept), same)?.address())
    }

    /// Enters a record, in the place of the one that `is_same` accepts, which is returned.
    pub fn put(&mut self, hash: KeyHash, new: Address, is_same: impl Fn(Address) -> bool) -> Option<Address> {
        let kept = kept_bits(hash);
        let table = &mut self.tables[table_number(hash, self.tables.len())];
        let before = table.allocation_size();
        let same = |entry: &Entry| entry.kept_bits() == kept && is_same(entry.address());
        let old = match table.entry(table_hash(kept), same, |entry| table_hash(entry.kept_bits())) {
            Slot::Occupied(mut slot) => {
                let old = slot.get().address();
                *slot.get_mut() = Entry::new(hash, new);
                Some(old)
            }
            Slot::Vacant(slot) => {
                slot.insert(Entry::new(hash, new));
                None
            }
        };
        self.table_bytes += table.allocation_size() - before;
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a record out.
    pub fn remove(&mut self, hash: KeyHash, address: Address) {
        let kept = kept_bits(hash);
        let table = &mut self.tables[table_number(hash, self.tables.len())];
        match table.find_entry(table_hash(kept), |entry| entry.address() == address) {
            Ok(slot) => {
                slot.remove();
                self.len -= 1;
            }
            Err(_) => unreachable!("a live record is in the index"),
        }
    }

    /// Says where a record has been moved to.
    pub fn relocate(&mut self, hash: KeyHash, from: Address, to: Address) {
        let kept = kept_bits(hash);
        let table = &mut self.tables[table_number(hash, self.tables.len())];
        match table.find_mut(table_hash(kept), |entry| entry.address() == from) {
            Some(entry) => *entry = Entry::new(hash, to),
            None => unreachable!("a live record is in the index"),
        }
    }

    fn table_of(&self, hash: KeyHash) -> usize {
        table_number(hash, self.tables.len())
    }
}

fn table_number(hash: KeyHash, table_count: usize) -> usize {
    // Fixed point: u has 30 bits, 4u - u² has 60.
    const BITS: u32 = 30;
    let u = u64::from(hash.0 >> (u32::BITS - BITS));
    let share = (u * ((4 << BITS) - u)) >> BITS;
    ((share * table_count as u64 / 3) >> BITS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(n: u32) -> KeyHash {
        KeyHash(n.wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b))
    }

    #[test]
    fn what_is_put_is_found_replaced_and_removed() {
        let mut index = Index::new(64 << 20);
        for n in 0..50_000 {
            assert_eq!(index.put(hash_of(n), Address::from_units(u64::from(n)), |_| false), None);
        }
        let at = Address::from_units;
        for n in 0..50_000 {
            assert_eq!(index.find(hash_of(n), |a| a == at(u64::from(n))), Some(at(u64::from(n))));
        }
        assert_eq!(index.put(hash_of(7), at(1 << 39), |a| a == at(7)), Some(at(7)));
        assert_eq!(index.find(hash_of(7), |_| true), Some(at(1 << 39)));
        assert_eq!(index.len(), 50_000);
        index.remove(hash_of(7), at(1 << 39));
        assert_eq!((index.len(), index.find(hash_of(7), |_| true)), (49_999, None));
        assert!(index.bytes() > 50_000 * 9 && index.bytes() < 50_000 * 24);
    }

    #[test]
    fn shares_run_from_three_quarters_to_three_halves() {
        let n = 256;
        let mut shares = vec![0_u32; n];
        for u in 0..1 << 16 {
            shares[table_number(KeyHash(u << 16), n)] += 1;
        }
        let mean = (1 << 16) as f64 / n as f64;
        assert!((f64::from(shares[0]) / mean - 0.75).abs() < 0.05, "{}", shares[0]);
        assert!((f64::from(shares[n - 1]) / mean - 1.5).abs() < 0.05, "{}", shares[n - 1]);
        assert_eq!(table_number(KeyHash(u32::MAX), n), n - 1);
    }
}
