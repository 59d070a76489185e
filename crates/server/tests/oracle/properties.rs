//! Engine and map are told the same stories.

use memwire::config::Config;
use memwire::limits::{BYTES_PER_BATCH, BYTES_PER_RUN};
use memwire::message::Command;
use memwire::storage::engine::WhenFull;
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
}

/// Tells engine and map the same story, and compares all that they say.
fn tell(story: &Story, subject: Subject, config: Config, hashes: Hashes, losses: Losses) {
    let mut oracle = Oracle::new(config.item_bytes_max);
    let mut world = World::new(config, hashes);
    for chapter in story {
        world.now += chapter.pause;
        if chapter.idle {
            while world.engine.maintain(world.now) {}
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
            check_what_is_put_off(&runs, &answers);
            for (run, answers) in runs.iter_mut().zip(&answers) {
                for (ask, answer) in run.iter().zip(answers) {
                    oracle.judge(ask, answer, world.now, losses);
                }
                run.drain(..answers.len());
            }
            runs.retain(|run| !run.is_empty());
            check_memory(&world);
        }
    }
    check_inventory(&mut world, &mut oracle, subject, losses);
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
fn check_inventory(world: &mut World, oracle: &mut Oracle, subject: Subject, losses: Losses) {
    for number in 0..subject.key_count {
        let ask = Ask::new(key(number), Command::Get);
        let answer = world.ask_one(ask.clone());
        oracle.judge(&ask, &answer, world.now, losses);
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
