//! The binary protocol: requests into operations, answers into packets.
//!
//! What is malformed is refused by its header, before its body is there, by the rules of [`wire::split`] and
//! [`wire::shape`]. An opcode that is not served has its body skipped, to the byte. An answer keeps its place in the
//! order even where the storage thread has no part in it.

pub(super) mod stranger;

use wire::{
    Cas, Command as Request, FRAME_BODY_BYTES_MAX, HEADER_BYTES, Header, Hit, KEY_BYTES_MAX, KeyEcho,
    Loudness, Next as After, Opcode, Packet, Reject, RequestHeader, Response, Split, Status, StoreMode,
    shape,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::config::{Flush, Watch};
use crate::figures::Group;
use crate::limits::WATCH_WAIT_MS_MAX;
use crate::message::{
    Batch, Command, KeyHash, Older, Op, Payload, Refusal, Reply, Span, Tag, Value, Watched,
};
use crate::server::Server;
use crate::session::output::Body;
use crate::session::{Next, Output, Parsed};
use crate::stats;
use crate::storage::log::is_inline;

/// Not memcached's: see `--watch`.
const WATCH: Opcode = Opcode(0x77);
/// As memcached's `PROTOCOL_BINARY_RESPONSE_EBUSY`, which it never sends.
const BUSY: Status = Status::new(0x85);

/// See [`Session::parse`](crate::session::Session::parse).
pub(super) fn parse(batch: &mut Batch, input: Span, server: &Server) -> Parsed {
    let mut at = input.range().start;
    let next = loop {
        let rest = batch.input.filled().get(at..input.end()).unwrap_or_default();
        if let Some(bytes) = take_plain(rest, at, server, &mut batch.ops) {
            at = at.saturating_add(bytes);
            continue;
        }
        match step(rest, at, server) {
            Step::Answer { op, bytes } => {
                batch.ops.push(op);
                at = at.saturating_add(rest.len().min(bytes));
                if bytes > rest.len() {
                    break Next::Skip { bytes: bytes.saturating_sub(rest.len()) };
                }
            }
            Step::Last { op, bytes } => {
                batch.ops.push(op);
                at = at.saturating_add(bytes);
                break Next::Pause;
            }
            Step::Close { op } => {
                batch.ops.extend(op);
                break Next::Close;
            }
            Step::Incomplete(next) => break next,
        }
    };
    Parsed { consumed: at.saturating_sub(input.range().start), next }
}

/// See [`Session::finish_large`](crate::session::Session::finish_large).
pub(super) fn finish_large(batch: &mut Batch, head: Span, large: u32, server: &Server) {
    let op = with_head(batch, head, |packet, at| {
        let request = wire::Request::parse(packet).ok()?;
        Some(request_op(&request.command, packet, at, Payload::Large(large), server))
    });
    batch.ops.extend(op);
}

/// See [`Session::refuse_large`](crate::session::Session::refuse_large).
pub(super) fn refuse_large(batch: &mut Batch, head: Span, server: &Server) {
    let op = with_head(batch, head, |packet, at| Some(unstorable(packet, at, Refusal::OutOfMemory, server)));
    batch.ops.extend(op);
}

/// What stands at the front of the input.
enum Step {
    /// A request of so many bytes that is answered. Where they are not all there, the rest is of no interest.
    Answer { op: Op, bytes: usize },
    /// The same with nothing behind it in the same run, because whoever asks waits, or may be a stranger from there on.
    Last { op: Op, bytes: usize },
    /// A request after which the connection is closed.
    Close { op: Option<Op> },
    /// A part of a request.
    Incomplete(Next),
}

/// Takes a whole and well-formed GET or SET at the front of `rest`, which begins at `at` in the batch's input, and says how
/// long it is. Most of what comes is one, so it takes a way of its own, with the same operation at its end.
#[inline]
fn take_plain(rest: &[u8], at: usize, server: &Server, ops: &mut Vec<Op>) -> Option<usize> {
    let Ok(Split::Whole { packet, .. }) = wire::split::<RequestHeader>(rest, FRAME_BODY_BYTES_MAX) else {
        return None;
    };
    if !(1..=KEY_BYTES_MAX).contains(&packet.key.len()) || log::log_enabled!(log::Level::Trace) {
        return None;
    }
    match packet.header.opcode {
        Opcode::GET | Opcode::GETQ | Opcode::GETK | Opcode::GETKQ
            if packet.extras.is_empty() && packet.value.is_empty() =>
        {
            ops.push(keyed_op(Command::Get, &packet, at, server));
            Some(HEADER_BYTES.saturating_add(packet.key.len()))
        }
        Opcode::SET | Opcode::SETQ if is_taken_at_once(&packet, server) => {
            let (flags, expiration) = wire::request::store_extras(packet.extras)?;
            let cas = Cas::from_wire(packet.header.cas.get()).map(Cas::get);
            let head_bytes = head_bytes(packet.header);
            let value = Payload::Inline(Span::new(at.saturating_add(head_bytes), packet.value.len()));
            let command = Command::Store { mode: StoreMode::Set, flags, expiration, cas, value };
            ops.push(keyed_op(command, &packet, at, server));
            Some(head_bytes.saturating_add(packet.value.len()))
        }
        _ => None,
    }
}

/// `rest` begins at `at` in the batch's input.
fn step(rest: &[u8], at: usize, server: &Server) -> Step {
    let (packet, missing) = match wire::split::<RequestHeader>(rest, FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, .. }) => (packet, 0),
        Ok(Split::Body { header, body, missing }) => (Packet::carve(header, body), missing),
        Ok(Split::Head { missing }) => return Step::Incomplete(Next::Read { missing }),
        Err(reject) => return refuse(reject, rest, at),
    };
    let bytes = head_bytes(packet.header).saturating_add(packet.value_len());
    if let Err(reject) = shape::check(packet.header) {
        // memcached does not know it.
        if packet.header.opcode == WATCH && bytes > HEADER_BYTES && server.config.watch == Watch::Allowed {
            return watch(&packet, missing, at, server);
        }
        return refuse(reject, rest, at);
    }
    if !is_served(packet.header.opcode, server) {
        return refuse(Reject::UnknownOpcode { opcode: packet.header.opcode }, rest, at);
    }
    if is_sasl(packet.header.opcode) && is_too_long(packet.header, server) {
        let note = Note { status: Status::INVALID, ..Note::of(packet.header) };
        return Step::Close { op: Some(note.op(at)) };
    }
    if takes_value(packet.header.opcode)
        && let Some(step) = step_before_value(&packet, rest.len(), at, server)
    {
        return step;
    }
    if missing > 0 {
        return Step::Incomplete(Next::Read { missing });
    }
    match wire::Request::parse_checked(&packet) {
        Ok(request) => {
            log::trace!("< {request}");
            let value =
                Payload::Inline(Span::new(at.saturating_add(head_bytes(packet.header)), packet.value.len()));
            let op = request_op(&request.command, &packet, at, value, server);
            match request.command {
                Request::Quit => Step::Close { op: Some(op) },
                Request::SaslAuth { .. } | Request::SaslStep { .. } => Step::Last { op, bytes },
                _ => Step::Answer { op, bytes },
            }
        }
        Err(reject) => refuse(reject, rest, at),
    }
}

