//! Single behaviours of the engine.

use memwire::config::Config;
use memwire::figures::{Group, StorageStats};
use memwire::message::{Command, Refusal};
use memwire::storage::engine::WhenFull;
use memwire::storage::log::record::record_bytes;
use wire::{Concat, Direction, Expiration, OnMiss, StoreMode};

use crate::world::{Answer, Ask, Hashes, World, sizes, tiny, without_versions};

/// The longest value under `k` that lies in the log, with segments of 64 KiB.
const INLINE_BYTES_MAX: usize = (64 << 10) / 8 - 32 - 1;

fn stored(cas: u64) -> Answer {
    Answer::Stored { cas }
}

fn counted(value: u64, cas: u64) -> Answer {
    Answer::Counted { value, cas }
}

#[test]
fn a_counter_that_gets_shorter_is_padded_in_place() {
    let mut world = World::ample();
    world.ask_one(Ask::set("k", "100"));
    let before = world.figures();
    assert_eq!(world.ask_one(Ask::count("k", Direction::Decrement, 1)), counted(99, 2));
    assert_eq!(world.value("k").unwrap(), "99 ");
    assert_eq!(world.ask_one(Ask::count("k", Direction::Increment, 1)), counted(100, 3));
    assert_eq!(world.value("k").unwrap(), "100");
    let after = world.figures();
    assert_eq!(after.counters.total_items, before.counters.total_items);
    assert_eq!(after.live_bytes, before.live_bytes);
}

#[test]
fn a_counter_that_gets_longer_is_written_again() {
    let mut world = World::ample();
    world.ask_one(Ask::set("k", "99"));
    assert_eq!(world.ask_one(Ask::count("k", Direction::Increment, 1)), counted(100, 2));
    assert_eq!(world.value("k").unwrap(), "100");
    assert_eq!(world.figures().counters.total_items, 2);
}

#[test]
fn an_increment_wraps_at_2_64_and_a_decrement_stops_at_0() {
    let mut world = World::ample();
    world.ask_one(Ask::set("k", u64::MAX.to_string()));
    assert_eq!(world.ask_one(Ask::count("k", Direction::Increment, 1)), counted(0, 2));
    assert_eq!(world.value("k").unwrap(), format!("{:<20}", 0));
    assert_eq!(world.ask_one(Ask::count("k", Direction::Decrement, 7)), counted(0, 3));
}

#[test]
fn a_counter_is_created_with_its_initial_value_whatever_the_cas() {
    let mut world = World::ample();
    let create = Command::Count {
        direction: Direction::Decrement,
        delta: 5,
        on_miss: OnMiss::Create { initial: 42, expiration: Expiration::After(10) },
        cas: Some(77),
    };
    assert_eq!(world.ask_one(Ask::new("k", create)), counted(42, 1));
    assert_eq!(world.value("k").unwrap(), "42");
    world.now += 10;
    assert_eq!(world.value("k"), None);
}

#[test]
fn a_counter_keeps_its_flags_and_its_expiration() {
    let mut world = World::ample();
    let set = Command::Store {
        mode: StoreMode::Set,
        flags: 0xbeef,
        expiration: Expiration::After(10),
        cas: None,
        value: crate::world::NOWHERE,
    };
    world.ask_one(Ask { command: set, ..Ask::set("k", "9") });
    world.ask_one(Ask::count("k", Direction::Increment, 1));
    assert!(matches!(world.ask_one(Ask::get("k")), Answer::Hit { flags: 0xbeef, .. }));
    world.now += 9;
    assert!(world.value("k").is_some());
    world.now += 1;
    assert_eq!(world.value("k"), None);
}

#[test]
fn a_number_in_a_large_value_counts_and_keeps_the_length() {
    let mut world = World::ample();
    let value = format!("{:<20000}", 41);
    world.ask_one(Ask::set("k", &value));
    assert_eq!(world.ask_one(Ask::count("k", Direction::Increment, 1)), counted(42, 2));
    assert_eq!(world.value("k").unwrap(), format!("{:<20000}", 42));
    assert_eq!(world.figures().block_count, 1);
}

