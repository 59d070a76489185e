//! A server that forgets nothing and lies in one GET of 500, in every protocol. It ends with the test.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use wire::{
    Command, FRAME_BODY_BYTES_MAX, Hit, KeyEcho, Loudness, Opcode, Request, RequestHeader, Response, Split,
    Status, split,
};

use crate::syntax::Protocol;

/// What a server does wrong, once in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    /// Every answer is written byte by byte, which is no lie.
    Bytewise,
    FlippedByte,
    ValueOfAnotherKey,
    ShorterValue,
    LongerValue,
    OtherFlags,
    OtherOpaque,
    OtherKey,
    /// What stands behind the value.
    OtherTail,
    AnswerLeftOut,
    AnswerTwice,
    Error,
    OtherMagic,
    Closed,
}

type Items = HashMap<Vec<u8>, (u32, Vec<u8>)>;

/// A request, whatever its protocol.
enum Asked {
    Set { key: Vec<u8>, flags: u32, value: Vec<u8> },
    Get { key: Vec<u8>, is_quiet: bool },
    GetMany { keys: Vec<Vec<u8>> },
    Fence,
}

/// What an answer to a get must name again.
#[derive(Clone, Copy)]
struct Asking {
    protocol: Protocol,
    opaque: u32,
    is_quiet: bool,
}

pub(crate) fn serve(protocol: Protocol, lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let items = Arc::new(Mutex::new(Items::new()));
        for stream in listener.incoming().flatten() {
            let items = Arc::clone(&items);
            thread::spawn(move || answer_all(stream, protocol, lie, &items));
        }
    });
    address
}

/// Ends where the client, or the lie, closes the connection.
fn answer_all(mut stream: TcpStream, protocol: Protocol, lie: Lie, items: &Mutex<Items>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut input, mut buffer, mut gets) = (Vec::new(), vec![0; 4096], 0);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|&read| read > 0)?;
        input.extend_from_slice(&buffer[..read]);
        let mut output = Vec::new();
        while let Some((asked, opaque, len)) = next(protocol, &input) {
            input.drain(..len);
            let mut items = items.lock().unwrap();
            match asked {
                Asked::Set { key, flags, value } => {
                    items.insert(key, (flags, value));
                    output.extend(stored(protocol, opaque));
                }
                Asked::Fence => output.extend(fenced(protocol, opaque)),
                Asked::Get { key, is_quiet } => {
                    gets += 1;
                    let lie = if gets % 500 == 499 { lie } else { Lie::Nothing };
                    let asking = Asking { protocol, opaque, is_quiet };
                    get(&key, asking, lie, &items, &mut output)?;
                    if protocol == Protocol::Text && !output.ends_with(b"ERROR busy\r\n") {
                        output.extend(b"END\r\n");
                    }
                }
                Asked::GetMany { keys } => {
                    if protocol == Protocol::Resp {
                        output.extend(format!("*{}\r\n", keys.len()).as_bytes());
                    }
                    for key in keys {
                        gets += 1;
                        let lie = if gets % 500 == 499 { lie } else { Lie::Nothing };
                        get(&key, Asking { protocol, opaque, is_quiet: true }, lie, &items, &mut output)?;
                    }
                    if protocol == Protocol::Text {
                        output.extend(b"END\r\n");
                    }
                }
            }
        }
        let piece = if lie == Lie::Bytewise { 1 } else { output.len().max(1) };
        for piece in output.chunks(piece) {
            stream.write_all(piece).ok()?;
        }
    }
}