/// Has a client wait for another version of an item: the header has the one that is known, the extras the milliseconds.
#[cold]
fn watch(packet: &Packet<'_, RequestHeader>, missing: usize, at: usize, server: &Server) -> Step {
    let key_len = usize::from(packet.header.key_len());
    let is_legal = packet.header.extras_len == 4 && (1..=KEY_BYTES_MAX).contains(&key_len);
    if !is_legal || packet.value_len() > 0 {
        log::debug!("refused a request to wait: its lengths are wrong");
        let note = Note { status: Status::INVALID, ..Note::of(packet.header) };
        return Step::Close { op: Some(note.op(at)) };
    }
    if missing > 0 {
        return Step::Incomplete(Next::Read { missing });
    }
    let wait_ms = packet.extras.try_into().map_or(0, u32::from_be_bytes).min(WATCH_WAIT_MS_MAX);
    let command = Command::Watch { known: packet.header.cas.get(), wait_ms, told: Watched::Item };
    Step::Last { op: keyed_op(command, packet, at, server), bytes: head_bytes(packet.header) }
}

/// What header and key decide about a value before it is there: that it is too large, or where it is read to.
fn step_before_value(
    packet: &Packet<'_, RequestHeader>,
    available: usize,
    at: usize,
    server: &Server,
) -> Option<Step> {
    if is_taken_at_once(packet, server) {
        return None;
    }
    let (head_bytes, value_bytes) = (head_bytes(packet.header), packet.value_len());
    if available < head_bytes {
        return Some(Step::Incomplete(Next::Read { missing: head_bytes.saturating_sub(available) }));
    }
    if value_bytes > server.config.item_bytes_max {
        let op = unstorable(packet, at, Refusal::TooLarge, server);
        return Some(Step::Answer { op, bytes: head_bytes.saturating_add(value_bytes) });
    }
    Some(Step::Incomplete(Next::ReadLarge { head_bytes, value_bytes }))
}