#[test]
fn a_number_in_a_value_over_512_kib_is_none_even_with_a_stale_cas() {
    let mut world = World::ample();
    world.ask_one(Ask::set("k", ["41", &" ".repeat(600_000)].concat()));
    let count =
        Command::Count { direction: Direction::Increment, delta: 1, on_miss: OnMiss::Fail, cas: Some(77) };
    assert_eq!(world.ask_one(Ask::new("k", count)), Answer::NonNumeric);
    world.ask_one(Ask::set("k", ""));
    assert_eq!(world.ask_one(Ask::new("k", count)), Answer::NonNumeric);
    world.ask_one(Ask::set("k", "junk"));
    assert_eq!(world.ask_one(Ask::new("k", count)), Answer::Exists);
}

#[test]
fn a_value_grows_out_of_the_log_into_a_block() {
    let mut world = World::ample();
    let start = vec![b'a'; INLINE_BYTES_MAX - 1];
    world.ask_one(Ask::set("k", &start));
    assert_eq!(world.ask_one(Ask::concat(Concat::Append, "k", "b")), stored(2));
    assert_eq!(world.figures().block_count, 0);
    assert_eq!(world.ask_one(Ask::concat(Concat::Prepend, "k", "c")), stored(3));
    assert_eq!(world.figures().block_count, 1);
    assert_eq!(world.ask_one(Ask::concat(Concat::Append, "k", "d")), stored(4));
    let figures = world.figures();
    assert_eq!((figures.block_count, figures.block_bytes), (1, 8192));
    assert_eq!(world.value("k").unwrap(), [b"c", &start[..], b"bd"].concat());
    world.ask_one(Ask::set("k", "small"));
    let figures = world.figures();
    assert_eq!((figures.block_count, figures.block_bytes), (0, 0));
}

#[test]
fn an_append_that_grows_too_long_is_not_stored_and_the_value_stays() {
    let mut world = World::new(Config { item_bytes_max: 20_000, ..Config::default() }, Hashes::Spread);
    world.ask_one(Ask::set("k", vec![b'a'; 19_999]));
    assert_eq!(world.ask_one(Ask::concat(Concat::Append, "k", "bc")), Answer::NotStored);
    assert_eq!(world.ask_one(Ask::concat(Concat::Append, "k", "b")), stored(2));
    assert_eq!(world.value("k").unwrap().len(), 20_000);
    assert_eq!(world.figures().counters.store_too_large, 1);
}

#[test]
fn of_items_that_nobody_reads_the_first_ones_are_evicted_first() {
    let mut world = World::new(tiny(WhenFull::Evict), Hashes::Spread);
    let key = |number: usize| format!("key:{number}");
    let mut written = Vec::new();
    for number in 0..1000 {
        world.ask_one(Ask::set(&key(number), vec![b'v'; 4000]));
        written.push(number);
        if number % 7 == 0 {
            // Written again at another length, it is among the newest.
            world.ask_one(Ask::set(&key(number / 2 * 2), vec![b'w'; 4010]));
            written.retain(|&old| old != number / 2 * 2);
            written.push(number / 2 * 2);
        }
    }
    let there: Vec<bool> = written.iter().map(|&number| world.value(&key(number)).is_some()).collect();
    let first = there.iter().position(|&there| there).unwrap();
    assert!(there[first..].iter().all(|&there| there), "the newest ones are there");
    let figures = world.figures();
    assert_eq!(figures.item_count, written.len() - first);
    assert!(figures.item_bytes > (1 << 20) / 2, "{} bytes of 1 MiB are used", figures.item_bytes);
    assert!(figures.counters.evictions as usize >= first);
    assert_eq!(figures.counters.evicted_unfetched, figures.counters.evictions);
}

