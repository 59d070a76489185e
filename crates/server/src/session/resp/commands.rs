//! The commands, as a table, and what each asks of the storage thread.
//!
//! Times: the storage thread knows whole seconds, and Redis's clients ask for milliseconds. A time to live is rounded up
//! to whole seconds and one more is added for the second that has begun, a time of day is rounded up; so nothing ends
//! before its time, and at most two seconds after. What is told of it is rounded down. Nothing ends after the year 2106:
//! a time beyond it stands for that.

use wire::Expiration;

use crate::figures::Group;
use crate::message::{Command, ExpireWhen, Old, Payload, Put, PutWhen, Reading};
use crate::session::resp::complaint::Complaint;
use crate::session::resp::frame::Args;
use crate::storage::counter;
use crate::storage::scan::SCAN_ITEMS_MAX;

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// In lower case, as errors and COMMAND tell it.
    pub(super) name: &'static str,
    pub(super) word: Word,
    /// How many arguments it takes, its name among them; a negative one says 'so many or more'.
    pub(super) arity: i8,
    pub(super) shape: Shape,
    /// Whether it changes something, as COMMAND tells it.
    pub(super) access: Access,
}

/// What a command's arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// No key.
    Plain,
    /// A key, and what belongs to it.
    Key,
    /// The same, with a value at this place.
    Value(usize),
    /// Keys: one operation each, taken as they arrive.
    Keys,
    /// Keys and values: the same.
    Pairs,
    /// The same, all at once.
    AllPairs,
}

/// Whether a command changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Admin,
}

/// What is to be done; commands that differ in their arguments only have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Append,
    Client,
    Command,
    Config,
    DbSize,
    Decr,
    DecrBy,
    Del,
    Echo,
    Exists,
    Expire(Clock),
    ExpireTime(Unit),
    Flush,
    Get,
    GetDel,
    GetEx,
    GetRange,
    GetSet,
    Hello,
    Auth,
    Incr,
    IncrBy,
    Info,
    Keys,
    MGet,
    MSet,
    MSetNx,
    Persist,
    Ping,
    Quit,
    RandomKey,
    Reset,
    Scan,
    Select,
    Set,
    SetEx(Unit),
    SetNx,
    SetRange,
    StrLen,
    Touch,
    Ttl(Unit),
    Type,
}

/// In what a time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
}

/// What a time counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Now(Unit),
    Epoch(Unit),
}

macro_rules! rows {
    ($($name:literal $arity:literal $shape:expr, $access:ident, $word:expr;)*) => {
        &[$(Row { name: $name, word: $word, arity: $arity, shape: $shape, access: Access::$access },)*]
    };
}

