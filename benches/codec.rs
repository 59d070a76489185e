//! What the wire crate costs a packet, in nanoseconds: parse and encode, nothing else. `cargo bench --bench codec`
//!
//! Every iteration reads another packet of a table that fits the first-level cache, so that the compiler cannot take
//! the work out of the loop and the branch predictor does not learn one packet by heart. Results are handed to
//! `black_box` as their consumer would use them: a request by its command, key and opaque, a response by the bytes in
//! the output buffer. `control` reads the table and does nothing with it: subtract it for the bare work.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use wire::response::HIT_BYTES;
use wire::shape::{Extras, Presence, Shape};
use wire::{
    Cas, Command, Expiration, FRAME_BODY_BYTES_MAX, Hit, Key, KeyEcho, Loudness, Opcode, Request,
    RequestHeader, Response, ResponseHeader, Split, StoreMode, shape, split,
};
use zerocopy::FromBytes;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    parse_one_request(&mut criterion);
    parse_pipelined_requests(&mut criterion);
    check_shapes(&mut criterion);
    encode_hits(&mut criterion);
    parse_responses(&mut criterion);
    encode_requests(&mut criterion);
    criterion.final_summary();
}

/// Packets of a table; a power of two, so that the next one is found by a mask.
const PACKETS: usize = 256;

/// Goes round a table: another entry each time, at the price of an increment and a mask.
struct Round<T> {
    entries: [T; PACKETS],
    at: usize,
}

impl<T> Round<T> {
    fn new(entry: impl Fn(usize) -> T) -> Self {
        Self { entries: std::array::from_fn(entry), at: 0 }
    }

    #[inline]
    fn next(&mut self) -> &T {
        self.at = (self.at + 1) % PACKETS;
        &self.entries[self.at]
    }
}

fn parse_one_request(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let mut packets = Round::new(get_packet);

    group.bench_function("control", |bencher| {
        bencher.iter(|| black_box(packets.next()[23]));
    });
    group.bench_function("parse GET's header: frame, shape, key", |bencher| {
        bencher.iter(|| match split::<RequestHeader>(black_box(packets.next()), FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, .. }) if shape::check(packet.header).is_ok() => {
                black_box(packet.header.opaque.get());
                black_box(packet.key);
                true
            }
            _ => false,
        });
    });
    group.bench_function("parse GET, 16-byte key", |bencher| {
        bencher.iter(|| serve(black_box(packets.next())).is_some());
    });
    let mut packets = Round::new(set_packet);
    group.bench_function("parse SET, 16-byte key, 24 B", |bencher| {
        bencher.iter(|| serve(black_box(packets.next())).is_some());
    });
    group.finish();
}

/// Per packet of a stream of 64 GETKQ and a NOOP, the batched read of libmemcached.
fn parse_pipelined_requests(criterion: &mut Criterion) {
    const GETS: usize = 64;
    let streams: Vec<Vec<u8>> = (0..4)
        .map(|stream| {
            let mut bytes = Vec::new();
            for at in 0..GETS {
                let key = key_bytes(stream * GETS + at);
                append_get(at, Opcode::GETKQ, &key, &mut bytes);
            }
            request(GETS as u32, Loudness::Loud, Command::Noop).append_to(&mut bytes);
            bytes
        })
        .collect();

    criterion.bench_function("request/parse a packet of 64 GETKQ + NOOP", |bencher| {
        per_packet(bencher, GETS + 1, |turn| {
            let mut rest = black_box(&streams[turn % streams.len()][..]);
            let mut parsed = 0;
            while let Some(behind) = serve(rest) {
                rest = behind;
                parsed += 1;
            }
            parsed
        });
    });
}

/// Per header, over all 256 opcodes in an order without a pattern, each with lengths that are legal for it.
fn check_shapes(criterion: &mut Criterion) {
    // An odd factor permutes the 256 opcodes.
    let headers = Round::new(|at| legal_header(Opcode((at * 167 + 13) as u8))).entries;

    criterion.bench_function("shape/check, all 256 opcodes", |bencher| {
        per_packet(bencher, PACKETS, |_| {
            let mut checked = 0;
            for header in black_box(&headers) {
                let _ = black_box(shape::check(header));
                checked += 1;
            }
            checked
        });
    });
}