#[test]
fn where_nothing_is_evicted_a_full_memory_refuses_and_a_delete_makes_room() {
    let mut world = World::new(tiny(WhenFull::Refuse), Hashes::Spread);
    let key = |number: usize| format!("key:{number}");
    let set = |number: usize| Ask::set(&key(number), vec![b'v'; 4000]);
    let refused = Answer::Refused(Refusal::OutOfMemory);
    let count = (0..1000).take_while(|&number| world.ask_one(set(number)) != refused).count();
    assert!((200..260).contains(&count), "{count} items fit");
    for number in 0..count {
        assert!(world.value(&key(number)).is_some(), "{number}");
    }
    let figures = world.figures();
    assert_eq!((figures.counters.evictions, figures.counters.store_no_memory), (0, 1));
    // The older value of an APPEND that is refused stays, that of a SET goes.
    assert_eq!(world.ask_one(Ask::concat(Concat::Append, &key(6), vec![b'x'; 100])), refused);
    assert_eq!(world.value(&key(6)).unwrap().len(), 4000);
    assert!(
        matches!(world.ask_one(set(4)), Answer::Stored { .. }),
        "a value of the same length takes no room"
    );
    assert_eq!(world.ask_one(Ask::set(&key(5), vec![b'v'; 4100])), refused);
    assert_eq!(world.value(&key(5)), None);
    for number in 0..count / 2 {
        world.ask_one(Ask::delete(&key(number)));
    }
    for number in 0..count / 2 {
        assert!(matches!(world.ask_one(set(number)), Answer::Stored { .. }), "{number}");
    }
    assert_eq!(world.figures().item_count, count);
}

#[test]
fn writing_one_key_again_and_again_costs_no_other_item() {
    for when_full in [WhenFull::Evict, WhenFull::Refuse] {
        let mut world = World::new(tiny(when_full), Hashes::Spread);
        let key = |number: usize| format!("key:{number}");
        for number in 0..60 {
            world.ask_one(Ask::set(&key(number), vec![b'v'; 4000]));
            for _ in 0..20 {
                world.ask_one(Ask::set("hot", vec![b'w'; 4000]));
            }
        }
        for number in 0..60 {
            assert!(world.value(&key(number)).is_some(), "{number} with {when_full:?}");
        }
        let figures = world.figures();
        assert_eq!((figures.item_count, figures.counters.evictions), (61, 0));
    }
}

#[test]
fn a_large_value_evicts_no_more_than_its_own_room() {
    let config = Config { memory_bytes_max: 16 << 20, ..Config::default() };
    let mut world = World::new(config, Hashes::Spread);
    let set = |number: usize| Ask::set(&format!("key:{number}"), vec![b'v'; 100_000]);
    world.ask((0..200).map(set));
    let full = world.figures().item_count;
    assert!((140..168).contains(&full), "{full} items of 100 KB are in 16 MiB");
    // Many more than the records of a segment.
    for number in 200..3000 {
        world.ask_one(set(number));
        if number % 50 == 0 {
            let count = world.figures().item_count;
            assert!(count >= full - 2, "{count} items are left of {full}, after {number}");
        }
    }
}

#[test]
fn copies_put_the_rest_of_a_run_off() {
    let config = Config { item_bytes_max: 1 << 20, ..Config::default() };
    let mut world = World::new(config, Hashes::Spread);
    world.ask_one(Ask::set("k", vec![b'1'; 1 << 20]));
    let append = || Ask::concat(Concat::Append, "k", "");
    let answers = world.execute(&[(0..100).map(|_| append()).collect()]);
    assert_eq!(answers[0].len(), 1, "one copy of 1 MiB is enough for one turn");
    world.ask_one(Ask::set("n", [b"7".as_slice(), &vec![b' '; 400_000]].concat()));
    let count = || Ask::count("n", Direction::Increment, 1);
    let answers = world.execute(&[(0..100).map(|_| count()).collect()]);
    assert_eq!(answers[0].len(), 1);
}

#[test]
fn where_nothing_is_evicted_the_room_of_expired_items_is_used_again() {
    let mut world = World::new(tiny(WhenFull::Refuse), Hashes::Spread);
    let refused = Answer::Refused(Refusal::OutOfMemory);
    world.ask_one(Ask::set("for ever", vec![b'v'; 4000]));
    let touch = Command::Touch { expiration: Expiration::After(2) };
    let mut count = 0;
    while world.ask_one(Ask::set(&format!("key:{count}"), vec![b'v'; 4000])) != refused {
        world.ask_one(Ask::new(format!("key:{count}"), touch));
        count += 1;
    }
    world.now += 1;
    assert_eq!(world.ask_one(Ask::set("new", vec![b'v'; 4000])), refused, "they have a second left");
    world.now += 1;
    for number in 0..count / 2 {
        let answer = world.ask_one(Ask::set(&format!("new:{number}"), vec![b'v'; 4000]));
        assert!(matches!(answer, Answer::Stored { .. }), "{number}: {answer:?}");
    }
    assert!(world.value("for ever").is_some());
}