/// Answers a get of one key, truly or not. `None` is the end of the connection.
fn get(key: &[u8], asking: Asking, lie: Lie, items: &Items, output: &mut Vec<u8>) -> Option<()> {
    let Some((flags, value)) = items.get(key) else {
        output.extend(miss(asking));
        return Some(());
    };
    let (mut asking, mut flags, mut value, mut key) = (asking, *flags, value.clone(), key.to_vec());
    match lie {
        Lie::FlippedByte => value[7] ^= 1,
        Lie::ShorterValue => value.truncate(9),
        Lie::LongerValue => value.push(b'x'),
        Lie::OtherFlags => flags ^= 1,
        Lie::OtherOpaque => asking.opaque ^= 1 << 30,
        Lie::OtherKey => key[15] ^= 1,
        Lie::ValueOfAnotherKey => {
            let (_, other) = items.iter().find(|(other, _)| **other != key)?;
            (flags, value) = other.clone();
        }
        Lie::AnswerLeftOut => return Some(()),
        Lie::Error => {
            output.extend(refusal(asking));
            return Some(());
        }
        Lie::OtherMagic => output.push(b'?'),
        Lie::Closed => return None,
        Lie::Nothing | Lie::Bytewise | Lie::AnswerTwice | Lie::OtherTail => {}
    }
    for _ in 0..if lie == Lie::AnswerTwice { 2 } else { 1 } {
        output.extend(hit(&key, flags, &value, asking));
    }
    if lie == Lie::OtherTail {
        output.pop();
        output.push(b'?');
    }
    Some(())
}

/// The request at the front, its opaque and its length.
fn next(protocol: Protocol, input: &[u8]) -> Option<(Asked, u32, usize)> {
    match protocol {
        Protocol::Binary => next_packet(input),
        Protocol::Text | Protocol::Meta => next_line(input),
        Protocol::Resp => next_array(input),
    }
}

fn next_packet(input: &[u8]) -> Option<(Asked, u32, usize)> {
    let Split::Whole { packet, rest } = split::<RequestHeader>(input, FRAME_BODY_BYTES_MAX).unwrap() else {
        return None;
    };
    let request = Request::parse(&packet).unwrap();
    let is_quiet = request.loudness == Loudness::Quiet;
    let asked = match request.command {
        Command::Store { key, value, flags, .. } => {
            Asked::Set { key: key.as_bytes().to_vec(), flags, value: value.to_vec() }
        }
        Command::Get { key, echo } => {
            assert_eq!(echo == KeyEcho::With, is_quiet);
            Asked::Get { key: key.as_bytes().to_vec(), is_quiet }
        }
        Command::Noop => Asked::Fence,
        other => panic!("{other:?}"),
    };
    Some((asked, request.opaque, input.len() - rest.len()))
}

fn next_line(input: &[u8]) -> Option<(Asked, u32, usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8(input[..end].to_vec()).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let bytes = |word: &str| word.as_bytes().to_vec();
    let value_of = |len: &str| {
        let value = input.get(end + 2..end + 2 + len.parse::<usize>().unwrap() + 2)?;
        value.strip_suffix(b"\r\n").map(<[u8]>::to_vec)
    };
    let mut len = end + 2;
    let asked = match words[..] {
        ["set", key, flags, "0", value_len] => {
            let value = value_of(value_len)?;
            len += value.len() + 2;
            Asked::Set { key: bytes(key), flags: flags.parse().unwrap(), value }
        }
        ["ms", key, value_len, flags] => {
            let value = value_of(value_len)?;
            len += value.len() + 2;
            Asked::Set { key: bytes(key), flags: flags.strip_prefix('F').unwrap().parse().unwrap(), value }
        }
        ["get", key] => Asked::Get { key: bytes(key), is_quiet: false },
        ["get", ref keys @ ..] => Asked::GetMany { keys: keys.iter().map(|key| bytes(key)).collect() },
        ["mg", key, "f", "v"] => Asked::Get { key: bytes(key), is_quiet: false },
        ["mg", key, "f", "k", "v", "q"] => Asked::Get { key: bytes(key), is_quiet: true },
        ["mn"] => Asked::Fence,
        _ => panic!("{line}"),
    };
    Some((asked, 0, len))
}