/// Whether a value is so short that it is taken together with its request.
#[inline]
fn is_taken_at_once(packet: &Packet<'_, RequestHeader>, server: &Server) -> bool {
    let (key_bytes, value_bytes) = (usize::from(packet.header.key_len()), packet.value_len());
    value_bytes <= server.config.item_bytes_max
        && is_inline(key_bytes, value_bytes, server.config.memory_bytes_max)
}

/// The answer to a request that is refused, and what it does to the connection.
#[cold]
fn refuse(reject: Reject, rest: &[u8], at: usize) -> Step {
    log::debug!("refused a request: {reject}");
    let Ok((header, _)) = RequestHeader::ref_from_prefix(rest) else {
        return Step::Close { op: None };
    };
    let op = reject.answer().map(|status| Note { status, ..Note::of(header) }.op(at));
    match (reject.next(), op) {
        (After::SkipBody, Some(op)) => {
            Step::Answer { op, bytes: head_bytes(header).saturating_add(wire::frame::value_len(header)) }
        }
        (_, op) => Step::Close { op },
    }
}

/// SASL where there are users. VERBOSITY is what memcached does not know either: clients find out by the answer.
fn is_served(opcode: Opcode, server: &Server) -> bool {
    if is_sasl(opcode) { server.access.is_some() } else { opcode != Opcode::VERBOSITY }
}

fn is_sasl(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::SASL_LIST_MECHS | Opcode::SASL_AUTH | Opcode::SASL_STEP)
}

/// Whether no message of an authentication is that long.
fn is_too_long(header: &RequestHeader, server: &Server) -> bool {
    let bytes = usize::try_from(header.body_len.get()).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES);
    server.access.as_ref().is_some_and(|access| bytes > access.limits.request_bytes_max)
}

/// Whether an operation is a part of an authentication. Whoever begins one is a stranger until it has ended well.
#[inline]
pub(super) fn is_exchange(op: &Op) -> bool {
    Note::of_tag(op.tag).status == Status::AUTH_CONTINUE
}

fn takes_value(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::SET | Opcode::SETQ | Opcode::ADD | Opcode::ADDQ | Opcode::REPLACE | Opcode::REPLACEQ
    ) || matches!(opcode, Opcode::APPEND | Opcode::APPENDQ | Opcode::PREPEND | Opcode::PREPENDQ)
}

/// Bytes of header, extras and key.
#[inline]
fn head_bytes(header: &RequestHeader) -> usize {
    HEADER_BYTES.saturating_add(usize::from(header.extras_len)).saturating_add(usize::from(header.key_len()))
}

/// The operation of a request that begins at `at`.
#[inline]
fn request_op(
    request: &Request<'_>,
    packet: &Packet<'_, RequestHeader>,
    at: usize,
    value: Payload,
    server: &Server,
) -> Op {
    let note = Note::of(packet.header);
    let command = match *request {
        Request::Get { .. } => Command::Get,
        Request::GetAndTouch { expiration, .. } => Command::GetAndTouch { expiration },
        Request::Touch { expiration, .. } => Command::Touch { expiration },
        Request::Store { mode, flags, expiration, cas, .. } => {
            Command::Store { mode, flags, expiration, cas: cas.map(Cas::get), value }
        }
        Request::Concat { side, cas, .. } => Command::Concat { side, cas: cas.map(Cas::get), value },
        Request::Delete { cas, .. } => Command::Delete { cas: cas.map(Cas::get) },
        Request::Count { direction, delta, on_miss, cas, .. } => {
            Command::Count { direction, delta, on_miss, cas: cas.map(Cas::get) }
        }
        Request::Flush { .. } if server.config.flush == Flush::Refused => {
            return Note { status: Status::AUTH_ERROR, ..note }.op(at);
        }
        Request::Flush { at } => Command::Flush { at: at.unwrap_or(wire::Expiration::Never) },
        Request::Stat { .. } => match Group::parse(packet.key) {
            Some(group) => Command::Stats(group),
            None => {
                return Note { status: Status::NOT_FOUND, ..note }.op(at);
            }
        },
        Request::Noop | Request::Version | Request::Quit | Request::SaslListMechs => Command::Pass,
        Request::SaslAuth { .. } | Request::SaslStep { .. } => {
            return Note { status: Status::AUTH_CONTINUE, ..note }.op(at);
        }
        Request::Verbosity { .. } => {
            return Note { status: Status::UNKNOWN_COMMAND, ..note }.op(at);
        }
    };
    keyed_op(command, packet, at, server)
}

