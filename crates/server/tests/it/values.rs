//! Values of every size: the small ones in the log, the large ones in mappings of their own, and the borders between.

use std::collections::BTreeSet;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Client, Request, number, op, status, stored, wait_until};
use crate::harness::{Random, Server};

const ARGS: [&str; 4] = ["-m", "64", "-I", "8m"];
const KEY: &str = "key";
/// What is in front of a value in a SET.
const HEAD_BYTES: usize = 24 + 8 + KEY.len();
/// With `-m 64` a segment has 64 KiB, and a record may have an eighth of it.
const INLINE_RECORD_BYTES_MAX: usize = (64 << 10) / 8;
/// What is read in one turn.
const READ_BYTES: usize = 64 << 10;
/// What is read in one turn of a value that has a mapping of its own.
const LARGE_READ_BYTES: usize = 256 << 10;
const ITEM_BYTES_MAX: usize = 8 << 20;

/// So many bytes of which no two stretches are alike.
fn value(len: usize) -> Vec<u8> {
    const STRETCH_BYTES: usize = 64 << 10;
    let stretch = Random::new(len as u64).bytes(len.min(STRETCH_BYTES));
    let mut value = Vec::with_capacity(len);
    for number in 0_u64.. {
        let missing = len - value.len();
        if missing == 0 {
            break;
        }
        let start = value.len();
        value.extend_from_slice(&stretch[..missing.min(STRETCH_BYTES)]);
        let stamp = number.to_be_bytes();
        let stamped = stamp.len().min(value.len() - start);
        value[start..start + stamped].copy_from_slice(&stamp[..stamped]);
    }
    value
}

#[track_caller]
fn assert_value(client: &mut Client, key: &str, expected: &[u8], what: &str) {
    let found = client.get(key).unwrap_or_else(|| panic!("{what}: {key} is missing"));
    assert_eq!(found.len(), expected.len(), "{what}: the length of {key}");
    assert!(found == expected, "{what}: the bytes of {key}");
}

/// Sizes to either side of every border.
fn sizes() -> BTreeSet<usize> {
    let borders = [
        8,
        250,
        4 << 10,
        INLINE_RECORD_BYTES_MAX - 32 - KEY.len(),
        INLINE_RECORD_BYTES_MAX,
        READ_BYTES - HEAD_BYTES,
        READ_BYTES,
        LARGE_READ_BYTES,
        READ_BYTES - HEAD_BYTES + LARGE_READ_BYTES,
        1 << 20,
        3_000_000,
    ];
    let mut sizes: BTreeSet<usize> = (0..=3).collect();
    for border in borders {
        sizes.extend([border - 8, border - 1, border, border + 1, border + 8]);
    }
    sizes
}

#[test]
fn values_of_every_size_come_back_as_they_were_stored() {
    let server = Server::start(&ARGS);
    let mut client = Client::connect(&server);
    for len in sizes() {
        let value = value(len);
        let what = format!("{len} bytes");
        // In the same segment as what follows, so that the end of the value is found inside of what was read.
        let requests = [
            Request::store(op::SET, KEY, &value).extras(stored(5, 0)),
            Request::of(op::GETK, KEY).opaque(1),
            Request::of(op::GETQ, KEY).opaque(2),
            Request::new(op::NOOP).opaque(3),
        ];
        let stream: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        client.send_meanwhile(&stream, |client| {
            let cas = client.receive(op::SET, 0).cas;
            let hit = Answer::hit(5, &value, cas);
            assert!(client.receive(op::GETK, 1) == hit.clone().with_key(KEY), "{what}");
            assert!(client.receive(op::GETQ, 2) == hit, "{what}");
            assert_eq!(client.receive(op::NOOP, 3), Answer::done(0));
        });
    }
}

#[test]
fn appends_and_prepends_cross_every_border() {
    let server = Server::start(&ARGS);
    let mut client = Client::connect(&server);
    for len in sizes() {
        let what = format!("{len} bytes");
        for (old_len, opcode) in [(len, op::APPEND), (len, op::PREPEND), (9, op::APPEND), (9, op::PREPEND)] {
            let (old, new) = (value(old_len), value(len.min(1000) + 8));
            let new = if old_len == len { new } else { value(len) };
            client.set(KEY, &old);
            let answer = client.ask(&Request::concat(opcode, KEY, &new));
            assert_eq!(answer, Answer::done(answer.cas), "{what}");
            let both = if opcode == op::APPEND { [old, new] } else { [new, old] };
            assert_value(&mut client, KEY, &both.concat(), &what);
        }
    }
}

