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
//!
//! A table that has become mostly empty shrinks: what was stored as a million small items and is now a thousand large
//! ones must not go on paying for a million entries.
//!
//! Looking up many keys at once goes in three steps, each of which asks for the memory that
//! the next one reads: [`prefetch_table`](Index::prefetch_table), [`prefetch_bucket`](Table::prefetch_bucket),
//! [`likely`](Table::likely).

use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::message::KeyHash;
use crate::storage::log::Address;
use crate::storage::prefetch;

/// Bytes of memory limit for each sub-table.
const LIMIT_BYTES_PER_TABLE: usize = 256 << 10;
const TABLES_MIN: usize = 256;
const TABLES_MAX: usize = 65_536;

/// The index.
#[derive(Debug)]
pub struct Index {
    tables: Box<[Table]>,
    len: usize,
    table_bytes: usize,
    changes: u64,
}

/// A sub-table.
#[derive(Debug, Default)]
pub struct Table {
    entries: HashTable<Entry>,
    /// Where its control bytes begin, with the entries before them, last one first: a guess that follows from the
    /// address of one entry. It only serves to prefetch.
    control: usize,
}

/// A table with fewer entries than one in so many that would fit shrinks.
const SHRINK_SHARE: usize = 8;
/// It does not shrink below so many.
const SHRINK_CAPACITY_MIN: usize = 56;

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
        Self { tables: (0..count).map(|_| Table::default()).collect(), len: 0, table_bytes: 0, changes: 0 }
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
        self.tables.iter().map(|table| table.entries.capacity()).sum()
    }

    /// How often an entry has come, gone, or got another address. As long as that stays, what was found is found again.
    #[must_use]
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The record with this hash that `is_same` accepts.
    pub fn find(&self, hash: KeyHash, is_same: impl Fn(Address) -> bool) -> Option<Address> {
        let kept = kept_bits(hash);
        let same = |entry: &Entry| entry.kept_bits() == kept && is_same(entry.address());
        Some(self.table(hash).entries.find(table_hash(kept), same)?.address())
    }

    /// Enters a record, in the place of the one that `is_same` accepts, which is returned.
    pub fn put(&mut self, hash: KeyHash, new: Address, is_same: impl Fn(Address) -> bool) -> Option<Address> {
        self.changes += 1;
        let kept = kept_bits(hash);
        let table = &mut self.tables[table_number(hash, self.tables.len())];
        let before = table.entries.allocation_size();
        let same = |entry: &Entry| entry.kept_bits() == kept && is_same(entry.address());
        let slot = table.entries.entry(table_hash(kept), same, |entry| table_hash(entry.kept_bits()));
        // The table may have grown either way.
        let (slot, old) = match slot {
            Slot::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), Entry::new(hash, new));
                (slot, Some(old.address()))
            }
            Slot::Vacant(slot) => (slot.insert(Entry::new(hash, new)), None),
        };
        table.control = control_of(slot.get(), slot.bucket_index());
        self.table_bytes += table.entries.allocation_size() - before;
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a record out.
    pub fn remove(&mut self, hash: KeyHash, address: Address) {
        self.changes += 1;
        let kept = kept_bits(hash);
        let table = &mut self.tables[table_number(hash, self.tables.len())];
        match table.entries.find_entry(table_hash(kept), |entry| entry.address() == address) {
            Ok(slot) => slot.remove(),
            Err(_) => unreachable!("a live record is in the index"),
        };
        self.len -= 1;
        let (len, capacity) = (table.entries.len(), table.entries.capacity());
        if len * SHRINK_SHARE < capacity && capacity > SHRINK_CAPACITY_MIN {
            self.table_bytes -= table.shrink(len * 2);
        }
    }

    /// How many sub-tables there are. That never changes.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// Entries of a sub-table, `None` where there is no such table.
    #[must_use]
    pub fn table_len(&self, table: usize) -> Option<usize> {
        self.tables.get(table).map(|table| table.entries.len())
    }

    /// Tells every record of a sub-table the 16 lowest bits of whose hash lie in `places`. They have no part in choosing
    /// the sub-table, so they spread its entries evenly.
    pub fn each_in(&self, table: usize, places: Range<u32>, mut tell: impl FnMut(Address)) {
        for entry in &self.tables[table].entries {
            if places.contains(&(entry.kept_bits() & 0xffff)) {
                tell(entry.address());
            }
        }
    }

    /// Says where a record has been moved to.
    pub fn relocate(&mut self, hash: KeyHash, from: Address, to: Address) {
        self.changes += 1;
        let kept = kept_bits(hash);
        let table = &mut self.tables[table_number(hash, self.tables.len())];
        match table.entries.find_mut(table_hash(kept), |entry| entry.address() == from) {
            Some(entry) => *entry = Entry::new(hash, to),
            None => unreachable!("a live record is in the index"),
        }
    }

    /// Whether a record with this hash lies at `address`, as far as the index knows.
    #[must_use]
    pub fn holds(&self, hash: KeyHash, address: Address) -> bool {
        self.find(hash, |at| at == address).is_some()
    }

    /// Asks for the sub-table of this hash, and says which it is.
    #[must_use]
    #[inline]
    pub fn prefetch_table(&self, hash: KeyHash) -> &Table {
        let table = self.table(hash);
        prefetch::line(std::ptr::from_ref(table).cast());
        table
    }

    /// Asks for the place in its sub-table where this hash stands if it stands at the first place that is looked at.
    #[inline]
    pub fn prefetch_bucket(&self, hash: KeyHash) {
        self.table(hash).prefetch_bucket(hash);
    }

    #[inline]
    fn table(&self, hash: KeyHash) -> &Table {
        &self.tables[self.table_of(hash)]
    }

    /// The sub-table of this hash.
    #[must_use]
    pub fn table_of(&self, hash: KeyHash) -> usize {
        table_number(hash, self.tables.len())
    }
}