/// The operation that answers a value which is not taken. Whoever set a new value must not read the old one.
fn unstorable(packet: &Packet<'_, RequestHeader>, at: usize, why: Refusal, server: &Server) -> Op {
    let older = match packet.header.opcode {
        Opcode::SET | Opcode::SETQ => Older::Delete,
        _ => Older::Keep,
    };
    keyed_op(Command::Unstorable { why, older }, packet, at, server)
}

#[inline]
fn keyed_op(command: Command, packet: &Packet<'_, RequestHeader>, at: usize, server: &Server) -> Op {
    let key_at = at.saturating_add(HEADER_BYTES).saturating_add(packet.extras.len());
    Op {
        command,
        key: Span::new(key_at, packet.key.len()),
        hash: server.hash(packet.key),
        starts_at: Span::new(at, 0).start,
        tag: Note::of(packet.header).to_tag(),
    }
}

/// The packet that `head` in the batch's input begins: its value is not there.
fn with_head<T>(
    batch: &Batch,
    head: Span,
    make: impl FnOnce(&Packet<'_, RequestHeader>, usize) -> Option<T>,
) -> Option<T> {
    let bytes = batch.input.filled().get(head.range())?;
    let (header, body) = RequestHeader::ref_from_prefix(bytes).ok()?;
    make(&Packet::carve(header, body), head.range().start)
}

/// What the answer needs of the request: opcode and opaque, and the status where the session knows it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    opcode: Opcode,
    opaque: u32,
    status: Status,
}

impl Note {
    fn of(header: &RequestHeader) -> Self {
        Self { opcode: header.opcode, opaque: header.opaque.get(), status: Status::OK }
    }

    fn to_tag(self) -> Tag {
        let [s0, s1] = self.status.code().to_be_bytes();
        let [o0, o1, o2, o3] = self.opaque.to_be_bytes();
        Tag(u64::from_be_bytes([0, s0, s1, self.opcode.0, o0, o1, o2, o3]))
    }

    fn of_tag(tag: Tag) -> Self {
        let [_, s0, s1, opcode, o0, o1, o2, o3] = tag.0.to_be_bytes();
        Self {
            opcode: Opcode(opcode),
            opaque: u32::from_be_bytes([o0, o1, o2, o3]),
            status: Status::new(u16::from_be_bytes([s0, s1])),
        }
    }

    /// An operation that storage passes by.
    fn op(self, at: usize) -> Op {
        Op {
            command: Command::Pass,
            key: Span::default(),
            hash: KeyHash(0),
            starts_at: Span::new(at, 0).start,
            tag: self.to_tag(),
        }
    }
}

/// See [`Session::render`](crate::session::Session::render).
#[inline]
pub(super) fn render(op: &Op, reply: &Reply, batch: &Batch, server: &Server, output: &mut Output) {
    let note = Note::of_tag(op.tag);
    if !note.status.is_ok() {
        return error(note, note.status, output);
    }
    match reply {
        Reply::Hit { flags, cas, value } => hit(note, op, *flags, *cas, *value, batch, output),
        Reply::Stored { .. } if is_quiet(note) => {}
        Reply::Stored { cas } => {
            output.bytes().extend_from_slice(success(note, *cas).header().as_bytes());
        }
        _ => render_other(note, op, reply, batch, server, output),
    }
}

