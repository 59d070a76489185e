//! Who is evicted, and who stays.

use bytes::Bytes;
use memwire::config::Config;
use memwire::message::{Command, Refusal};
use memwire::storage::engine::WhenFull;
use wire::{Concat, Direction, Expiration};

use crate::world::{Answer, Ask, Hashes, World};

/// Memory of 4 MiB: 64 segments, in which there is room for some 4000 items.
const LIMIT_BYTES: usize = 4 << 20;
const VALUE_BYTES: usize = 950;
const FIT: usize = 3900;

struct Cache {
    world: World,
    written: usize,
}

impl Cache {
    fn new(when_full: WhenFull) -> Self {
        let config = Config { memory_bytes_max: LIMIT_BYTES, when_full, ..Config::default() };
        let mut world = World::new(config, Hashes::Spread);
        world.engine.report_evictions();
        Self { world, written: 0 }
    }

    fn set(&mut self, key: &str) {
        let answer = self.world.ask_one(Ask::set(key, vec![b'v'; VALUE_BYTES]));
        assert!(matches!(answer, Answer::Stored { .. }), "{key}: {answer:?}");
    }

    fn read(&mut self, key: &str, times: usize) {
        for _ in 0..times {
            assert!(self.world.value(key).is_some(), "{key} is there");
        }
    }

    fn has(&mut self, key: &str) -> bool {
        self.world.value(key).is_some()
    }

    /// Writes so many items that nobody ever asks for.
    fn scan(&mut self, count: usize) {
        for _ in 0..count {
            self.set(&format!("scan:{}", self.written));
            self.written += 1;
        }
    }

    fn queues(&mut self) -> [usize; 2] {
        self.world.figures().queues.map(|(queue, _)| queue.records)
    }
}

fn keys(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}:{number}")).collect()
}

#[test]
fn what_was_read_outlives_a_scan_and_what_was_not_does_not() {
    let mut cache = Cache::new(WhenFull::Evict);
    for (name, reads) in [("never", 0), ("once", 1), ("often", 9)] {
        for key in keys(name, 300) {
            cache.set(&key);
            cache.read(&key, reads);
        }
    }
    cache.scan(FIT * 3);
    let left =
        ["never", "once", "often"].map(|name| keys(name, 300).iter().filter(|key| cache.has(key)).count());
    assert_eq!(left, [0, 300, 300]);
    cache.world.engine.verify().unwrap();
    let [small, main] = cache.queues();
    // A stranger may be taken for one that comes back.
    assert!((600..605).contains(&main), "{main} are in the main queue");
    assert!(small > FIT / 2, "{small} of the scan are there");
}

#[test]
fn a_long_item_must_be_read_more_often_to_stay() {
    let mut cache = Cache::new(WhenFull::Evict);
    // Two and six times as long as what is scanned, and in a block of its own.
    let lengths = [2000, 6000, 30_000];
    for reads in 1..4 {
        for len in lengths {
            let key = format!("{len}:{reads}");
            cache.world.ask_one(Ask::set(&key, vec![b'v'; len]));
            cache.read(&key, reads);
        }
    }
    cache.scan(FIT * 2);
    let stay = lengths.map(|len| (1..4).find(|reads| cache.has(&format!("{len}:{reads}"))));
    assert_eq!(stay, [Some(2), Some(2), Some(3)]);
}

#[test]
fn what_comes_back_soon_goes_to_the_main_queue() {
    let mut cache = Cache::new(WhenFull::Evict);
    cache.scan(FIT + 1000);
    let back = "scan:10";
    assert!(!cache.has(back));
    cache.set(back);
    let counters = cache.world.figures().counters;
    assert_eq!((counters.ghost_hits, cache.queues()[1]), (1, 1));
    cache.scan(FIT * 2);
    assert!(cache.has(back), "the main queue is not full");
    // Of those that left long ago hardly any is known.
    for number in 11..111 {
        cache.set(&format!("scan:{number}"));
    }
    let hits = cache.world.figures().counters.ghost_hits;
    assert!(hits < 5, "{hits} of 100 are known");
}

#[test]
fn the_main_queue_evicts_too_when_it_holds_nearly_all() {
    let mut cache = Cache::new(WhenFull::Evict);
    for round in 0..3 {
        for key in keys(&format!("round{round}"), FIT) {
            cache.set(&key);
            cache.read(&key, 1);
        }
    }
    let [small, main] = cache.queues();
    assert!(small < main, "{small} in the small queue, {main} in the main one");
    let counters = cache.world.figures().counters;
    assert!(counters.evicted_main as usize > FIT, "{} left the main queue", counters.evicted_main);
    assert!(keys("round2", FIT).iter().rev().take(FIT / 2).all(|key| cache.has(key)));
}

#[test]
fn an_item_of_the_main_queue_that_is_read_gets_another_round() {
    let mut cache = Cache::new(WhenFull::Evict);
    let loved = keys("loved", 100);
    for key in &loved {
        cache.set(key);
        cache.read(key, 1);
    }
    for round in 0..16 {
        for key in keys(&format!("round{round}"), FIT / 4) {
            cache.set(&key);
            cache.read(&key, 1);
            cache.scan(1);
        }
        for key in &loved {
            cache.read(key, 1);
        }
    }
    assert!(cache.world.figures().counters.evicted_main > 0);
    assert!(loved.iter().all(|key| cache.has(key)));
}