impl Table {
    /// See [`Index::prefetch_bucket`].
    #[inline]
    pub fn prefetch_bucket(&self, hash: KeyHash) {
        let buckets = self.entries.num_buckets();
        // The same arithmetic as hashbrown's, whose number of buckets is a power of two.
        let bucket = kept_bits(hash) as usize & buckets.wrapping_sub(1);
        let control = std::ptr::without_provenance::<u8>(self.control);
        prefetch::line(control.wrapping_add(bucket));
        prefetch::line(control.wrapping_sub((bucket + 1) * size_of::<Entry>()));
    }

    /// Where the record with this hash lies, if there is one: almost certainly, since only 24 bits are compared.
    #[inline]
    #[must_use]
    pub fn likely(&self, hash: KeyHash) -> Option<Address> {
        let kept = kept_bits(hash);
        Some(self.entries.find(table_hash(kept), |entry| entry.kept_bits() == kept)?.address())
    }

    /// Makes it smaller, and says how many bytes that gave back.
    fn shrink(&mut self, capacity: usize) -> usize {
        let before = self.entries.allocation_size();
        self.entries.shrink_to(capacity, |entry| table_hash(entry.kept_bits()));
        // Until the next entry comes, nothing is prefetched.
        self.control = 0;
        before - self.entries.allocation_size()
    }
}

/// Where a table's control bytes begin, of which one entry is at `entry` and has this number.
fn control_of(entry: &Entry, number: usize) -> usize {
    std::ptr::from_ref(entry).addr() + (number + 1) * size_of::<Entry>()
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

    /// A table grows when it is full, even where an entry then takes the place of another.
    #[test]
    fn its_bytes_are_counted_whatever_makes_a_table_grow() {
        let mut index = Index::new(64 << 20);
        let at = |n: u32| Address::from_units(u64::from(n));
        for n in 0..1000 {
            index.put(KeyHash(7), at(n), |_| false);
            assert_eq!(index.put(KeyHash(7), at(n), |a| a == at(n)), Some(at(n)));
            let told: usize = index.tables.iter().map(|table| table.entries.allocation_size()).sum();
            assert_eq!(index.bytes(), told + size_of_val(&*index.tables));
        }
    }

    #[test]
    fn a_table_that_was_emptied_gives_its_memory_back() {
        let mut index = Index::new(64 << 20);
        let at = |n: u32| Address::from_units(u64::from(n));
        for n in 0..100_000 {
            index.put(hash_of(n), at(n), |_| false);
        }
        let full = index.bytes();
        for n in 0..95_000 {
            index.remove(hash_of(n), at(n));
        }
        assert!(index.bytes() < full / 4, "{} of {full}", index.bytes());
        let is_likely = |hash| index.table(hash).likely(hash).is_some();
        assert!((95_000..100_000).all(|n| index.holds(hash_of(n), at(n)) && is_likely(hash_of(n))));
        let told: usize = index.tables.iter().map(|table| table.entries.allocation_size()).sum();
        assert_eq!(index.bytes(), told + size_of_val(&*index.tables));
    }

    /// Prefetching asks for memory by hashbrown's layout, which it does not promise. If it changes, this fails.
    #[test]
    fn an_entry_lies_where_it_is_prefetched() {
        let mut index = Index::new(64 << 20);
        let mut first_places = 0;
        for n in 0..10_000 {
            index.put(hash_of(n), Address::from_units(u64::from(n)), |_| false);
        }
        for n in 0..10_000 {
            let (hash, kept) = (hash_of(n), kept_bits(hash_of(n)));
            let table = &index.tables[index.table_of(hash)];
            let entry = table.entries.find(table_hash(kept), |entry| entry.kept_bits() == kept).unwrap();
            let bucket = kept as usize & (table.entries.num_buckets() - 1);
            let guess = table.control - (bucket + 1) * size_of::<Entry>();
            // An entry stands at its place or, where that was taken, behind it: that is, before it in memory.
            let distance = guess.wrapping_sub(std::ptr::from_ref(entry).addr()) / size_of::<Entry>();
            first_places += u32::from(distance < 8);
        }
        assert!(first_places > 9_000, "{first_places} of 10,000");
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
