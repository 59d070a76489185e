//! Answers into bytes.

use crate::figures::StorageStats;
use crate::message::{Batch, Command, Op, Refusal, Reply};
use crate::server::Server;
use crate::session::Output;
use crate::session::number::push_number;
use crate::session::output::Body;
use crate::session::resp::admin;
use crate::session::resp::commands::{Unit, Word};
use crate::session::resp::complaint::{Complaint, in_line};
use crate::session::resp::frame::Args;
use crate::session::resp::listing;
use crate::session::resp::{Note, Resp, Shape};
use crate::storage::counter::{self, Digits};

/// Which of the two versions a client has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    #[default]
    Two,
    Three,
}

/// Words answers, as the client's version has them.
pub(super) struct Writer<'a> {
    pub(super) output: &'a mut Output,
    pub(super) version: Version,
}

/// See [`Session::render`](crate::session::Session::render).
#[inline]
pub(super) fn render(
    resp: &mut Resp,
    op: &Op,
    reply: &Reply,
    batch: &Batch,
    server: &Server,
    output: &mut Output,
) {
    let mut writer = Writer { output, version: resp.client.version };
    let note = Note::of(op.tag);
    // Nobody looks at the time that an item is to have which is not there.
    let is_said = |word| note.complaint == 0 || matches!((word, reply), (Word::GetEx, Reply::NotFound));
    let Some(row) = note.row().filter(|row| is_said(row.word)) else {
        return complain(resp, note, op, batch, &mut writer);
    };
    match (row.word, reply) {
        (Word::MGet, reply) => {
            if note.is_first {
                writer.array(note.left);
            }
            writer.hit(reply, batch);
        }
        (Word::MSet | Word::MSetNx, reply) => stored_pair(resp, note, op, reply, &mut writer),
        (Word::Get | Word::GetDel | Word::GetEx | Word::GetSet, reply) => writer.hit(reply, batch),
        (Word::Set | Word::SetEx(_), Reply::Stored { .. }) => writer.ok(),
        (Word::Set, Reply::Exists) => writer.null(),
        (Word::Set, reply) => writer.hit(reply, batch),
        (Word::SetNx, Reply::Stored { .. }) => writer.integer(1),
        (Word::SetNx, Reply::Exists) => writer.integer(0),
        (Word::Del | Word::Exists | Word::Touch, reply) => {
            counted_key(resp, note, matches!(reply, Reply::Done | Reply::Peeked { .. }), &mut writer);
        }
        (_, Reply::Refused(why)) => writer.complaint(refused(*why)),
        (_, Reply::Sum(sum)) => writer.integer(*sum),
        (_, Reply::NonNumeric) => writer.complaint(Complaint::NoInteger),
        (_, Reply::Overflow) => writer.error("ERR increment or decrement would overflow"),
        (_, Reply::Length(len)) => writer.integer(i64::try_from(*len).unwrap_or(i64::MAX)),
        (Word::GetRange, reply) => range(op, reply, batch, &mut writer),
        (Word::Expire(_) | Word::Persist, reply) => {
            writer.integer(i64::from(matches!(reply, Reply::Done)));
        }
        (Word::StrLen, Reply::Peeked { value_bytes, .. }) => writer.integer(i64::from(*value_bytes)),
        (Word::StrLen, _) => writer.integer(0),
        (Word::Type, Reply::Peeked { .. }) => writer.simple("string"),
        (Word::Type, _) => writer.simple("none"),
        (Word::Ttl(_) | Word::ExpireTime(_), Reply::Peeked { expiration, now, .. }) => {
            writer.integer(time(row.word, *expiration, *now));
        }
        (Word::Ttl(_) | Word::ExpireTime(_), _) => writer.integer(-2),
        (Word::Flush, _) => writer.ok(),
        (Word::DbSize, Reply::Stats(stats)) => writer.integer(item_count(stats)),
        (Word::Scan | Word::Keys | Word::RandomKey, Reply::Scanned(page)) => {
            listing::render(resp, row.word, op, page, batch, server, &mut writer);
        }
        _ => admin::answer(resp, row.word, op, reply, batch, server, &mut writer),
    }
}