#[test]
fn expired_items_give_their_memory_back_when_nobody_asks() {
    let mut world = World::ample();
    let touch = |seconds| Command::Touch { expiration: Expiration::After(seconds) };
    for number in 0..3000 {
        let key = format!("key:{number}");
        world.ask([
            Ask::set(&key, vec![b'v'; 1000]),
            Ask::new(&key, touch(if number % 10 == 0 { 60 } else { 5 })),
        ]);
    }
    world.now += 5;
    for _ in 0..10 {
        world.engine.maintain(world.now);
    }
    let figures = world.figures();
    assert_eq!((figures.item_count, figures.counters.reclaimed), (300, 2700));
    world.now += 55;
    while world.engine.maintain(world.now) {}
    let figures = world.figures();
    assert_eq!((figures.item_count, figures.live_bytes), (0, 0));
}

/// Eight of these records fill a segment as far as they can, and leave a tenth of it.
#[test]
fn a_full_memory_refuses_values_that_leave_room_at_the_ends_of_segments() {
    let mut world = World::new(tiny(WhenFull::Refuse), Hashes::Spread);
    let answers = world.ask((0..1000).map(|number| Ask::set(&format!("key:{number}"), vec![b'v'; 7300])));
    assert_eq!(answers[999], Answer::Refused(Refusal::OutOfMemory));
}

#[test]
fn a_large_value_that_is_being_answered_outlives_its_deletion() {
    let mut world = World::ample();
    let value = vec![b'v'; 50_000];
    let mut answers = world.execute(&[vec![
        Ask::set("k", &value),
        Ask::get("k"),
        Ask::set("k", "other"),
        Ask::get("k"),
        Ask::delete("k"),
    ]]);
    let answers = answers.remove(0);
    assert!(matches!(&answers[1], Answer::Hit { value: hit, .. } if hit.0 == value));
    assert!(matches!(&answers[3], Answer::Hit { value: hit, .. } if hit.0 == "other"));
    assert_eq!(world.meter.bytes(), 0);
}

#[test]
fn sizes_are_counted_in_steps_of_32_bytes() {
    let mut world = World::new(Config { track_sizes: true, ..Config::default() }, Hashes::Spread);
    let size = |value_len| record_bytes(1, value_len).next_multiple_of(32);
    world.ask([Ask::set("a", ""), Ask::set("b", ""), Ask::set("c", vec![0; 1000])]);
    let told = sizes(world.stats(Group::Sizes));
    assert_eq!(told, [(size(0), 2), (size(1000), 1)].into());
    world.ask([Ask::set("b", vec![0; 999]), Ask::delete("a")]);
    assert_eq!(sizes(world.stats(Group::Sizes)), [(size(1000), 2)].into());
    world.ask([Ask::concat(Concat::Append, "b", vec![0; 20_000])]);
    let told = sizes(world.stats(Group::Sizes));
    assert_eq!(told, [(size(1000), 1), (size(20_999), 1)].into());
    world.ask([Ask::flush(Expiration::Never)]);
    while world.engine.maintain(world.now) {}
    assert_eq!(sizes(world.stats(Group::Sizes)), [].into());
}

#[test]
fn sizes_that_are_not_counted_are_not_told() {
    assert!(matches!(World::ample().stats(Group::Sizes), StorageStats::Sizes(None)));
}

