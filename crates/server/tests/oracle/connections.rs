//! Connections over a transport that is in the test's hands: what they charge, and what becomes of it.

use std::io::{self, IoSlice};
use std::sync::Arc;

use memwire::clock::Clock;
use memwire::config::Config;
use memwire::limits::{CONNECTION_BYTES, RESERVE_BYTES, TAIL_BYTES_COPIED};
use memwire::message::{Batch, Command, ConnId};
use memwire::meter::{Crowding, Use};
use memwire::net::connection::{Connection, Traffic, Wish};
use memwire::net::socket::Transport;
use memwire::server::Server;
use memwire::session::Output;
use memwire::storage::Engine;
use memwire::storage::engine::WhenFull;

use crate::packets::{error, legal, response};
use crate::world::START;

const MIB: usize = 1 << 20;
const SET: u8 = 0x01;
const GET: u8 = 0x00;
const NOOP: u8 = 0x0a;

/// What has arrived and is not read, and what was written.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    arrived: Vec<u8>,
    read: usize,
    pub(crate) written: Vec<u8>,
    /// Whether nobody reads at the other end.
    is_deaf: bool,
}

impl Transport for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.arrived[self.read..];
        let len = rest.len().min(buffer.len());
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(len)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_deaf {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = self.written.len();
        for slice in slices {
            self.written.extend_from_slice(slice);
        }
        Ok(self.written.len() - before)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Server, storage, and everything of an event loop but the loop.
pub(crate) struct Desk {
    pub(crate) server: Server,
    pub(crate) engine: Engine,
    batch: Batch,
    output: Output,
    traffic: Traffic,
}

impl Desk {
    pub(crate) fn new(config: Config) -> Self {
        let server = Server::new(config, Clock::start(), 7);
        let engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).unwrap();
        let (batch, output, traffic) = Default::default();
        Self { server, engine, batch, output, traffic }
    }

    pub(crate) fn connect(&self) -> Connection<Wire> {
        Connection::new(Wire::default(), &self.server.meter)
    }

    fn ask(&mut self, connection: &mut Connection<Wire>) {
        let id = ConnId { slot: 0, generation: 0 };
        connection.take_turn(id, &mut self.batch, &self.server, &mut self.traffic);
    }

    fn execute(&mut self) {
        self.engine.execute(&mut self.batch, START);
    }

    fn answer(&mut self, connection: &mut Connection<Wire>) {
        for run in &self.batch.runs {
            connection.take_answers(run, &self.batch, &self.server, &mut self.output, &mut self.traffic);
        }
        self.batch.recycle();
    }

    /// Turns until there is nothing more to do.
    fn serve(&mut self, connection: &mut Connection<Wire>) {
        while connection.wants_turn() {
            self.ask(connection);
            self.execute();
            self.answer(connection);
        }
    }

    pub(crate) fn receive(&mut self, connection: &mut Connection<Wire>, bytes: &[u8]) {
        arrive(connection, bytes);
        self.serve(connection);
    }

    /// Sends one request over a connection of its own, and answers what came back.
    fn one(&mut self, request: &[u8]) -> Vec<u8> {
        let mut connection = self.connect();
        self.receive(&mut connection, request);
        std::mem::take(&mut connection.socket().written)
    }

    #[track_caller]
    fn assert_nothing_is_held(&self) {
        let meter = &self.server.meter;
        let held = [Use::Blocks, Use::Arriving, Use::Waiting, Use::Working, Use::Pinned, Use::Orphaned];
        assert_eq!(held.map(|r#use| meter.gauge(r#use)), [0; 6]);
        assert_eq!((self.server.receiving.bytes(), self.server.unfinished.bytes()), (0, 0));
    }
}

fn arrive(connection: &mut Connection<Wire>, bytes: &[u8]) {
    connection.socket().arrived.extend_from_slice(bytes);
    connection.set_readable();
}

fn set(key: &[u8], len: usize) -> Vec<u8> {
    let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    legal(SET, key, &value, 0)
}

fn config() -> Config {
    Config { item_bytes_max: 16 * MIB, ..Config::default() }
}

#[test]
fn a_large_value_is_charged_as_it_arrives() {
    const LEN: usize = 10 * MIB;
    let mut desk = Desk::new(config());
    let mut connection = desk.connect();
    let request = set(b"k", LEN);
    for (number, piece) in request.chunks(100_000).enumerate() {
        desk.receive(&mut connection, piece);
        let (arrived, charged) = (((number + 1) * 100_000).min(LEN), desk.server.meter.blocks());
        assert!(charged + 100 >= arrived, "{charged} bytes are charged for {arrived}");
        assert!(charged <= arrived + RESERVE_BYTES, "{charged} bytes are charged for {arrived}");
        assert!(desk.engine.used_bytes() <= desk.server.config.memory_bytes_max);
    }
    assert_eq!(desk.server.meter.blocks(), LEN);
    assert_eq!(desk.server.receiving.bytes(), 0);
    assert!(desk.one(&legal(GET, b"k", b"", 0)).ends_with(&request[33..]));
}

#[test]
fn a_large_value_for_which_no_room_can_be_made_is_refused_in_the_middle() {
    let mut desk = Desk::new(Config { when_full: WhenFull::Refuse, ..config() });
    desk.one(&set(b"k", 100_000));
    let mut number = 0;
    while desk.engine.used_bytes() < 58 * MIB {
        number += 1;
        desk.one(&set(format!("other {number}").as_bytes(), 300_000));
    }
    let blocks = desk.server.meter.blocks();
    let mut connection = desk.connect();
    let request = [set(b"k", 12 * MIB), legal(NOOP, b"", b"", 0)].concat();
    let mut reserved = 0;
    for piece in request.chunks(100_000) {
        desk.receive(&mut connection, piece);
        reserved = reserved.max(desk.server.meter.blocks() - blocks.min(desk.server.meter.blocks()));
    }
    assert!((2 * MIB..12 * MIB).contains(&reserved), "{reserved} bytes of it were taken");
    let answers = [error(SET, 0x82), response(NOOP, 0, 0, b"", b"", b"")].concat();
    assert_eq!(connection.socket().written, answers, "it is skipped to the byte");
    assert_eq!(desk.one(&legal(GET, b"k", b"", 0)), error(GET, 0x01), "the older value is gone");
    assert_eq!(desk.server.meter.blocks(), blocks - 102_400);
    assert_eq!(desk.server.receiving.bytes(), 0);
}

#[test]
fn a_connection_that_is_lost_at_any_point_gives_everything_back() {
    let mut desk = Desk::new(config());
    for len in [7000, 300_000, 3 * MIB] {
        let request = [legal(GET, b"k", b"", 0), set(b"k", len)].concat();
        let mut cuts: Vec<usize> = (0..100).chain((1..60).map(|part| request.len() * part / 60)).collect();
        cuts.extend([MIB, MIB + 57, MIB + 58, request.len() - 1].map(|cut| cut.min(request.len() - 1)));
        for cut in cuts {
            let mut connection = desk.connect();
            assert_eq!(desk.server.meter.buffers(), CONNECTION_BYTES);
            desk.receive(&mut connection, &request[..cut]);
            drop(connection);
            desk.assert_nothing_is_held();
            // Or while its operations are on their way.
            let mut connection = desk.connect();
            arrive(&mut connection, &request[..cut]);
            while connection.wants_turn() {
                desk.ask(&mut connection);
                desk.execute();
                if connection.socket().read == cut {
                    break;
                }
                desk.answer(&mut connection);
            }
            drop(connection);
            desk.batch.recycle();
            desk.assert_nothing_is_held();
        }
    }
}

#[test]
fn room_that_was_not_asked_for_is_asked_for_again() {
    const LEN: usize = 3 * MIB;
    let mut desk = Desk::new(config());
    let mut connection = desk.connect();
    let request = set(b"k", LEN);
    arrive(&mut connection, &request);
    let mut asked = 0;
    while connection.wants_turn() {
        // Nothing is told of the room, so that there is a question for each step.
        desk.server.meter.publish_room(0);
        desk.ask(&mut connection);
        let asks = desk.batch.ops.iter().any(|op| matches!(op.command, Command::Reserve { .. }));
        asked += usize::from(asks);
        // Every other question is lost, as in a batch that had enough to do.
        if asks && asked % 2 == 1 {
            desk.batch.runs.iter_mut().for_each(|run| run.executed = 0);
        } else {
            desk.execute();
        }
        desk.answer(&mut connection);
    }
    assert_eq!(asked, 2 * LEN / RESERVE_BYTES);
    assert_eq!(desk.server.meter.blocks(), LEN);
    assert!(desk.one(&legal(GET, b"k", b"", 0)).ends_with(&request[33..]));
}

#[test]
fn a_large_value_behind_requests_that_are_put_off_is_begun_again() {
    const LEN: usize = 3 * MIB;
    let mut desk = Desk::new(config());
    let mut connection = desk.connect();
    arrive(&mut connection, &[legal(GET, b"k", b"", 0), set(b"k", LEN), legal(GET, b"k", b"", 0)].concat());
    for _ in 0..3 {
        desk.server.meter.publish_room(0);
        desk.ask(&mut connection);
        assert_eq!(desk.batch.ops.len(), 2);
        assert_eq!(desk.server.meter.blocks(), RESERVE_BYTES, "it is charged once");
        desk.answer(&mut connection);
    }
    desk.serve(&mut connection);
    let written = &connection.socket().written;
    assert!(written.starts_with(&error(GET, 0x01)) && written.len() > LEN);
    assert_eq!(desk.server.meter.blocks(), LEN);
}

#[test]
fn unfinished_requests_wait_unread_where_there_are_too_many() {
    const COUNT: usize = 1500;
    const LEN: usize = 120_000;
    let mut desk = Desk::new(Config { memory_bytes_max: 1024 * MIB, ..Config::default() });
    let limit = desk.server.config.unfinished_bytes_max();
    let request = set(b"k", LEN);
    let mut connections = Vec::new();
    for _ in 0..COUNT {
        let mut connection = desk.connect();
        desk.receive(&mut connection, &request[..request.len() - 1]);
        connections.push(connection);
    }
    assert!(COUNT * LEN > limit, "all of them would be too much");
    assert!(desk.server.meter.gauge(Use::Arriving) <= limit + COUNT * 4096);
    assert!(desk.server.unfinished.bytes() > limit - request.len());
    let (waiting, arriving): (Vec<_>, Vec<_>) =
        connections.into_iter().partition(|connection| !connection.is_receiving());
    assert_eq!(arriving.len(), limit / request.len());
    drop(arriving);
    for mut connection in waiting {
        connection.retry();
        desk.serve(&mut connection);
        assert_eq!(connection.wish(), Wish::Wait, "there is room for it");
        desk.receive(&mut connection, &request[request.len() - 1..]);
        assert_eq!(connection.socket().written.len(), 24, "it is answered");
    }
    desk.assert_nothing_is_held();
}

#[test]
fn an_unfinished_request_waits_for_a_client_that_does_not_read_until_there_are_too_many() {
    let mut desk = Desk::new(Config { memory_bytes_max: 1024 * MIB, ..Config::default() });
    let request = set(b"k", 100_000);
    for (crowding, closes) in [(Crowding::Ample, false), (Crowding::Crowded, true)] {
        let mut connection = desk.connect();
        connection.socket().is_deaf = true;
        desk.receive(&mut connection, &[&legal(GET, b"k", b"", 0), &request[..50_000]].concat());
        assert!(connection.begins_to_be_watched());
        connection.close_if_stalled(crowding);
        assert!(connection.begins_to_be_watched());
        connection.close_if_stalled(crowding);
        if connection.wish() == Wish::Close {
            assert!(closes, "{crowding:?}");
            drop(connection);
        } else {
            assert!(!closes, "{crowding:?}");
        }
        assert_eq!(desk.server.unfinished.bytes(), 0, "its place is for others");
    }
}

#[test]
fn an_unfinished_request_that_stalls_is_given_up() {
    let mut desk = Desk::new(Config { memory_bytes_max: 1024 * MIB, ..Config::default() });
    let request = set(b"k", 100_000);
    let mut connection = desk.connect();
    desk.receive(&mut connection, &request[..TAIL_BYTES_COPIED]);
    assert!(!connection.begins_to_be_watched(), "a short beginning may wait");
    desk.receive(&mut connection, &request[TAIL_BYTES_COPIED..50_000]);
    assert!(connection.begins_to_be_watched());
    connection.close_if_stalled(Crowding::Ample);
    desk.receive(&mut connection, &request[50_000..50_001]);
    assert!(connection.begins_to_be_watched());
    connection.close_if_stalled(Crowding::Ample);
    assert_eq!(connection.wish(), Wish::Wait, "it has progressed");
    assert!(connection.begins_to_be_watched());
    connection.close_if_stalled(Crowding::Ample);
    assert_eq!(connection.wish(), Wish::Close);
}
