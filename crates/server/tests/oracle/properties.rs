//! Engine and map are told the same stories.

use std::collections::HashSet;

use bytes::Bytes;
use memwire::config::Config;
use memwire::limits::{BYTES_PER_BATCH, BYTES_PER_RUN};
use memwire::message::Command;
use memwire::storage::EngineConfig;
use memwire::storage::engine::{Stress, WhenFull};
use memwire::storage::log::record::record_bytes;
use memwire::storage::log::{is_inline, segment_bytes};
use memwire_simulator::oracle::{Losses, Oracle};
use proptest::prelude::*;
use proptest::sample::select;

use crate::stories::{Story, Subject, key, stories};
use crate::world::{Answer, Ask, Hashes, World, tiny};

const MIXED: Subject =
    Subject { key_count: 6, large_weight: 3, set_weight: 10, get_weight: 14, runs_max: 3, ops_max: 24 };

/// Writes more than a tiny memory holds.
const CROWDED: Subject =
    Subject { key_count: 200, large_weight: 5, set_weight: 60, get_weight: 15, runs_max: 4, ops_max: 80 };

/// Reads more than one batch answers.
const LONG_ANSWERS: Subject =
    Subject { key_count: 3, large_weight: 40, set_weight: 10, get_weight: 40, runs_max: 1, ops_max: 40 };

/// Writes, reads and keeps values of the lengths that are lent.
const LENDING: Subject =
    Subject { key_count: 40, large_weight: 3, set_weight: 40, get_weight: 60, runs_max: 3, ops_max: 60 };