/// Lengths that the opcode may have, those of a GET where it has no name.
fn legal_header(opcode: Opcode) -> RequestHeader {
    let shape = Shape::of_opcode(opcode).or(Shape::of_opcode(Opcode::GET));
    let extras_len = match shape.map(|shape| shape.extras) {
        Some(Extras::Exactly(len) | Extras::NoneOr(len)) => len,
        Some(Extras::Any) | None => 0,
    };
    let key_len = match shape.map(|shape| shape.key) {
        Some(Presence::Present | Presence::Any) => 16,
        Some(Presence::Absent) | None => 0,
    };
    RequestHeader {
        magic: wire::header::REQUEST_MAGIC,
        opcode,
        key_len: key_len.into(),
        extras_len,
        data_type: 0,
        vbucket: 0.into(),
        body_len: (u32::from(extras_len) + u32::from(key_len)).into(),
        opaque: 0.into(),
        cas: 0.into(),
    }
}

/// As the engine does it: from the header of a stored record, which is a SET packet, to the head of the answer in an
/// output buffer and the value as a slice of the record.
fn encode_hits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    for value_bytes in [24, 1 << 20] {
        let value = vec![b'v'; value_bytes];
        let mut records = Round::new(|at| record_head(at, value_bytes));
        let mut requests = Round::new(|at| (Opcode::GET, at as u32 * 77));
        let mut output = Output::new();

        group.bench_function(BenchmarkId::new("encode a hit", bytes_name(value_bytes)), |bencher| {
            bencher.iter(|| {
                let record = black_box(records.next());
                let &(opcode, opaque) = black_box(requests.next());
                let Some(head) = hit_of(record, opcode, opaque) else {
                    return 0;
                };
                output.with_room(HIT_BYTES).extend_from_slice(head.as_bytes());
                black_box(output.0.as_ptr());
                black_box(&value[..]).len()
            });
        });
    }
    group.finish();
}

/// What stands before the key in a stored record: the header and the extras of a SET.
fn record_head(number: usize, value_bytes: usize) -> [u8; 32] {
    let mut head = [0; 32];
    head.copy_from_slice(&set_packet(number)[..32]);
    head[8..12].copy_from_slice(&(8 + 16 + value_bytes as u32).to_be_bytes());
    head
}

/// The head of the answer that a stored record gives to a GET.
#[inline]
fn hit_of(record: &[u8], opcode: Opcode, opaque: u32) -> Option<Hit> {
    let (header, extras) = RequestHeader::ref_from_prefix(record).ok()?;
    let (flags, _) = zerocopy::byteorder::network_endian::U32::ref_from_prefix(extras).ok()?;
    let cas = Cas::from_wire(header.cas.get());
    let value_len = wire::frame::value_len(header);
    Some(Hit::new(opcode, opaque, cas, flags.get(), 0, value_len))
}

/// As a client does it: the head of a hit as soon as it is there, and the hit when it is whole.
fn parse_responses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    let mut heads = Round::new(|at| {
        let mut head = [0; HIT_BYTES];
        let hit = Hit::new(Opcode::GET, at as u32, Cas::from_wire(9), at as u32, 0, 1 << 20);
        head.copy_from_slice(hit.as_bytes());
        head
    });
    group.bench_function("parse the head of a hit, 1 MiB to come", |bencher| {
        bencher.iter(|| {
            let Ok(Split::Body { header, body, missing }) =
                split::<ResponseHeader>(black_box(heads.next()), FRAME_BODY_BYTES_MAX)
            else {
                return;
            };
            black_box((header.status.is_ok(), header.opaque.get(), body.len(), missing));
        });
    });

    for value_bytes in [24, 1 << 20] {
        // Packets that overlap: the heads stand one behind the other, each value begins with the heads behind it.
        let mut bytes: Vec<u8> = (0..PACKETS)
            .flat_map(|at| {
                let hit = Hit::new(Opcode::GET, at as u32, Cas::from_wire(9), 0xbeef, 0, value_bytes);
                hit.as_bytes().to_vec()
            })
            .collect();
        bytes.resize(bytes.len() + value_bytes, b'v');
        let mut packets = Round::new(|at| &bytes[at * HIT_BYTES..(at + 1) * HIT_BYTES + value_bytes]);

        group.bench_function(BenchmarkId::new("parse a whole hit", bytes_name(value_bytes)), |bencher| {
            bencher.iter(|| {
                let Ok(Split::Whole { packet, .. }) =
                    split::<ResponseHeader>(black_box(packets.next()), FRAME_BODY_BYTES_MAX)
                else {
                    return;
                };
                let response = Response::parse(&packet);
                black_box((response.status.is_ok(), response.opaque, response.flags(), response.value));
            });
        });
    }
    group.finish();
}