/// All commands; those that are asked for most come first, because that is how they are looked up.
pub(super) static TABLE: &[Row] = {
    use Clock::{Epoch, Now};
    use Shape::{AllPairs, Key, Keys, Pairs, Plain, Value};
    use Unit::{Millis, Seconds};
    rows! {
        "get"         2  Key,      Read,  Word::Get;
        "set"        -3  Value(2), Write, Word::Set;
        "mget"       -2  Keys,     Read,  Word::MGet;
        "del"        -2  Keys,     Write, Word::Del;
        "incr"        2  Key,      Write, Word::Incr;
        "setex"       4  Value(3), Write, Word::SetEx(Seconds);
        "mset"       -3  Pairs,    Write, Word::MSet;
        "exists"     -2  Keys,     Read,  Word::Exists;
        "expire"     -3  Key,      Write, Word::Expire(Now(Seconds));
        "ttl"         2  Key,      Read,  Word::Ttl(Seconds);
        "incrby"      3  Key,      Write, Word::IncrBy;
        "ping"       -1  Plain,    Admin, Word::Ping;
        "decr"        2  Key,      Write, Word::Decr;
        "decrby"      3  Key,      Write, Word::DecrBy;
        "setnx"       3  Value(2), Write, Word::SetNx;
        "psetex"      4  Value(3), Write, Word::SetEx(Millis);
        "getex"      -2  Key,      Write, Word::GetEx;
        "getset"      3  Value(2), Write, Word::GetSet;
        "getdel"      2  Key,      Write, Word::GetDel;
        "append"      3  Value(2), Write, Word::Append;
        "strlen"      2  Key,      Read,  Word::StrLen;
        "getrange"    4  Key,      Read,  Word::GetRange;
        "substr"      4  Key,      Read,  Word::GetRange;
        "setrange"    4  Value(3), Write, Word::SetRange;
        "unlink"     -2  Keys,     Write, Word::Del;
        "touch"      -2  Keys,     Read,  Word::Touch;
        "msetnx"     -3  AllPairs, Write, Word::MSetNx;
        "pexpire"    -3  Key,      Write, Word::Expire(Now(Millis));
        "expireat"   -3  Key,      Write, Word::Expire(Epoch(Seconds));
        "pexpireat"  -3  Key,      Write, Word::Expire(Epoch(Millis));
        "persist"     2  Key,      Write, Word::Persist;
        "pttl"        2  Key,      Read,  Word::Ttl(Millis);
        "expiretime"  2  Key,      Read,  Word::ExpireTime(Seconds);
        "pexpiretime" 2  Key,      Read,  Word::ExpireTime(Millis);
        "type"        2  Key,      Read,  Word::Type;
        "scan"       -2  Plain,    Read,  Word::Scan;
        "keys"        2  Plain,    Read,  Word::Keys;
        "randomkey"   1  Plain,    Read,  Word::RandomKey;
        "dbsize"      1  Plain,    Read,  Word::DbSize;
        "flushall"   -1  Plain,    Write, Word::Flush;
        "flushdb"    -1  Plain,    Write, Word::Flush;
        "echo"        2  Plain,    Admin, Word::Echo;
        "select"      2  Plain,    Admin, Word::Select;
        "hello"      -1  Plain,    Admin, Word::Hello;
        "auth"       -2  Plain,    Admin, Word::Auth;
        "client"     -2  Plain,    Admin, Word::Client;
        "command"    -1  Plain,    Admin, Word::Command;
        "config"     -2  Plain,    Admin, Word::Config;
        "info"       -1  Plain,    Admin, Word::Info;
        "reset"       1  Plain,    Admin, Word::Reset;
        "quit"       -1  Plain,    Admin, Word::Quit;
    }
};

/// The places of the two that are asked for most.
pub(super) const GET: u8 = 0;
pub(super) const SET: u8 = 1;

/// The command of this name, in whatever case.
#[inline]
pub(super) fn find(name: &[u8]) -> Option<(u8, &'static Row)> {
    let at = TABLE.iter().position(|row| row.name.as_bytes().eq_ignore_ascii_case(name))?;
    Some((u8::try_from(at).ok()?, TABLE.get(at)?))
}

impl Row {
    /// Whether a request of so many arguments is one of this command.
    #[inline]
    pub(super) fn takes(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        let is_even = count.is_multiple_of(2);
        match self.shape {
            Shape::Pairs | Shape::AllPairs if is_even => false,
            _ if self.arity < 0 => count >= wanted,
            _ => count == wanted,
        }
    }
}