/// The same, for what is answered less often.
#[inline(never)]
fn render_other(note: Note, op: &Op, reply: &Reply, batch: &Batch, server: &Server, output: &mut Output) {
    match reply {
        Reply::NotFound => miss(note, op, batch, output),
        Reply::Done | Reply::Counted { .. } if is_quiet(note) => {}
        Reply::Done if note.opcode == Opcode::VERSION => {
            let value = crate::VERSION.as_bytes();
            answer(Response { value, ..success(note, None) }, output);
        }
        Reply::Done if note.opcode == Opcode::SASL_LIST_MECHS => {
            let told = server.access.as_ref().map_or("", |access| access.mechanisms.told());
            answer(Response { value: told.as_bytes(), ..success(note, None) }, output);
        }
        Reply::Done => answer(success(note, None), output),
        Reply::Counted { value, cas } => {
            answer(Response { value: &value.to_be_bytes(), ..success(note, *cas) }, output);
        }
        Reply::Touched { flags, cas } => {
            answer(Response { extras: &flags.to_be_bytes(), ..success(note, *cas) }, output);
        }
        Reply::TooManyWait => too_many_wait(note, output),
        Reply::Exists => error(note, Status::EXISTS, output),
        Reply::NotStored => error(note, Status::NOT_STORED, output),
        Reply::NonNumeric => error(note, Status::NON_NUMERIC, output),
        Reply::Refused(Refusal::TooLarge) => error(note, Status::TOO_LARGE, output),
        Reply::Refused(Refusal::OutOfMemory) => error(note, Status::OUT_OF_MEMORY, output),
        // These were worded already.
        Reply::Hit { .. } | Reply::Stored { .. } => {}
        // Nothing in this protocol asks for it.
        Reply::Scanned(_)
        | Reply::Snapshot(_)
        | Reply::Waiting
        | Reply::Found { .. }
        | Reply::MetaStored { .. }
        | Reply::MetaCounted { .. }
        | Reply::Described { .. }
        | Reply::Peeked { .. }
        | Reply::Length(_)
        | Reply::Sum(_)
        | Reply::Overflow => {}
        Reply::Stats(stats) => {
            if let Command::Stats(group) = op.command {
                for (name, value) in stats::answer(group, stats, server) {
                    let (key, value) = (name.as_bytes(), value.as_bytes());
                    answer(Response { key, value, ..success(note, None) }, output);
                }
            }
            answer(success(note, None), output);
        }
    }
}

#[cold]
fn too_many_wait(note: Note, output: &mut Output) {
    let value = &b"Too many wait"[..];
    answer(Response { value, ..Response::empty(note.opcode, BUSY, note.opaque, None) }, output);
}

#[inline]
fn hit(note: Note, op: &Op, flags: u32, cas: Option<Cas>, value: Value, batch: &Batch, output: &mut Output) {
    let body = Body::of(value, batch);
    if echo(note.opcode) == KeyEcho::With {
        return hit_with_key(note, op, flags, cas, body, batch, output);
    }
    let head = Hit::new(note.opcode, note.opaque, cas, flags, 0, body.len());
    output.bytes().extend_from_slice(head.as_bytes());
    body.append_to(output);
}

#[inline(never)]
fn hit_with_key(
    note: Note,
    op: &Op,
    flags: u32,
    cas: Option<Cas>,
    body: Body<'_>,
    batch: &Batch,
    output: &mut Output,
) {
    let key = batch.input.filled().get(op.key.range()).unwrap_or_default();
    let key_len = u8::try_from(key.len()).unwrap_or(u8::MAX);
    let head = Hit::new(note.opcode, note.opaque, cas, flags, key_len, body.len());
    output.bytes().extend_from_slice(head.as_bytes());
    output.bytes().extend_from_slice(key);
    body.append_to(output);
}

/// A quiet read hides its miss; one that echoes the key answers it with the key in the text's place.
fn miss(note: Note, op: &Op, batch: &Batch, output: &mut Output) {
    let is_read = matches!(op.command, Command::Get | Command::GetAndTouch { .. });
    match (is_read, note.opcode.loudness(), echo(note.opcode)) {
        (true, Loudness::Quiet, _) => {}
        (true, Loudness::Loud, KeyEcho::With) => {
            let key = batch.input.filled().get(op.key.range()).unwrap_or_default();
            answer(
                Response { key, ..Response::empty(note.opcode, Status::NOT_FOUND, note.opaque, None) },
                output,
            );
        }
        _ => error(note, Status::NOT_FOUND, output),
    }
}

fn echo(opcode: Opcode) -> KeyEcho {
    match opcode {
        Opcode::GETK | Opcode::GETKQ | Opcode::GATK | Opcode::GATKQ => KeyEcho::With,
        _ => KeyEcho::Without,
    }
}

fn is_quiet(note: Note) -> bool {
    note.opcode.loudness() == Loudness::Quiet
}

fn success(note: Note, cas: Option<Cas>) -> Response<'static> {
    Response::empty(note.opcode, Status::OK, note.opaque, cas)
}

#[inline(never)]
fn error(note: Note, status: Status, output: &mut Output) {
    answer(Response::error(note.opcode, status, note.opaque), output);
}

#[inline]
fn answer(response: Response<'_>, output: &mut Output) {
    response.append_to(output.bytes());
}