#[test]
fn a_value_of_one_size_takes_the_place_of_one_of_another() {
    let server = Server::start(&ARGS);
    let mut client = Client::connect(&server);
    let mut random = Random::new(2);
    let sizes: Vec<usize> = sizes().into_iter().collect();
    println!("seed 2");
    for round in 0..150 {
        let value = value(*random.pick(&sizes));
        client.set(KEY, &value);
        assert_value(&mut client, KEY, &value, &format!("round {round}"));
        if random.chance(1, 4) {
            assert_eq!(client.ask(&Request::of(op::DELETE, KEY)), Answer::done(0));
            assert_eq!(client.get(KEY), None);
        }
    }
    client.ask_quietly(&Request::of(op::DELETEQ, KEY));
    wait_until("nothing large is left", || number(&client.stats("slabs"), "1:large_bytes") == 0);
    assert_eq!(client.stat("curr_items"), 0);
}

#[test]
fn a_value_as_large_as_the_limit_is_stored_and_a_larger_one_is_not() {
    let server = Server::start(&ARGS);
    let mut client = Client::connect(&server);
    let largest = value(ITEM_BYTES_MAX);
    client.set(KEY, &largest);
    assert_value(&mut client, KEY, &largest, "the largest value");
    let too_large = value(ITEM_BYTES_MAX + 1);
    assert_eq!(
        client.ask_quietly(&Request::store(op::SET, KEY, &too_large)),
        Some(Answer::error(status::TOO_LARGE))
    );
    assert_eq!(client.get(KEY), None);
}

#[test]
fn a_value_that_is_being_read_stays_whole_whatever_becomes_of_the_item() {
    let server = Server::start(&ARGS);
    let mut writer = Client::connect(&server);
    let new = value(2_000_000);
    let changes = [
        Request::store(op::SET, KEY, "small"),
        Request::store(op::SET, KEY, &new),
        Request::concat(op::APPEND, KEY, "more"),
        Request::concat(op::PREPEND, KEY, value(10_000)),
        Request::of(op::DELETE, KEY),
        Request::new(op::FLUSH),
    ];
    for len in [6000, 100_000, 3_000_000] {
        let old = value(len);
        for change in &changes {
            writer.set(KEY, &old);
            // So many that the sockets cannot hold them: the server still has some to send when the item changes.
            let count = 12_000_000 / len as u32;
            let mut reader = Client::connect(&server);
            for opaque in 0..count {
                reader.send(&Request::of(op::GET, KEY).opaque(opaque).bytes());
            }
            let first = reader.receive(op::GET, 0);
            assert_eq!(writer.ask(change).status, 0);
            // Other values take whatever memory has become free.
            for number in 0..4 {
                writer.set(format!("other {number}"), vec![b'!'; 500_000]);
            }
            assert!(first.value == old);
            // Each answer is of before the change or of after it, and none of before comes behind one of after.
            let mut is_after = false;
            for opaque in 1..count {
                let answer = reader.receive(op::GET, opaque);
                let is_old = answer.status == 0 && answer.value == old;
                assert!(!(is_after && is_old), "{opaque} of {count}: the old value came back");
                is_after |= !is_old;
                if is_after && answer.status == 0 {
                    let is_new = match change.opcode {
                        op::APPEND => answer.value.len() == len + 4 && answer.value.starts_with(&old),
                        op::PREPEND => answer.value.len() == len + 10_000 && answer.value.ends_with(&old),
                        op::SET => answer.value == b"small" || answer.value == new,
                        _ => false,
                    };
                    assert!(is_new, "{opaque} of {count}: {len} bytes, opcode {:#04x}", change.opcode);
                }
            }
        }
    }
}