/// As a client does it. A SET is measured with an empty value, for a value's copy would be all that is seen.
fn encode_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let mut keys = Round::new(key_bytes);
    let mut output = Output::new();

    group.bench_function("append GET, 16-byte key", |bencher| {
        bencher.iter(|| {
            let key = black_box(keys.next());
            append_get(key[15].into(), Opcode::GET, key, output.with_room(40));
            black_box(output.0.as_ptr())
        });
    });
    group.bench_function("append SET, 16-byte key, no value", |bencher| {
        bencher.iter(|| {
            let bytes = black_box(keys.next());
            if let Ok(key) = Key::new(bytes) {
                let set = request(bytes[15].into(), Loudness::Loud, store(key, &[]));
                set.append_to(output.with_room(48));
            }
            black_box(output.0.as_ptr())
        });
    });
    group.finish();
}

/// An output buffer that starts again when it is full, and never grows.
struct Output(Vec<u8>);

impl Output {
    fn new() -> Self {
        Self(Vec::with_capacity(16 << 10))
    }

    #[inline]
    fn with_room(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.0.capacity() - self.0.len() < bytes {
            self.0.clear();
        }
        &mut self.0
    }
}

/// Times `turn`, which deals with `packets` packets and says so, and reports the time of one packet.
fn per_packet(bencher: &mut criterion::Bencher<'_>, packets: usize, mut turn: impl FnMut(usize) -> usize) {
    bencher.iter_custom(|iterations| {
        let turns = iterations.div_ceil(packets as u64);
        let begin = Instant::now();
        let dealt: usize = (0..turns).map(|at| turn(at as usize)).sum();
        let took = begin.elapsed();
        assert_eq!(dealt as u64, turns * packets as u64, "every packet is dealt with");
        took.mul_f64(iterations as f64 / dealt as f64)
    });
}

/// Deals with the packet at the front as a session does: it looks which command it is and takes that command's parts.
/// Gives what follows the packet.
#[inline]
fn serve(bytes: &[u8]) -> Option<&[u8]> {
    let Ok(Split::Whole { packet, rest }) = split::<RequestHeader>(bytes, FRAME_BODY_BYTES_MAX) else {
        return None;
    };
    match Request::parse(&packet) {
        Ok(Request { opaque, loudness, command: Command::Get { key, echo } }) => {
            black_box((opaque, loudness, key.as_bytes(), echo));
        }
        Ok(Request {
            opaque,
            loudness,
            command: Command::Store { mode, key, value, flags, expiration, cas },
        }) => {
            black_box((opaque, loudness, mode, key.as_bytes(), value, flags, expiration, cas));
        }
        Ok(request) => {
            black_box(&request);
        }
        Err(reject) => {
            black_box(reject.answer());
        }
    }
    Some(rest)
}

/// 16 bytes, another key for each number.
fn key_bytes(number: usize) -> [u8; 16] {
    let mut key = *b"codec:0000000000";
    for (at, byte) in key.iter_mut().enumerate().skip(6) {
        *byte = b'0' + ((number >> (3 * (15 - at))) & 7) as u8;
    }
    key
}

/// 24 bytes of header and a 16-byte key.
fn get_packet(number: usize) -> [u8; 40] {
    let mut bytes = Vec::new();
    append_get(number, Opcode::GET, &key_bytes(number), &mut bytes);
    let mut packet = [0; 40];
    packet.copy_from_slice(&bytes);
    packet
}

/// 24 bytes of header, 8 of extras, a 16-byte key and a value of 24 bytes.
fn set_packet(number: usize) -> [u8; 72] {
    let mut bytes = Vec::new();
    if let Ok(key) = Key::new(&key_bytes(number)) {
        request(number as u32, Loudness::Loud, store(key, &[b'v'; 24])).append_to(&mut bytes);
    }
    let mut packet = [0; 72];
    packet.copy_from_slice(&bytes);
    packet
}

#[inline]
fn append_get(number: usize, opcode: Opcode, key: &[u8], output: &mut Vec<u8>) {
    let Ok(key) = Key::new(key) else { return };
    let echo = match opcode {
        Opcode::GETKQ => KeyEcho::With,
        _ => KeyEcho::Without,
    };
    request(number as u32, opcode.loudness(), Command::Get { key, echo }).append_to(output);
}

fn store<'a>(key: Key<'a>, value: &'a [u8]) -> Command<'a> {
    Command::Store {
        mode: StoreMode::Set,
        key,
        value,
        flags: 0xbeef,
        expiration: Expiration::Never,
        cas: None,
    }
}

fn request(opaque: u32, loudness: Loudness, command: Command<'_>) -> Request<'_> {
    Request { opaque, loudness, command }
}

fn bytes_name(bytes: usize) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} B"),
        mib => format!("{mib} MiB"),
    }
}