#[test]
fn detail_counts_from_on_to_off() {
    let mut world = World::ample();
    let dump = |world: &mut World| match world.stats(Group::DetailDump) {
        StorageStats::Detail(dump) => dump,
        other => panic!("no dump: {other:?}"),
    };
    world.ask([Ask::set("user:1", "v"), Ask::get("user:1")]);
    assert_eq!(dump(&mut world), "END\r\n");
    world.stats(Group::DetailOn);
    world.ask([
        Ask::set("user:1", "v"),
        Ask::store(StoreMode::Add, "user:1", "v", None),
        Ask::concat(Concat::Append, "user:9", "v"),
        Ask::get("user:1"),
        Ask::get("user:2"),
        Ask::new("user:1", Command::GetAndTouch { expiration: Expiration::Never }),
        Ask::delete("user:1"),
        Ask::delete("user:1"),
        Ask::set("none", "v"),
    ]);
    let counts = "PREFIX user get 3 hit 2 set 3 del 2\r\nEND\r\n";
    assert_eq!(dump(&mut world), counts);
    world.stats(Group::DetailOff);
    world.ask([Ask::get("user:1")]);
    assert_eq!(dump(&mut world), counts);
    world.stats(Group::Reset);
    assert_eq!(dump(&mut world), "END\r\n");
}

#[test]
fn hidden_versions_read_as_0_and_match_nothing() {
    let mut world = World::new(without_versions(), Hashes::Spread);
    assert_eq!(world.ask_one(Ask::set("k", "7")), stored(0));
    assert!(matches!(world.ask_one(Ask::get("k")), Answer::Hit { cas: 0, .. }));
    for cas in 1..5 {
        let store = |mode| Ask::store(mode, "k", "7", Some(cas));
        assert_eq!(world.ask_one(store(StoreMode::Set)), stored(0), "stores do not heed it");
        assert_eq!(world.ask_one(store(StoreMode::Add)), Answer::Exists);
        let delete = Command::Delete { cas: Some(cas).filter(|cas| *cas != 0) };
        assert_eq!(world.ask_one(Ask::new("k", delete)), Answer::Exists);
    }
    assert_eq!(world.ask_one(Ask::count("k", Direction::Increment, 1)), counted(8, 0));
    let touch = Command::Touch { expiration: Expiration::After(1) };
    assert_eq!(world.ask_one(Ask::new("k", touch)), Answer::Touched { flags: 0, cas: 0 });
    assert_eq!(
        world.ask_one(Ask::flush(Expiration::Never)),
        Answer::Done,
        "a flush tells versions apart all the same"
    );
    assert_eq!(world.value("k"), None);
}

#[test]
fn a_flush_to_come_ends_what_was_written_after_the_command_too() {
    let mut world = World::ample();
    world.ask([Ask::set("before", "v"), Ask::flush(Expiration::After(10))]);
    world.now += 9;
    world.ask([Ask::set("after", "v")]);
    assert!(world.value("before").is_some());
    world.now += 1;
    assert_eq!((world.value("before"), world.value("after")), (None, None));
    world.ask([Ask::set("later", "v")]);
    assert!(world.value("later").is_some(), "the same second, but behind the line");
}

#[test]
fn what_expired_or_was_flushed_is_counted_apart() {
    let mut world = World::ample();
    let touch = Command::Touch { expiration: Expiration::After(1) };
    world.ask([Ask::set("a", "v"), Ask::set("b", "v"), Ask::new("a", touch)]);
    world.now += 1;
    assert_eq!(world.value("a"), None);
    world.ask([Ask::flush(Expiration::Never)]);
    assert_eq!(world.value("b"), None);
    let counters = world.figures().counters;
    assert_eq!((counters.get_expired, counters.touch_hits), (1, 1));
    assert_eq!((counters.reclaimed, counters.expired_unfetched), (2, 1));
}

#[test]
fn reads_wait_for_the_next_batch_behind_long_answers_and_writes_before_them_do_not() {
    let mut world = World::ample();
    world.ask_one(Ask::set("k", vec![b'v'; 300 << 10]));
    let run = vec![Ask::get("k"), Ask::set("other", "v"), Ask::get("missing"), Ask::set("behind", "v")];
    let answers = world.execute(&[run.clone(), run]);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(world.value("behind"), None, "what is behind the read waits, too");
    assert_eq!(world.value("other").unwrap(), "v");
}

#[test]
fn a_batch_with_long_answers_leaves_whole_runs() {
    let mut world = World::ample();
    world.ask_one(Ask::set("k", vec![b'v'; 1 << 20]));
    let runs = vec![vec![Ask::get("k"), Ask::set("x", "v")]; 4];
    let answers = world.execute(&runs);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 0, 0]);
}