#[test]
fn an_item_that_is_written_again_keeps_its_queue_and_its_count() {
    let mut cache = Cache::new(WhenFull::Evict);
    // Of another length, so that it does not stay where it lies.
    let rewrite = |cache: &mut Cache, key: &str| {
        cache.world.ask_one(Ask::set(key, vec![b'w'; VALUE_BYTES + 20]));
    };
    cache.set("early");
    cache.read("early", 1);
    rewrite(&mut cache, "early");
    cache.scan(FIT + 1000);
    assert_eq!(cache.queues()[1], 1, "it was read before it was written again");
    rewrite(&mut cache, "early");
    assert_eq!(cache.queues()[1], 1);
    cache.scan(FIT);
    assert_eq!(cache.world.value("early"), Some(Bytes::from(vec![b'w'; VALUE_BYTES + 20])));
}

#[test]
fn an_item_that_is_written_where_it_lies_is_in_use() {
    let mut cache = Cache::new(WhenFull::Evict);
    cache.set("written");
    cache.set("idle");
    cache.world.ask_one(Ask::set("counted", "100"));
    for _ in 0..20 {
        cache.scan(FIT / 2);
        cache.set("written");
        let answer = cache.world.ask_one(Ask::count("counted", Direction::Increment, 1));
        assert!(matches!(answer, Answer::Counted { .. }), "{answer:?}");
    }
    assert_eq!(["written", "idle"].map(|key| cache.has(key)), [true, false]);
    assert_eq!(cache.world.value("counted").unwrap(), "120");
}

#[test]
fn what_cannot_be_held_does_not_empty_the_cache() {
    let config =
        Config { memory_bytes_max: LIMIT_BYTES, item_bytes_max: LIMIT_BYTES / 2, ..Config::default() };
    let mut world = World::new(config, Hashes::Spread);
    world.ask_one(Ask::set("small", "v"));
    world.ask_one(Ask::set("long", vec![b'v'; LIMIT_BYTES / 2 - 1000]));
    let answer = world.ask_one(Ask::concat(Concat::Append, "long", "x"));
    assert_eq!(answer, Answer::Refused(Refusal::OutOfMemory));
    assert_eq!(world.value("small").unwrap(), "v");
    assert_eq!(world.value("long").unwrap().len(), LIMIT_BYTES / 2 - 1000);
    assert_eq!(world.figures().counters.evictions, 0);
}

#[test]
fn one_write_gets_its_room_although_everything_was_read_often() {
    let mut cache = Cache::new(WhenFull::Evict);
    for key in keys("loved", FIT) {
        cache.set(&key);
    }
    for key in keys("loved", FIT) {
        if cache.has(&key) {
            cache.read(&key, 3);
        }
    }
    let moved_before = cache.world.figures().counters.bytes_moved;
    for key in keys("new", 50) {
        cache.set(&key);
        assert!(cache.has(&key));
    }
    let moved = cache.world.figures().counters.bytes_moved - moved_before;
    assert!(moved < LIMIT_BYTES as u64, "{moved} bytes were moved for 50 items");
}

#[test]
fn cleaning_makes_room_without_evicting() {
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        let mut cache = Cache::new(when_full);
        let kept = keys("kept", FIT / 2);
        for key in &kept {
            cache.set(key);
            cache.set("gone");
            cache.world.ask_one(Ask::delete("gone"));
        }
        for _ in 0..FIT * 2 {
            cache.set("gone");
            cache.world.ask_one(Ask::delete("gone"));
        }
        let counters = cache.world.figures().counters;
        assert_eq!(counters.evictions, 0, "with {when_full:?}");
        assert!(counters.items_moved > 0, "with {when_full:?}");
        assert!(kept.iter().all(|key| cache.has(key)));
        cache.world.engine.verify().unwrap();
    }
}

#[test]
fn a_flush_gives_all_memory_back_wherever_items_were_moved() {
    let mut cache = Cache::new(WhenFull::Evict);
    for key in keys("loved", 500) {
        cache.set(&key);
        cache.read(&key, 3);
    }
    cache.scan(FIT * 2);
    cache.world.ask_one(Ask::flush(Expiration::Never));
    cache.set("new");
    while cache.world.engine.maintain(cache.world.now) {}
    assert_eq!(cache.queues(), [1, 0]);
    assert!(cache.world.figures().used_segments <= 3);
    assert!(cache.has("new"));
}

/// A segment whose items end one after another is not read through every second.
#[test]
fn expired_items_are_swept_soon_and_not_all_the_time() {
    let mut cache = Cache::new(WhenFull::Evict);
    for (number, key) in keys("short", 1000).iter().enumerate() {
        cache.set(key);
        let expiration = Expiration::After(1 + number as u32 % 100);
        cache.world.ask_one(Ask::new(key, Command::Touch { expiration }));
    }
    let mut left = Vec::new();
    for _ in 0..120 {
        cache.world.now += 1;
        while cache.world.engine.maintain(cache.world.now) {}
        left.push(cache.queues()[0]);
    }
    assert!(left[..10].iter().all(|&left| left == 990), "{left:?}");
    for (second, &left) in left.iter().enumerate() {
        let alive = 1000 - (second + 1).min(100) * 10;
        assert!(
            (alive..=alive + 110).contains(&left),
            "{left} are there after {second} s, {alive} are alive"
        );
    }
}