fn next_array(input: &[u8]) -> Option<(Asked, u32, usize)> {
    let mut at = 0;
    let mut number = |mark: u8| -> Option<(usize, usize)> {
        assert!(input.get(at).is_none_or(|&first| first == mark));
        let end = at + input[at..].windows(2).position(|pair| pair == b"\r\n")?;
        let number = std::str::from_utf8(&input[at + 1..end]).unwrap().parse().unwrap();
        at = end + 2;
        if mark == b'$' {
            at += number + 2;
        }
        (at <= input.len()).then_some((number, at))
    };
    let (count, _) = number(b'*')?;
    let mut words = Vec::new();
    let mut len = 0;
    for _ in 0..count {
        let (bytes, end) = number(b'$')?;
        words.push(input[end - 2 - bytes..end - 2].to_vec());
        len = end;
    }
    let command = words.remove(0);
    let asked = match command.as_slice() {
        b"SET" => Asked::Set { key: words[0].clone(), flags: 0, value: words[1].clone() },
        b"GET" => Asked::Get { key: words[0].clone(), is_quiet: false },
        b"MGET" => Asked::GetMany { keys: words },
        other => panic!("{other:?}"),
    };
    Some((asked, 0, len))
}

fn packet(response: &Response<'_>) -> Vec<u8> {
    let mut output = Vec::new();
    response.append_to(&mut output);
    output
}

fn stored(protocol: Protocol, opaque: u32) -> Vec<u8> {
    match protocol {
        Protocol::Binary => packet(&Response::empty(Opcode::SET, Status::OK, opaque, None)),
        Protocol::Text => b"STORED\r\n".to_vec(),
        Protocol::Meta => b"HD\r\n".to_vec(),
        Protocol::Resp => b"+OK\r\n".to_vec(),
    }
}

fn fenced(protocol: Protocol, opaque: u32) -> Vec<u8> {
    match protocol {
        Protocol::Binary => packet(&Response::empty(Opcode::NOOP, Status::OK, opaque, None)),
        _ => b"MN\r\n".to_vec(),
    }
}

fn miss(asking: Asking) -> Vec<u8> {
    match asking {
        Asking { protocol: Protocol::Resp, .. } => b"$-1\r\n".to_vec(),
        Asking { is_quiet: true, .. } | Asking { protocol: Protocol::Text, .. } => Vec::new(),
        Asking { protocol: Protocol::Binary, opaque, .. } => {
            packet(&Response::error(Opcode::GET, Status::NOT_FOUND, opaque))
        }
        Asking { protocol: Protocol::Meta, .. } => b"EN\r\n".to_vec(),
    }
}

fn refusal(asking: Asking) -> Vec<u8> {
    let opcode = if asking.is_quiet { Opcode::GETKQ } else { Opcode::GET };
    match asking.protocol {
        Protocol::Binary => packet(&Response::error(opcode, Status::OUT_OF_MEMORY, asking.opaque)),
        Protocol::Text | Protocol::Meta => b"SERVER_ERROR busy\r\n".to_vec(),
        Protocol::Resp => b"-ERR busy\r\n".to_vec(),
    }
}

/// Without the END of the text protocol.
fn hit(key: &[u8], flags: u32, value: &[u8], asking: Asking) -> Vec<u8> {
    let name = String::from_utf8_lossy(key);
    let (len, is_quiet) = (value.len(), asking.is_quiet);
    let mut output = match asking.protocol {
        Protocol::Binary => {
            let opcode = if is_quiet { Opcode::GETKQ } else { Opcode::GET };
            let key = if is_quiet { key } else { &[] };
            let mut head = Vec::new();
            head.extend_from_slice(
                Hit::new(opcode, asking.opaque, None, flags, key.len() as u8, len).as_bytes(),
            );
            head.extend_from_slice(key);
            head
        }
        Protocol::Text => format!("VALUE {name} {flags} {len}\r\n").into_bytes(),
        Protocol::Meta if is_quiet => format!("VA {len} f{flags} k{name}\r\n").into_bytes(),
        Protocol::Meta => format!("VA {len} f{flags}\r\n").into_bytes(),
        Protocol::Resp => format!("${len}\r\n").into_bytes(),
    };
    output.extend_from_slice(value);
    if asking.protocol != Protocol::Binary {
        output.extend_from_slice(b"\r\n");
    }
    output
}