fn ample() -> Config {
    Config { item_bytes_max: 200_000, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn with_ample_memory_every_answer_is_the_maps(
        story in stories(MIXED),
        hashes in select(vec![Hashes::Spread, Hashes::Colliding]),
    ) {
        tell(&story, MIXED, ample(), hashes, Losses::None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn answers_that_are_put_off_are_the_same_answers(story in stories(LONG_ANSWERS)) {
        let at_once = answers(&story, World::ask);
        let put_off = answers(&story, |world, asks| {
            let mut answers = Vec::new();
            let mut rest = asks;
            while !rest.is_empty() {
                let executed = world.execute(std::slice::from_ref(&rest)).remove(0);
                rest.drain(..executed.len());
                answers.extend(executed);
            }
            answers
        });
        prop_assert_eq!(at_once, put_off);
    }

    #[test]
    fn with_little_memory_only_old_items_are_missing(story in stories(CROWDED)) {
        tell(&story, CROWDED, tiny(WhenFull::Evict), Hashes::Spread, Losses::Evictions);
    }

    #[test]
    fn where_nothing_is_evicted_nothing_is_missing(story in stories(CROWDED)) {
        tell(&story, CROWDED, tiny(WhenFull::Refuse), Hashes::Spread, Losses::Refusals);
    }

    #[test]
    fn what_is_moved_with_every_batch_is_the_same(
        story in stories(CROWDED),
        when_full in select(vec![WhenFull::Evict, WhenFull::Refuse]),
        hashes in select(vec![Hashes::Spread, Hashes::Colliding]),
        newest_cas in select(vec![0, u64::MAX - 40, u64::MAX - 1]),
        batches_lent in 0..4_usize,
    ) {
        tell_under_stress(&story, CROWDED, when_full, hashes, newest_cas, batches_lent);
    }

    #[test]
    fn what_is_lent_does_not_change(
        story in stories(LENDING),
        when_full in select(vec![WhenFull::Evict, WhenFull::Refuse]),
        batches_lent in 1..6_usize,
    ) {
        tell_under_stress(&story, LENDING, when_full, Hashes::Spread, 0, batches_lent);
    }
}

/// A few segments, everything moved with every batch, what is free overwritten, and answers that take their time.
fn tell_under_stress(
    story: &Story,
    subject: Subject,
    when_full: WhenFull,
    hashes: Hashes,
    newest_cas: u64,
    batches_lent: usize,
) {
    let config = tiny(when_full);
    let engine = EngineConfig { stress: Stress::Relocate, newest_cas, ..config.engine() };
    let oracle = Oracle::new(config.item_bytes_max).behind_version(newest_cas);
    let mut world = World::with_engine(config, engine, hashes);
    world.batches_lent = batches_lent;
    let losses = if when_full == WhenFull::Evict { Losses::Evictions } else { Losses::Refusals };
    tell_world(story, subject, world, oracle, losses);
}

/// Tells engine and map the same story, and compares all that they say.
fn tell(story: &Story, subject: Subject, config: Config, hashes: Hashes, losses: Losses) {
    let oracle = Oracle::new(config.item_bytes_max);
    tell_world(story, subject, World::new(config, hashes), oracle, losses);
}

fn tell_world(story: &Story, subject: Subject, mut world: World, mut oracle: Oracle, losses: Losses) {
    world.engine.report_evictions();
    let mut evicted = Evicted::default();
    for chapter in story {
        world.now += chapter.pause;
        if chapter.idle {
            while world.engine.maintain(world.now) {}
            evicted.note(&mut world);
        }
        oracle.advance(world.now);
        let mut foreseen = oracle.clone();
        let mut runs: Vec<Vec<Ask>> = Vec::new();
        for run in &chapter.runs {
            runs.push(
                run.iter()
                    .map(|plan| {
                        let ask = plan.resolve(&foreseen);
                        foreseen.apply(&ask, world.now);
                        ask
                    })
                    .collect(),
            );
        }
        while !runs.is_empty() {
            let answers = world.execute(&runs);
            let evicted_now = evicted.note(&mut world);
            check_what_is_put_off(&runs, &answers);
            for (run, answers) in runs.iter_mut().zip(&answers) {
                for (ask, answer) in run.iter().zip(answers) {
                    oracle.judge(ask, answer, world.now, evicted.explain(ask, losses));
                    // What was evicted before it was there again explains nothing from here on.
                    if matches!(answer, Answer::Hit { .. } | Answer::Stored { .. })
                        && !evicted_now.contains(&ask.key)
                    {
                        evicted.keys.remove(&ask.key);
                    }
                }
                run.drain(..answers.len());
            }
            runs.retain(|run| !run.is_empty());
            check_memory(&world);
            world.engine.verify().unwrap();
        }
    }
    check_inventory(&mut world, &mut oracle, subject, losses, &mut evicted);
}

/// The keys that the engine has reported as evicted.
#[derive(Default)]
struct Evicted {
    keys: HashSet<Bytes>,
}

impl Evicted {
    /// Takes the report, and gives what was new in it.
    fn note(&mut self, world: &mut World) -> HashSet<Bytes> {
        let new: HashSet<Bytes> = world.engine.take_evicted().into_iter().map(Bytes::from).collect();
        self.keys.extend(new.iter().cloned());
        new
    }

    /// What may be missing under this key.
    fn explain(&self, ask: &Ask, losses: Losses) -> Losses {
        match losses {
            Losses::Evictions if !self.keys.contains(&ask.key) => Losses::Refusals,
            losses => losses,
        }
    }
}

/// What one engine answers to all of a story's operations.
fn answers(story: &Story, mut ask: impl FnMut(&mut World, Vec<Ask>) -> Vec<Answer>) -> Vec<Answer> {
    let mut world = World::new(ample(), Hashes::Spread);
    let mut oracle = Oracle::new(world.config.item_bytes_max);
    let mut answers = Vec::new();
    for chapter in story {
        world.now += chapter.pause;
        oracle.advance(world.now);
        let plans = chapter.runs.iter().flatten();
        let asks = plans
            .map(|plan| {
                let ask = plan.resolve(&oracle);
                oracle.apply(&ask, world.now);
                ask
            })
            .collect();
        answers.extend(ask(&mut world, asks));
    }
    answers
}

/// A run is left from a command on that can wait, where its answers and copies, or all of the batch's, have come to
/// their limit. What a command copied is not seen here: one that copies may explain why less was answered.
fn check_what_is_put_off(runs: &[Vec<Ask>], answers: &[Vec<Answer>]) {
    let mut batch_bytes = 0;
    let mut batch_copies = false;
    for (run, answers) in runs.iter().zip(answers) {
        let mut run_bytes = 0;
        for (at, ask) in run.iter().enumerate() {
            let is_full = run_bytes >= BYTES_PER_RUN || batch_bytes >= BYTES_PER_BATCH;
            if at == answers.len() {
                assert!(ask.can_wait(), "{ask:?} cannot wait");
                assert!(
                    is_full || batch_copies,
                    "{ask:?} waits for nothing: {run_bytes} bytes were answered"
                );
                break;
            }
            assert!(!(is_full && ask.can_wait()), "{ask:?} is executed: {run_bytes} bytes were answered");
            batch_copies |= matches!(ask.command, Command::Concat { .. } | Command::Count { .. });
            run_bytes += answers[at].value_len();
            batch_bytes += answers[at].value_len();
        }
    }
}

fn check_memory(world: &World) {
    let limit = world.config.memory_bytes_max;
    let used = world.engine.used_bytes();
    assert!(used <= limit + segment_bytes(limit), "{used} bytes are used, the limit is {limit}");
}

/// After every key was asked for, the engine counts the same items and bytes as the map.
fn check_inventory(
    world: &mut World,
    oracle: &mut Oracle,
    subject: Subject,
    losses: Losses,
    evicted: &mut Evicted,
) {
    for number in 0..subject.key_count {
        let ask = Ask::new(key(number), Command::Get);
        let answer = world.ask_one(ask.clone());
        evicted.note(world);
        oracle.judge(&ask, &answer, world.now, evicted.explain(&ask, losses));
    }
    let limit = world.config.memory_bytes_max;
    let figures = world.figures();
    let items = oracle.items();
    let item_bytes: usize = items.iter().map(|(key, item)| record_bytes(key.len(), item.value.len())).sum();
    let blocks: Vec<usize> = items
        .iter()
        .filter(|(key, item)| !is_inline(key.len(), item.value.len(), limit))
        .map(|(_, item)| item.value.len().next_multiple_of(4096))
        .collect();
    assert_eq!((figures.item_count, figures.item_bytes), (items.len(), item_bytes));
    assert_eq!((figures.block_count, figures.block_bytes), (blocks.len(), blocks.iter().sum()));
    assert_eq!(world.meter.bytes(), figures.block_bytes);
    assert!(
        oracle.lost <= figures.counters.evictions,
        "{} items are missing, {} were evicted",
        oracle.lost,
        figures.counters.evictions
    );
    assert!(losses == Losses::Evictions || figures.counters.evictions == 0);
    check_memory(world);
}