#[test]
fn large_values_may_arrive_side_by_side() {
    let server = Server::start(&ARGS);
    let (left, right) = (value(3_000_000), value(2_999_999));
    let mut clients = [Client::connect(&server), Client::connect(&server)];
    let requests =
        [Request::store(op::SET, "left", &left).bytes(), Request::store(op::SET, "right", &right).bytes()];
    let mut sent = [0, 0];
    let mut random = Random::new(3);
    println!("seed 3");
    while sent[0] < requests[0].len() || sent[1] < requests[1].len() {
        for side in 0..2 {
            let rest = &requests[side][sent[side]..];
            let chunk_len = (1 + random.below(200_000)).min(rest.len());
            clients[side].send(&rest[..chunk_len]);
            sent[side] += chunk_len;
        }
    }
    for client in &mut clients {
        assert_eq!(client.receive(op::SET, 0).status, 0);
        assert_value(client, "left", &left, "side by side");
        assert_value(client, "right", &right, "side by side");
    }
}

#[test]
fn more_large_values_at_a_time_than_there_is_room_for_wait_for_each_other() {
    let server = Server::start(&ARGS);
    let large = value(ITEM_BYTES_MAX);
    let request = Request::store(op::SET, KEY, &large).bytes();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(&server);
                for _ in 0..3 {
                    let answer = client.send_meanwhile(&request, |client| client.receive(op::SET, 0));
                    assert_eq!(answer.status, 0, "16 MiB are received at a time, 64 MiB are sent");
                    client.assert_in_step();
                }
            });
        }
    });
    let mut client = Client::connect(&server);
    assert_value(&mut client, KEY, &large, "after the rush");
}

#[test]
fn uploads_that_stall_are_given_up_and_others_get_their_room() {
    let server = Server::start(&ARGS);
    let request = Request::store(op::SET, KEY, value(ITEM_BYTES_MAX)).bytes();
    let mut stalled: Vec<Client> = (0..2).map(|_| Client::connect(&server)).collect();
    for upload in &mut stalled {
        upload.send(&request[..100_000]);
    }
    let mut observer = Client::connect(&server);
    observer.set("small", "v");
    wait_until("the uploads have begun", || observer.stat("receiving_bytes") == 2 * ITEM_BYTES_MAX as u64);
    let patient = server.connect();
    patient.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
    patient.set_write_timeout(Some(Duration::from_secs(40))).expect("a timeout");
    let mut client = Client::over(patient);
    let began = Instant::now();
    let answer = client.send_meanwhile(&request, |client| client.receive(op::SET, 0));
    assert_eq!(answer.status, 0);
    assert!(began.elapsed() > Duration::from_secs(2), "it had to wait");
    for upload in &mut stalled {
        upload.assert_closed();
    }
}

#[test]
fn an_upload_that_is_broken_off_gives_its_memory_back() {
    let server = Server::start(&ARGS);
    let mut observer = Client::connect(&server);
    observer.set("small", "v");
    let request = Request::store(op::SET, KEY, value(5_000_000)).bytes();
    for sent in [HEAD_BYTES, HEAD_BYTES + 1, 100_000, request.len() - 1] {
        let mut uploads: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
        for upload in &mut uploads {
            upload.send(&request[..sent]);
        }
        wait_until("the uploads have begun", || observer.stat("receiving_bytes") == 3 * 5_000_000);
        assert_eq!(observer.get("small").unwrap(), b"v", "others are served meanwhile");
        drop(uploads);
        wait_until("the memory is given back", || number(&observer.stats("slabs"), "1:large_bytes") == 0);
    }
    assert_eq!(observer.get(KEY), None);
    // Nor is anything left of what may be received at a time.
    observer.set(KEY, value(ITEM_BYTES_MAX));
}

#[test]
fn a_large_value_that_nobody_fetches_gives_its_memory_back_with_its_reader() {
    let server = Server::start(&ARGS);
    let mut observer = Client::connect(&server);
    observer.set("small", "v");
    observer.set(KEY, value(5_000_000));
    let mut readers: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    for reader in &mut readers {
        for opaque in 0..3 {
            reader.send(&Request::of(op::GET, KEY).opaque(opaque).bytes());
        }
        reader.receive(op::GET, 0);
    }
    assert_eq!(observer.ask(&Request::of(op::DELETE, KEY)), Answer::done(0));
    drop(readers);
    wait_until("the memory is given back", || number(&observer.stats("slabs"), "1:large_bytes") == 0);
}