/// What is wrong with a request, or with one of its keys.
#[cold]
fn complain(resp: &mut Resp, note: Note, op: &Op, batch: &Batch, writer: &mut Writer<'_>) {
    let complaint = Complaint::of_code(note.complaint).unwrap_or(Complaint::Unknown);
    let input = batch.input.filled();
    match (note.shape(), complaint) {
        // What cannot be a key is not there.
        (Shape::Keys, Complaint::KeyTooLong | Complaint::EmptyKey) => {
            if note.row().is_some_and(|row| row.word == Word::MGet) {
                if note.is_first {
                    writer.array(note.left);
                }
                return writer.null();
            }
            counted_key(resp, note, false, writer);
        }
        (Shape::Pairs, complaint) if complaint != Complaint::Arity => {
            let complaint = resp.failed.take().unwrap_or(complaint);
            writer.complaint_about(complaint, quoted_name(note));
        }
        (_, Complaint::Unknown) => unknown(&Args::of(input, op.starts_at), writer),
        (_, Complaint::NoArray | Complaint::NoBulk) => writer.complaint_about(complaint, &[note.quoted]),
        (_, Complaint::Option) => {
            let args = Args::of(input, op.starts_at);
            let known = ["nx", "xx", "gt", "lt"];
            let is_unknown = |at: &usize| !known.iter().any(|option| args.is(*at, option));
            let at = (3..args.len()).find(is_unknown).unwrap_or(args.len());
            writer.complaint_about(complaint, args.get(at));
        }
        _ => writer.complaint_about(complaint, quoted_name(note)),
    }
}

fn quoted_name(note: Note) -> &'static [u8] {
    note.row().map_or(b"", |row| row.name.as_bytes())
}

/// As Redis words it: the name, and so many arguments as begin within 128 bytes.
fn unknown(args: &Args<'_>, writer: &mut Writer<'_>) {
    const QUOTED_BYTES: usize = 128;
    let quote = |bytes: &[u8], limit: usize, output: &mut Vec<u8>| {
        let text = bytes.iter().take(limit).take_while(|byte| **byte != 0);
        output.extend(text.map(|byte| in_line(*byte)));
    };
    let output = writer.output.bytes();
    output.extend_from_slice(b"-ERR unknown command '");
    quote(args.get(0), QUOTED_BYTES, output);
    output.extend_from_slice(b"', with args beginning with: ");
    let from = output.len();
    for arg in args.from(1) {
        let limit = QUOTED_BYTES.saturating_sub(output.len().saturating_sub(from));
        if limit == 0 {
            break;
        }
        output.push(b'\'');
        quote(arg, limit, output);
        output.extend_from_slice(b"' ");
    }
    output.extend_from_slice(b"\r\n");
}

/// One key of several whose answer is a number.
fn counted_key(resp: &mut Resp, note: Note, counts: bool, writer: &mut Writer<'_>) {
    if note.is_first {
        resp.sum = 0;
    }
    resp.sum = resp.sum.saturating_add(u64::from(counts));
    if note.left == 1 {
        writer.integer(i64::try_from(resp.sum).unwrap_or(i64::MAX));
    }
}

/// One key of several that are set: the last one answers for all.
fn stored_pair(resp: &mut Resp, note: Note, op: &Op, reply: &Reply, writer: &mut Writer<'_>) {
    if matches!(op.command, Command::Guard { .. }) {
        return;
    }
    if note.is_first {
        resp.failed = None;
    }
    if let Reply::Refused(why) = reply {
        resp.failed.get_or_insert(refused(*why));
    }
    if note.left > 1 {
        return;
    }
    match (resp.failed.take(), note.shape()) {
        (Some(complaint), _) => writer.complaint(complaint),
        (None, Shape::AllPairs) => writer.integer(i64::from(matches!(reply, Reply::Stored { .. }))),
        (None, _) => writer.ok(),
    }
}

/// GETRANGE: a negative place counts from the end.
fn range(op: &Op, reply: &Reply, batch: &Batch, writer: &mut Writer<'_>) {
    let Reply::Hit { value, .. } = reply else {
        return writer.bulk(b"");
    };
    let args = Args::of(batch.input.filled(), op.starts_at);
    let place = |number| counter::parse_exact(args.get(number)).unwrap_or(0);
    let body = Body::of(*value, batch);
    let len = i64::try_from(body.len()).unwrap_or(i64::MAX);
    let (start, end) = (place(2), place(3));
    let from_front = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let last = from_front(end).min(len.saturating_sub(1));
    let first = from_front(start);
    if start < 0 && end < 0 && start > end || first > last {
        return writer.bulk(b"");
    }
    let [first, end] = [first, last.saturating_add(1)].map(|at| usize::try_from(at).unwrap_or(0));
    writer.body(body.slice(first..end));
}