/// What a request asks of the storage thread; its value lies at `value`. More arguments than were looked at are too many
/// in any case.
#[inline]
pub(super) fn command(row: &Row, args: &Args<'_>, value: Payload) -> Result<Command, Complaint> {
    let put = |when, expiration, old| Command::Put(Put { when, expiration, old, value });
    Ok(match row.word {
        Word::Get => Command::Get,
        Word::Set => return set(args, value),
        Word::Incr => Command::Add { delta: 1 },
        Word::Decr => Command::Add { delta: -1 },
        Word::IncrBy => Command::Add { delta: integer(args.get(2))? },
        Word::DecrBy => {
            let delta = integer(args.get(2))?.checked_neg().ok_or(Complaint::DecrementOverflow)?;
            Command::Add { delta }
        }
        Word::SetEx(unit) => {
            let ends = expiration(args.get(2), Clock::Now(unit))?;
            put(PutWhen::Always, Some(ends), Old::Untold)
        }
        Word::SetNx => put(PutWhen::Missing, Some(Expiration::Never), Old::Untold),
        Word::GetSet => put(PutWhen::Always, Some(Expiration::Never), Old::Told),
        Word::GetDel => Command::Take,
        Word::GetEx => return get_and_expire(args),
        Word::Append => Command::Patch { offset: None, value },
        Word::SetRange => {
            let offset = integer(args.get(2))?;
            // What lies beyond any length is refused by the storage thread.
            let offset = u64::try_from(offset).map_err(|_| Complaint::Offset)?;
            Command::Patch { offset: Some(u32::try_from(offset).unwrap_or(u32::MAX)), value }
        }
        Word::GetRange => {
            integer(args.get(2))?;
            integer(args.get(3))?;
            Command::Get
        }
        Word::StrLen => Command::Peek(Reading::Noted),
        Word::Ttl(_) | Word::ExpireTime(_) | Word::Type => Command::Peek(Reading::Unnoticed),
        Word::Persist => Command::Expire { expiration: Expiration::Never, when: ExpireWhen::Volatile },
        Word::Expire(clock) => return expire(args, clock),
        Word::DbSize | Word::Info => Command::Stats(Group::General),
        Word::Flush => return flush(args),
        Word::Scan => {
            let scan = ScanRequest::parse(args)?;
            Command::Scan { cursor: scan.cursor, count: scan.count }
        }
        Word::Keys => Command::Scan { cursor: 0, count: SCAN_ITEMS_MAX },
        Word::RandomKey => Command::Sample,
        Word::Config if args.is(1, "resetstat") => Command::Stats(Group::Reset),
        // These answer from what the session knows, when it is their turn.
        _ => Command::Pass,
    })
}

/// What one key of several asks of the storage thread.
#[inline]
pub(super) fn key_command(word: Word) -> Command {
    match word {
        Word::Del => Command::Delete { cas: None },
        Word::Exists => Command::Peek(Reading::Unnoticed),
        Word::Touch => Command::Peek(Reading::Noted),
        _ => Command::Get,
    }
}

/// What one key and value of several ask of it, or both alone.
#[inline]
pub(super) fn pair_command(word: Word, value: Payload) -> Command {
    let when = if word == Word::MSetNx { PutWhen::Unguarded } else { PutWhen::Always };
    Command::Put(Put { when, expiration: Some(Expiration::Never), old: Old::Untold, value })
}

/// SET key value, and any of: NX or XX, GET, and one of EX, PX, EXAT, PXAT, KEEPTTL.
#[inline]
fn set(args: &Args<'_>, value: Payload) -> Result<Command, Complaint> {
    let mut put = Put { when: PutWhen::Always, expiration: Some(Expiration::Never), old: Old::Untold, value };
    let mut at = 3_usize;
    // The number is looked at when everything else is found to be right.
    let mut time: Option<(Clock, usize)> = None;
    while at < args.len() {
        if args.is(at, "nx") && put.when != PutWhen::There {
            put.when = PutWhen::Missing;
        } else if args.is(at, "xx") && put.when != PutWhen::Missing {
            put.when = PutWhen::There;
        } else if args.is(at, "get") {
            put.old = Old::Told;
        } else if args.is(at, "keepttl") && time.is_none() {
            put.expiration = None;
        } else if let Some(clock) = clock(args, at)
            && put.expiration.is_some()
            && time.is_none_or(|(before, _)| before == clock)
            && at.saturating_add(1) < args.len()
        {
            at = at.saturating_add(1);
            time = Some((clock, at));
        } else {
            return Err(Complaint::Syntax);
        }
        at = at.saturating_add(1);
    }
    if let Some((clock, at)) = time {
        put.expiration = Some(expiration(args.get(at), clock)?);
    }
    Ok(Command::Put(put))
}