#[test]
fn a_value_of_300_mb_is_stored_and_read() {
    let server = Server::start(&["-m", "1024", "-I", "512m"]);
    let mut client = Client::connect(&server);
    let large = value(300_000_000);
    let begun = Instant::now();
    client.set(KEY, &large);
    assert_value(&mut client, KEY, &large, "300 MB");
    assert_eq!(client.ask(&Request::of(op::DELETE, KEY)), Answer::done(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    client.set("small", "v");
    assert_eq!(number(&client.stats("slabs"), "1:large_bytes"), 0);
}

/// As large as a value can be configured to. It takes seconds, and more memory than a small machine has.
#[test]
#[ignore = "moves 5 GiB; CI runs it by name"]
fn a_value_of_1_gib_is_stored_read_overwritten_and_deleted_under_its_reader() {
    // A body has 1 GiB at most, and the value is not all of it.
    const LEN: usize = (1 << 30) - 100;
    let server = Server::start(&["-m", "2048", "-I", "1g"]);
    a_value_of_any_size_lives_its_life(&server, LEN);
}

#[test]
fn a_value_as_large_as_half_of_the_memory_is_stored_read_overwritten_and_deleted_under_its_reader() {
    const LEN: usize = 48 << 20;
    let server = Server::start(&["-m", "96", "-I", "48m"]);
    a_value_of_any_size_lives_its_life(&server, LEN);
}

#[track_caller]
fn a_value_of_any_size_lives_its_life(server: &Server, len: usize) {
    let connect = || {
        let stream = server.connect();
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        Client::over(stream)
    };
    let (mut client, mut reader) = (connect(), connect());
    let large = value(len);
    client.set(KEY, &large);
    assert_value(&mut client, KEY, &large, "the largest value");
    let too_long = Request::concat(op::APPEND, KEY, vec![b'x'; 1000]);
    assert_eq!(client.ask(&too_long), Answer::error(status::NOT_STORED), "it would be too long");
    assert_value(&mut client, KEY, &large, "after an append that was refused");
    drop(large);
    let other = value(len - 1);
    client.set(KEY, &other);
    assert_value(&mut client, KEY, &other, "the value in its place");
    reader.send(&Request::of(op::GET, KEY).bytes());
    wait_until("it is being sent", || client.stat("pinned_bytes") >= len as u64 - 1);
    assert_eq!(client.ask(&Request::of(op::DELETE, KEY)), Answer::done(0));
    assert_eq!(client.get(KEY), None);
    // The answer under way holds half of the memory. Small values are served meanwhile.
    client.set("small", "v");
    assert_eq!(client.get("small").unwrap(), b"v");
    let request = Request::store(op::SET, KEY, &other).bytes();
    let refused = client.send_meanwhile(&request, |client| client.receive(op::SET, 0));
    assert_eq!(
        refused,
        Answer::error(status::OUT_OF_MEMORY),
        "there is no room for another one and all the rest"
    );
    assert!(reader.receive(op::GET, 0).value == other, "the bytes of a value that was deleted meanwhile");
    wait_until("nothing large is left", || client.stat("large_bytes") == 0);
    client.set(KEY, &other);
    assert_value(&mut client, KEY, &other, "when there is room again");
}

/// A trickle, so that an answer crosses many writes.
#[test]
fn a_reader_that_reads_a_little_at_a_time_gets_every_byte() {
    let server = Server::start(&ARGS);
    let mut writer = Client::connect(&server);
    let old = value(3_000_000);
    writer.set(KEY, &old);
    let mut stream = server.connect();
    let mut requests = Client::over(stream.try_clone().expect("a socket can be cloned"));
    for _ in 0..3 {
        requests.send(&Request::of(op::GET, KEY).bytes());
    }
    let mut received = Vec::new();
    let mut piece = vec![0; 30_011];
    while received.len() < 3 * (28 + old.len()) {
        let len = stream.read(&mut piece).expect("the server goes on");
        assert_ne!(len, 0, "the server closed after {} bytes", received.len());
        received.extend_from_slice(&piece[..len]);
    }
    for answer in received.chunks(28 + old.len()) {
        assert!(answer[28..] == old[..]);
    }
}