/// What TTL and EXPIRETIME tell, in whole seconds, rounded down: an item that ends with the second that has begun has
/// none left.
fn time(word: Word, expiration: u32, now: u32) -> i64 {
    if expiration == 0 {
        return -1;
    }
    let left = expiration.saturating_sub(now).saturating_sub(1);
    match word {
        Word::Ttl(Unit::Seconds) => i64::from(left),
        Word::Ttl(Unit::Millis) => i64::from(left).saturating_mul(1000),
        Word::ExpireTime(Unit::Millis) => i64::from(expiration).saturating_mul(1000),
        _ => i64::from(expiration),
    }
}

/// Items there are for anyone to see, and some that have expired since.
pub(super) fn item_count(stats: &StorageStats) -> i64 {
    match stats {
        StorageStats::Figures(figures) => {
            i64::try_from(figures.item_count.saturating_sub(figures.flushed_count)).unwrap_or(i64::MAX)
        }
        _ => 0,
    }
}

fn refused(why: Refusal) -> Complaint {
    match why {
        Refusal::TooLarge => Complaint::TooLarge,
        Refusal::OutOfMemory => Complaint::OutOfMemory,
    }
}

impl Writer<'_> {
    /// The value of an item, or that there is none.
    #[inline]
    fn hit(&mut self, reply: &Reply, batch: &Batch) {
        match reply {
            Reply::Hit { value, .. } => {
                self.body(Body::of(*value, batch));
            }
            Reply::Refused(why) => self.complaint(refused(*why)),
            Reply::Stored { .. } | Reply::Done => self.ok(),
            _ => self.null(),
        }
    }

    /// A value, which is not copied where that is to be avoided.
    #[inline]
    fn body(&mut self, body: Body<'_>) {
        self.number(b'$', body.len());
        body.append_to(self.output);
        self.output.bytes().extend_from_slice(b"\r\n");
    }

    /// A mark and a number in a line.
    #[inline]
    fn number(&mut self, mark: u8, number: usize) {
        let bytes = self.output.bytes();
        push_number(mark, u64::try_from(number).unwrap_or(u64::MAX), bytes);
        bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub(super) fn ok(&mut self) {
        self.output.bytes().extend_from_slice(b"+OK\r\n");
    }

    /// A line of text.
    pub(super) fn simple(&mut self, text: &str) {
        let bytes = self.output.bytes();
        bytes.push(b'+');
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }

    /// An error, its kind first.
    pub(super) fn error(&mut self, text: &str) {
        let bytes = self.output.bytes();
        bytes.push(b'-');
        bytes.extend(text.bytes().map(in_line));
        bytes.extend_from_slice(b"\r\n");
    }

    fn complaint(&mut self, complaint: Complaint) {
        self.complaint_about(complaint, b"");
    }

    pub(super) fn complaint_about(&mut self, complaint: Complaint, quoted: &[u8]) {
        complaint.write(quoted, self.output.bytes());
    }

    #[inline]
    pub(super) fn integer(&mut self, number: i64) {
        let bytes = self.output.bytes();
        bytes.push(b':');
        bytes.extend_from_slice(Digits::of_signed(number).as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', bytes.len());
        self.output.bytes().extend_from_slice(bytes);
        self.output.bytes().extend_from_slice(b"\r\n");
    }

    /// Nothing.
    #[inline]
    pub(super) fn null(&mut self) {
        let null: &[u8] = match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        };
        self.output.bytes().extend_from_slice(null);
    }

    /// So many answers are to follow.
    #[inline]
    pub(super) fn array(&mut self, len: u32) {
        self.number(b'*', usize::try_from(len).unwrap_or(usize::MAX));
    }

    /// So many pairs of answers are to follow.
    pub(super) fn map(&mut self, len: usize) {
        match self.version {
            Version::Two => self.number(b'*', len.saturating_mul(2)),
            Version::Three => self.number(b'%', len),
        }
    }

    /// So many answers are to follow, in no order.
    pub(super) fn set(&mut self, len: usize) {
        match self.version {
            Version::Two => self.number(b'*', len),
            Version::Three => self.number(b'~', len),
        }
    }

    /// A text for people.
    pub(super) fn text(&mut self, text: &str) {
        match self.version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => {
                const KIND: &str = "txt:";
                self.number(b'=', KIND.len().saturating_add(text.len()));
                let bytes = self.output.bytes();
                bytes.extend_from_slice(KIND.as_bytes());
                bytes.extend_from_slice(text.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
        }
    }
}
