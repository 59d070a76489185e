//! One item: GET, PUT and DELETE of `/v1/keys/KEY`. Its version is its `ETag`.

use std::borrow::Cow;
use std::str::FromStr;

use hyper::body::Incoming;
use hyper::header::{
    CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, TRANSFER_ENCODING,
};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use wire::{Cas, Expiration, KEY_BYTES_MAX, StoreMode};

use super::Shared;
use super::answer::{Answer, Refused, empty, typed};
use super::desk;
use super::poll;
use super::route::allow;
use super::value::{self, Failed, Received};
use crate::message::{Batch, Command, Older, Refusal, Reply};

const FLAGS: HeaderName = HeaderName::from_static("x-memwire-flags");

/// A key of 1 to 250 bytes, any.
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// The key that stands in a path. What is not percent-encoded stands for itself, `/` and `+` as well.
    pub(super) fn decode(text: &str) -> Result<Self, Refused> {
        let key = Cow::from(percent_decode_str(text));
        match key.len() {
            1..=KEY_BYTES_MAX => Ok(Self(key.into())),
            0 => Err(Refused::bad("a key is missing")),
            len => Err(Refused::bad(format!("key too long: {len} bytes, limit is {KEY_BYTES_MAX}"))),
        }
    }
}

/// The answer to a request for an item.
pub(super) async fn answer(key: Key, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Refused> {
    match *request.method() {
        Method::GET | Method::HEAD => get(&key, &request, shared).await,
        Method::PUT => put(&key, request, shared).await,
        Method::DELETE => delete(&key, &request, shared).await,
        ref method => {
            allow(method, &[], "GET, HEAD, PUT, DELETE")?;
            Err(not_found())
        }
    }
}

async fn get(key: &Key, request: &Request<Incoming>, shared: &Shared) -> Result<Answer, Refused> {
    let [index, wait] = parameters(request, ["index", "wait"])?;
    if index.is_some() || wait.is_some() {
        let known = index.map_or(Ok(0), |index| number("index", index))?;
        let answer = poll::differs(&key.0, known, poll::wait_ms(wait)?, shared).await?;
        return answer.map_or_else(
            || Ok(versioned(empty(StatusCode::NOT_MODIFIED), Cas::from_wire(known))),
            |answer| shown(answer, request.headers(), shared),
        );
    }
    let answer = ask(key, Command::Get, Box::default(), shared).await?;
    shown(answer, request.headers(), shared)
}

/// What was found, as far as the client wants it.
fn shown(
    desk::Answer { batch, reply }: desk::Answer,
    headers: &HeaderMap,
    shared: &Shared,
) -> Result<Answer, Refused> {
    let wanted = tags(headers, &IF_MATCH)?;
    let unwanted = tags(headers, &IF_NONE_MATCH)?;
    let Reply::Hit { flags, cas, value } = reply else {
        return Err(match reply {
            Reply::NotFound if wanted.is_some() => changed(),
            Reply::NotFound => not_found(),
            reply => unexpected(&reply),
        });
    };
    if wanted.is_some_and(|wanted| !wanted.holds(cas)) {
        return Err(changed());
    }
    if unwanted.is_some_and(|unwanted| unwanted.holds(cas)) {
        return Ok(versioned(empty(StatusCode::NOT_MODIFIED), cas));
    }
    let value = value::answered(&batch, value, &shared.server.meter);
    let mut answer = versioned(typed(StatusCode::OK, "application/octet-stream", value), cas);
    answer.headers_mut().insert(FLAGS, HeaderValue::from(flags));
    Ok(answer)
}

async fn put(key: &Key, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Refused> {
    let [flags, ttl] = parameters(&request, ["flags", "ttl"])?;
    let flags = match flags {
        Some(flags) => number("flags", flags)?,
        None => field(request.headers(), &FLAGS)?.map_or(Ok(0), |flags| number("flags", flags))?,
    };
    let expiration = match ttl.map_or(Ok(0), |ttl| number("ttl", ttl))? {
        0 => Expiration::Never,
        seconds => Expiration::After(seconds),
    };
    let (mode, cas) = write_condition(request.headers())?;
    refuse_hidden(cas, shared)?;
    let len = announced(request.headers())?;
    let limit = shared.server.config.item_bytes_max;
    if len > limit as u64 {
        refuse_value(key, Refusal::TooLarge, mode, shared).await?;
        let why = format!("value too long: {len} bytes, limit is {limit}");
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    let received = match value::receive(request.into_body(), len as usize, key.0.len(), shared).await {
        Ok(received) => received,
        Err(Failed::Refused(refused)) => return Err(refused),
        Err(Failed::NoMemory) => {
            refuse_value(key, Refusal::OutOfMemory, mode, shared).await?;
            return Err(out_of_memory());
        }
    };
    // What holds its place among those that are being received does so until it is stored.
    let Received { batch, payload, held: _held } = received;
    let command = Command::Store { mode, flags, expiration, cas, value: payload };
    match ask(key, command, batch, shared).await?.reply {
        Reply::Stored { cas } => {
            let status = if mode == StoreMode::Add { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
            Ok(versioned(empty(status), cas))
        }
        Reply::Exists | Reply::NotFound => Err(changed()),
        reply => Err(unexpected(&reply)),
    }
}

async fn delete(key: &Key, request: &Request<Incoming>, shared: &Shared) -> Result<Answer, Refused> {
    let [] = parameters(request, [])?;
    let wanted = tags(request.headers(), &IF_MATCH)?;
    let cas = wanted.as_ref().map_or(Ok(None), Tags::one)?;
    refuse_hidden(cas, shared)?;
    match ask(key, Command::Delete { cas }, Box::default(), shared).await?.reply {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        Reply::NotFound if wanted.is_none() => Err(not_found()),
        Reply::NotFound | Reply::Exists => Err(changed()),
        reply => Err(unexpected(&reply)),
    }
}

async fn ask(
    key: &Key,
    command: Command,
    batch: Box<Batch>,
    shared: &Shared,
) -> Result<desk::Answer, Refused> {
    Ok(shared.desk.ask(&shared.server, batch, command, &key.0).await?)
}

/// Has a value counted that is not taken. As everywhere, who set a new value must not read the old one.
async fn refuse_value(key: &Key, why: Refusal, mode: StoreMode, shared: &Shared) -> Result<(), Refused> {
    let older = if mode == StoreMode::Set { Older::Delete } else { Older::Keep };
    ask(key, Command::Unstorable { why, older }, Box::default(), shared).await.map(drop)
}

/// Bytes of the body, which has to say so itself.
fn announced(headers: &HeaderMap) -> Result<u64, Refused> {
    let length = field(headers, &CONTENT_LENGTH)?.filter(|_| !headers.contains_key(TRANSFER_ENCODING));
    let Some(length) = length else {
        return Err(Refused::new(StatusCode::LENGTH_REQUIRED, "a value comes with its Content-Length"));
    };
    number("Content-Length", length)
}

/// Which item a new value may meet.
fn write_condition(headers: &HeaderMap) -> Result<(StoreMode, Option<u64>), Refused> {
    match (tags(headers, &IF_MATCH)?, tags(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok((StoreMode::Set, None)),
        (Some(Tags::Any), None) => Ok((StoreMode::Replace, None)),
        (Some(wanted), None) => Ok((StoreMode::Set, wanted.one()?)),
        (None, Some(Tags::Any)) => Ok((StoreMode::Add, None)),
        _ => Err(Refused::bad("a PUT takes If-Match with one version or *, or If-None-Match with *")),
    }
}

/// With -C no item has a version that could be the right one.
fn refuse_hidden(cas: Option<u64>, shared: &Shared) -> Result<(), Refused> {
    if cas.is_some() && !shared.server.config.cas_enabled() { Err(changed()) } else { Ok(()) }
}

/// Versions that a client names.
enum Tags {
    Any,
    /// What is no version that was ever told reads as 0, which no item has.
    These(Vec<u64>),
}

impl Tags {
    fn holds(&self, cas: Option<Cas>) -> bool {
        match self {
            Self::Any => true,
            Self::These(versions) => cas.is_some_and(|cas| versions.contains(&cas.get())),
        }
    }

    fn one(&self) -> Result<Option<u64>, Refused> {
        match self {
            Self::Any => Ok(None),
            Self::These(versions) => match versions[..] {
                [version] => Ok(Some(version)),
                _ => Err(Refused::bad("a condition of a write names one version")),
            },
        }
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Refused> {
    let Some(text) = field(headers, name)? else { return Ok(None) };
    if text.trim() == "*" {
        return Ok(Some(Tags::Any));
    }
    let versions = text.split(',').map(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag.strip_prefix('"')?.strip_suffix('"').map(|version| version.parse().unwrap_or(0))
    });
    let versions: Option<Vec<u64>> = versions.collect();
    versions
        .map(|versions| Some(Tags::These(versions)))
        .ok_or_else(|| Refused::bad(format!("{name}: a version is quoted, as in \"1\"")))
}

/// A header field that may stand there once.
fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(name) {
            Err(Refused::bad(format!("{name} stands there more than once")))
        } else {
            Ok(None)
        };
    };
    value.to_str().map(Some).map_err(|_| Refused::bad(format!("{name} is no text")))
}

/// The parameters with these names. There may be no others, and none twice.
fn parameters<'a, const N: usize>(
    request: &'a Request<Incoming>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Refused> {
    let mut found = [None; N];
    for parameter in request.uri().query().unwrap_or_default().split('&').filter(|text| !text.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let place = names.iter().position(|known| *known == name).and_then(|at| found.get_mut(at));
        match place {
            Some(place @ None) => *place = Some(value),
            Some(Some(_)) => return Err(Refused::bad(format!("{name} stands there more than once"))),
            None => return Err(Refused::bad(format!("unknown parameter: {name}"))),
        }
    }
    Ok(found)
}

pub(super) fn number<N: FromStr>(name: &str, text: &str) -> Result<N, Refused> {
    // Rust reads a sign, too.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Refused::bad(format!("{name}: {text:?} is no number, or too large a one")))
}

fn versioned(mut answer: Answer, cas: Option<Cas>) -> Answer {
    if let Some(tag) = cas.and_then(|cas| HeaderValue::from_str(&format!("\"{}\"", cas.get())).ok()) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

fn not_found() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "no such item")
}

fn changed() -> Refused {
    Refused::new(StatusCode::PRECONDITION_FAILED, "the item is not as the condition wants it")
}

fn out_of_memory() -> Refused {
    Refused::new(StatusCode::INSUFFICIENT_STORAGE, "out of memory")
}

fn unexpected(reply: &Reply) -> Refused {
    match reply {
        Reply::Refused(Refusal::OutOfMemory) => out_of_memory(),
        Reply::TooManyWait => poll::too_many(),
        Reply::Refused(Refusal::TooLarge) => Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "value too long"),
        _ => Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the storage thread gave an answer to something else",
        ),
    }
}