/// GETEX key, and one of: EX, PX, EXAT, PXAT, PERSIST. It may come twice, and the last one counts.
fn get_and_expire(args: &Args<'_>) -> Result<Command, Complaint> {
    let mut at = 2_usize;
    let mut persists = false;
    let mut time: Option<(Clock, usize)> = None;
    while at < args.len() {
        if args.is(at, "persist") && time.is_none() {
            persists = true;
        } else if let Some(clock) = clock(args, at)
            && !persists
            && time.is_none_or(|(before, _)| before == clock)
            && at.saturating_add(1) < args.len()
        {
            at = at.saturating_add(1);
            time = Some((clock, at));
        } else {
            return Err(Complaint::Syntax);
        }
        at = at.saturating_add(1);
    }
    Ok(match time {
        Some((clock, at)) => Command::GetAndTouch { expiration: expiration(args.get(at), clock)? },
        None if persists => Command::GetAndTouch { expiration: Expiration::Never },
        None => Command::Get,
    })
}

/// EXPIRE key time, and: NX, XX, GT, LT.
fn expire(args: &Args<'_>, clock: Clock) -> Result<Command, Complaint> {
    let [mut nx, mut xx, mut gt, mut lt] = [false; 4];
    for at in 3..args.len() {
        match () {
            () if args.is(at, "nx") => nx = true,
            () if args.is(at, "xx") => xx = true,
            () if args.is(at, "gt") => gt = true,
            () if args.is(at, "lt") => lt = true,
            () => return Err(Complaint::Option),
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Complaint::NxAndOthers);
    }
    let when = match (nx, xx, gt, lt) {
        (_, _, true, true) => return Err(Complaint::GtAndLt),
        (true, ..) => ExpireWhen::Persistent,
        (_, _, true, _) => ExpireWhen::Later,
        (_, true, _, true) => ExpireWhen::SoonerIfVolatile,
        (_, _, _, true) => ExpireWhen::Sooner,
        (_, true, ..) => ExpireWhen::Volatile,
        _ => ExpireWhen::Always,
    };
    let time = integer(args.get(2))?;
    let expiration = expiration_of(time, clock).ok_or(Complaint::ExpireTime)?;
    Ok(Command::Expire { expiration, when })
}

/// FLUSHALL, and ASYNC or SYNC.
fn flush(args: &Args<'_>) -> Result<Command, Complaint> {
    match args.len() {
        1 => Ok(Command::Flush { at: Expiration::Never }),
        2 if args.is(1, "async") || args.is(1, "sync") => Ok(Command::Flush { at: Expiration::Never }),
        _ => Err(Complaint::Syntax),
    }
}

/// SCAN cursor, and any of: MATCH pattern, COUNT number, TYPE name.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanRequest<'a> {
    pub(super) cursor: u64,
    pub(super) count: u32,
    pub(super) pattern: Option<&'a [u8]>,
    /// Whether strings are asked for: nothing else is stored.
    pub(super) wants_strings: bool,
}

impl<'a> ScanRequest<'a> {
    pub(super) fn parse(args: &Args<'a>) -> Result<Self, Complaint> {
        const COUNT_DEFAULT: u32 = 10;
        let cursor = std::str::from_utf8(args.get(1)).ok().and_then(|cursor| cursor.parse().ok());
        let cursor = cursor.ok_or(Complaint::Cursor)?;
        let mut scan = Self { cursor, count: COUNT_DEFAULT, pattern: None, wants_strings: true };
        let mut at = 2_usize;
        while at < args.len() {
            let value = at.saturating_add(1);
            if value >= args.len() {
                return Err(Complaint::Syntax);
            }
            if args.is(at, "match") {
                scan.pattern = Some(args.get(value));
            } else if args.is(at, "count") {
                let count = integer(args.get(value))?;
                if count < 1 {
                    return Err(Complaint::Syntax);
                }
                scan.count = u32::try_from(count).unwrap_or(u32::MAX);
            } else if args.is(at, "type") {
                scan.wants_strings = args.is(value, "string");
            } else {
                return Err(Complaint::Syntax);
            }
            at = at.saturating_add(2);
        }
        Ok(scan)
    }
}

fn integer(digits: &[u8]) -> Result<i64, Complaint> {
    counter::parse_exact(digits).ok_or(Complaint::NoInteger)
}

