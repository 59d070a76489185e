//! The log alone.

use wire::Cas;

use super::record::Meta;
use super::*;
use crate::message::KeyHash;

const LIMIT: usize = 256 << 10;

fn header(key_len: usize, value_len: usize, marks: u16) -> RecordHeader {
    let meta = Meta { hash: KeyHash(1), cas: Cas::from_wire(1).unwrap(), flags: 0, expiration: 0 };
    RecordHeader::new(&meta, key_len, value_len, marks)
}

fn append(log: &mut Log, value: &[u8]) -> Address {
    let header = header(1, value.len(), 0);
    if !log.has_room(Queue::Small, header.record_bytes()) {
        assert!(log.open_segment(Queue::Small, 0));
    }
    log.append(Queue::Small, &header, b"k", value, None)
}

fn verify(log: &Log) {
    log.verify(|_| Ok(())).unwrap();
}

#[test]
fn records_read_as_they_were_written() {
    let mut log = Log::new(LIMIT).unwrap();
    let first = append(&mut log, b"first");
    let second = log.append(Queue::Small, &header(3, 5, 0), b"key", b"abcde", None);
    let large = log.append(Queue::Small, &header(3, 1 << 20, LARGE), b"big", &7_u32.to_be_bytes(), None);
    assert!(matches!(log.record(first).value, Stored::Inline(b"first")));
    let record = log.record(second);
    assert_eq!(record.key, b"key");
    assert!(matches!(record.value, Stored::Inline(b"abcde")));
    assert!(matches!(log.record(large).value, Stored::Block(7)));
    assert_eq!(log.queue_bytes(Queue::Small), (64 << 10) + (1 << 20));
    verify(&log);
    log.end(large);
    assert_eq!(log.queue_bytes(Queue::Small), 64 << 10);
    verify(&log);
}

#[test]
fn a_clients_version_stands_behind_the_value_and_survives_a_move() {
    let mut log = Log::new(LIMIT).unwrap();
    assert!(log.open_segment(Queue::Small, 0));
    for (marks, value, value_len) in [(0, &b"value"[..], 5), (LARGE, &7_u32.to_be_bytes(), 1 << 20)] {
        let at = log.append(Queue::Small, &header(3, value_len, marks | OWN_CAS), b"key", value, Some(77));
        assert_eq!((log.header(at).cas(), log.told_cas(at)), (1, 77));
        let there = log.append_copy(Queue::Small, at);
        log.end(at);
        assert_eq!((log.told_cas(there), log.key(there)), (77, &b"key"[..]));
        log.set_cas(there, Cas::from_wire(5).unwrap());
        assert_eq!((log.header(there).cas(), log.told_cas(there)), (5, 5));
        assert_eq!(log.header(there).value_len(), value_len);
        verify(&log);
    }
}

#[test]
fn a_segment_is_free_when_its_last_record_ends() {
    let mut log = Log::new(LIMIT).unwrap();
    let value = vec![0; 20_000];
    let records: Vec<_> = (0..9).map(|_| append(&mut log, &value)).collect();
    assert_eq!((log.used_segments(), log.warm_segments(), log.resident_segments()), (3, 0, 3));
    for &at in &records[3..6] {
        log.end(at);
    }
    assert_eq!((log.used_segments(), log.warm_segments()), (2, 1));
    assert_eq!(log.live_bytes(), 6 * 20_040);
    verify(&log);
    assert!(log.cool());
    assert_eq!((log.warm_segments(), log.resident_bytes()), (0, 128 << 10));
    assert!(!log.cool());
    verify(&log);
}

#[test]
fn a_segment_that_is_lent_is_free_when_it_comes_back() {
    let mut log = Log::new(LIMIT).unwrap();
    let at = append(&mut log, &vec![7; 20_000]);
    let short = append(&mut log, b"short");
    assert!(log.lend_value(short).is_none());
    let loan = log.lend_value(at).unwrap();
    assert_eq!(log.value_mut(at), None);
    assert!(!log.rewrite(at, &header(1, 20_000, 0), &vec![8; 20_000]));
    let mut walk = log.walk_oldest(Queue::Small).unwrap();
    while let Some(at) = log.next_live(&mut walk) {
        log.end(at);
    }
    assert_eq!((log.used_segments(), log.warm_segments(), log.lent_segments()), (0, 0, 1));
    verify(&log);
    assert!(!log.take_back());
    assert!(loan.iter().all(|&byte| byte == 7));
    drop(loan);
    assert!(log.take_back());
    assert_eq!((log.warm_segments(), log.lent_segments()), (1, 0));
}

#[test]
fn a_record_is_rewritten_where_it_lies_if_it_keeps_its_length() {
    let mut log = Log::new(LIMIT).unwrap();
    let at = append(&mut log, b"1234567");
    append(&mut log, b"behind");
    assert!(log.rewrite(at, &header(1, 5, 0), b"abcde"), "the padding makes up for it");
    assert!(matches!(log.record(at).value, Stored::Inline(b"abcde")));
    assert!(!log.rewrite(at, &header(1, 8, 0), b"12345678"));
    verify(&log);
}

#[test]
fn the_deadest_segment_is_found_and_walked() {
    let mut log = Log::new(LIMIT).unwrap();
    let value = vec![0; 20_000];
    let records: Vec<_> = (0..9).map(|_| append(&mut log, &value)).collect();
    for at in [1, 3, 4] {
        log.end(records[at]);
    }
    let mut walk = log.walk_deadest(20_000).unwrap();
    assert_eq!([log.next_live(&mut walk), log.next_live(&mut walk)], [Some(records[5]), None]);
    assert!(log.walk_deadest(60_000).is_none());
    log.end(records[5]);
    let mut walk = log.walk_oldest(Queue::Small).unwrap();
    assert_eq!(log.next_live(&mut walk), Some(records[0]));
    log.end(records[0]);
    log.end(records[2]);
    assert_eq!(log.next_live(&mut walk), None, "the segment is free");
}

#[test]
fn segments_are_powers_of_two_within_their_bounds() {
    for (limit, bytes) in
        [(1 << 20, 64 << 10), (64 << 20, 64 << 10), (200 << 20, 128 << 10), (8 << 30, 1 << 20)]
    {
        assert_eq!(segment_bytes(limit), bytes);
    }
}
