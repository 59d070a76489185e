//! Waiting for a change of an item: `GET /v1/keys/KEY?index=VERSION&wait=TIME`. The answer comes when the item has another
//! version than the client knows, or with 304 when the time is up. Version 0 is that of an item that is not there.

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use tokio::time::sleep;

use super::Shared;
use super::answer::Refused;
use super::desk;
use super::keys::number;
use crate::limits::{WATCH_WAIT_MS, WATCH_WAIT_MS_MAX};
use crate::server::{Stage, waiting_time};

/// The item when it has another version than `known`, `None` when the time is up.
pub(super) async fn differs(
    key: &[u8],
    known: u64,
    wait_ms: u64,
    shared: &Shared,
) -> Result<Option<desk::Answer>, Refused> {
    if !shared.server.config.cas_enabled() {
        return Err(Refused::bad("clients are told no versions (-C): there is nothing to wait by"));
    }
    let _place = shared.watchers.try_acquire().map_err(|_| too_many())?;
    let mut stage = shared.stage.clone();
    let mut watching = shared.desk.watch(&shared.server, key);
    if let Some(answer) = watching.look(known).await? {
        return Ok(Some(answer));
    }
    tokio::select! {
        answer = watching.differs(known) => Ok(Some(answer?)),
        _ = stage.wait_for(|stage| *stage == Stage::Draining) => {
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending"))
        }
        () = sleep(waiting_time(wait_ms)) => Ok(None),
    }
}

/// `30s`, `500ms`, `5m`; a number alone is seconds.
pub(super) fn wait_ms(text: Option<&str>) -> Result<u64, Refused> {
    let Some(text) = text else { return Ok(u64::from(WATCH_WAIT_MS)) };
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err(Refused::bad(format!("wait: {text:?} is no time, as 30s, 500ms and 5m are"))),
    };
    let wait_ms = number::<u64>("wait", digits)?.saturating_mul(unit_ms);
    if wait_ms > u64::from(WATCH_WAIT_MS_MAX) {
        return Err(Refused::bad(format!(
            "wait: {text} is too long, the limit is {}m",
            WATCH_WAIT_MS_MAX / 60_000
        )));
    }
    Ok(wait_ms)
}

pub(super) fn too_many() -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too many clients wait for changes already")
        .with(RETRY_AFTER, "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit_and_a_limit() {
        for (text, expected) in
            [("30s", 30_000), ("500ms", 500), ("5m", 300_000), ("7", 7000), ("10m", 600_000), ("0", 0)]
        {
            assert_eq!(wait_ms(Some(text)).unwrap(), expected, "{text}");
        }
        assert_eq!(wait_ms(None).unwrap(), 30_000);
        for bad in ["", "s", "-1s", "+1s", "1h", "1 s", "601s", "11m", "99999999999999999999s", "\u{e9}"] {
            assert!(wait_ms(Some(bad)).is_err(), "{bad}");
        }
    }
}