/// The clock of the option at `at`, if it is one that sets a time.
fn clock(args: &Args<'_>, at: usize) -> Option<Clock> {
    [
        ("ex", Clock::Now(Unit::Seconds)),
        ("px", Clock::Now(Unit::Millis)),
        ("exat", Clock::Epoch(Unit::Seconds)),
        ("pxat", Clock::Epoch(Unit::Millis)),
    ]
    .into_iter()
    .find_map(|(name, clock)| args.is(at, name).then_some(clock))
}

/// A time that must lie behind the clock's beginning.
fn expiration(digits: &[u8], clock: Clock) -> Result<Expiration, Complaint> {
    let time = integer(digits)?;
    match expiration_of(time, clock) {
        Some(expiration) if time > 0 => Ok(expiration),
        _ => Err(Complaint::ExpireTime),
    }
}

/// What a time means; `None` where Redis's 64 bits of milliseconds do not hold it.
fn expiration_of(time: i64, clock: Clock) -> Option<Expiration> {
    const MILLIS: i64 = 1000;
    /// What has ended.
    const PAST: Expiration = Expiration::At(1);
    /// Milliseconds since the epoch, at most.
    const NOW_MAX: i64 = 0xffff_ffff * MILLIS;
    let (Clock::Now(unit) | Clock::Epoch(unit)) = clock;
    let (seconds, millis) = match unit {
        Unit::Seconds => (time, time.checked_mul(MILLIS)?),
        Unit::Millis => {
            (time.div_euclid(MILLIS).saturating_add(i64::from(time.rem_euclid(MILLIS) > 0)), time)
        }
    };
    if matches!(clock, Clock::Now(_)) {
        millis.checked_add(NOW_MAX)?;
    }
    if time <= 0 {
        return Some(PAST);
    }
    let whole = |seconds: i64| u32::try_from(seconds).unwrap_or(u32::MAX);
    Some(match clock {
        Clock::Now(_) => Expiration::After(whole(seconds.saturating_add(1))),
        Clock::Epoch(_) => Expiration::At(whole(seconds)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_only_whole() {
        for (at, row) in TABLE.iter().enumerate() {
            let found = |name: &str| find(name.as_bytes()).map(|(at, _)| usize::from(at));
            assert_eq!(found(row.name), Some(at), "{} stands twice", row.name);
            assert_eq!(found(&row.name.to_ascii_uppercase()), Some(at));
            assert_eq!(found(&format!("{}x", row.name)), None);
        }
        let place_of = |name| find(name).map(|(at, _)| at);
        assert_eq!((place_of(b"get"), place_of(b"set")), (Some(GET), Some(SET)));
        assert!(find(b"").is_none() && find(b"ge").is_none() && find(b"ge\xf4").is_none());
    }

    #[test]
    fn times_are_rounded_so_that_nothing_ends_early() {
        use Clock::{Epoch, Now};
        use Expiration::{After, At};
        use Unit::{Millis, Seconds};
        for (time, clock, means) in [
            (10, Now(Seconds), Some(After(11))),
            (1, Now(Millis), Some(After(2))),
            (1000, Now(Millis), Some(After(2))),
            (1001, Now(Millis), Some(After(3))),
            (0, Now(Seconds), Some(At(1))),
            (-5, Now(Millis), Some(At(1))),
            (1_700_000_000, Epoch(Seconds), Some(At(1_700_000_000))),
            (1_700_000_000_000, Epoch(Millis), Some(At(1_700_000_000))),
            (1_700_000_000_001, Epoch(Millis), Some(At(1_700_000_001))),
            (-1, Epoch(Seconds), Some(At(1))),
            (i64::from(u32::MAX), Now(Seconds), Some(After(u32::MAX))),
            (i64::MAX / 1001, Now(Seconds), Some(After(u32::MAX))),
            (i64::MAX / 1000, Now(Seconds), None),
            (i64::MAX / 1000, Epoch(Seconds), Some(At(u32::MAX))),
            (i64::MAX, Now(Millis), None),
            (i64::MAX, Epoch(Seconds), None),
            (i64::MIN, Epoch(Seconds), None),
            (i64::MAX, Epoch(Millis), Some(At(u32::MAX))),
        ] {
            assert_eq!(expiration_of(time, clock), means, "{time} {clock:?}");
        }
    }
}
