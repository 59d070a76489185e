//! Any bytes as a snapshot, and a snapshot with something wrong in it: however the bytes come in, the same is read, and
//! nothing that was not written.
//!
//! An input is read twice. As it is, it is a file. Otherwise its first eight bytes say what is wrong (four say where a bit
//! is turned over, four where the file ends), and each further four are an item: key, flags, and two for the value's length.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use memwire::snapshot::Reader;
use memwire::snapshot::format::Opening;
use memwire::snapshot::writer::Writer;
use wire::{Command, Expiration, Key, Loudness, Request, StoreMode};

/// More items make files that take long.
const ITEMS_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 16 << 10;

fuzz_target!(|input: &[u8]| {
    read_however_it_comes(input);
    let Some((wrong, script)) = input.split_at_checked(8) else { return };
    let whole = snapshot(script);
    let read = read_however_it_comes(&whole);
    assert!(read.is_good, "what was written is good");
    let place = |bytes: &[u8]| {
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize % (8 * whole.len())
    };
    let (bit, end) = (place(&wrong[..4]), place(&wrong[4..]) / 8);
    let mut flipped = whole.clone();
    flipped[bit / 8] ^= 1 << (bit % 8);
    for damaged in [&flipped[..], &whole[..end]] {
        let good = read_however_it_comes(damaged);
        assert!(!good.is_good && read.items.starts_with(&good.items));
    }
});

/// What was read: key, flags and value of each item.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    items: Vec<(Vec<u8>, u32, Vec<u8>)>,
    is_good: bool,
    good_bytes: u64,
}

fn read_however_it_comes(file: &[u8]) -> Found {
    let whole = read(file, file.len());
    let step = file.first().map_or(1, |byte| usize::from(*byte) + 1);
    assert_eq!(read(Trickle { file, step }, file.len()), whole, "{step} bytes at a time");
    whole
}

fn read(from: impl Read, len: usize) -> Found {
    let mut found = Found { items: Vec::new(), is_good: false, good_bytes: 0 };
    let Ok(mut reader) = Reader::open(from, len as u64) else { return found };
    let damage = loop {
        match reader.next_items() {
            Ok(Some(items)) => {
                found.items.extend(items.map(|item| (item.key.to_vec(), item.flags, item.value.to_vec())));
            }
            Ok(None) => break None,
            Err(damage) => break Some(damage),
        }
    };
    if let Some(damage) = &damage {
        assert!(damage.good_bytes <= damage.offset && damage.offset <= len as u64, "{damage}");
    }
    assert_eq!(reader.items(), found.items.len() as u64);
    Found { is_good: damage.is_none(), good_bytes: reader.good_bytes(), ..found }
}

/// A file that comes a few bytes at a time.
struct Trickle<'a> {
    file: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.step.min(buffer.len()).min(self.file.len());
        let (front, rest) = self.file.split_at(len);
        buffer[..len].copy_from_slice(front);
        // The canary loses a byte now and then.
        let lost = usize::from(cfg!(feature = "canary") && rest.len() % 251 == 7);
        self.file = &rest[lost..];
        Ok(len)
    }
}

fn snapshot(script: &[u8]) -> Vec<u8> {
    let opening = Opening { created: 1_700_000_000, newest_cas: 7 };
    let mut writer = Writer::open(Vec::new(), opening, None).expect("a vector takes all");
    for step in script.chunks_exact(4).take(ITEMS_MAX) {
        let value = vec![step[0]; usize::from(u16::from_be_bytes([step[2], step[3]])) % VALUE_BYTES_MAX];
        let mut packet = Vec::new();
        let command = Command::Store {
            mode: StoreMode::Set,
            key: Key::new(&step[..1]).expect("one byte"),
            value: &value,
            flags: u32::from(step[1]),
            expiration: Expiration::Never,
            cas: None,
        };
        Request { opaque: 0, loudness: Loudness::Quiet, command }.append_to(&mut packet);
        writer.write(&packet).and_then(|()| writer.count(1)).expect("a vector takes all");
    }
    writer.close().expect("a vector takes all")
}
