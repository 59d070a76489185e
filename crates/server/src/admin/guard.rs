//! Who may come in, where there are users: HTTP is no way round them.
//!
//! A client shows name and password with each request (`Authorization: Basic`), so what was right on a connection is
//! remembered there, and costs a comparison from then on. Failures are counted as in the other protocols, and end the
//! connection after as many. Whether the server lives and is ready, anybody may ask.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};

use super::answer::{Answer, Refused};
use crate::auth::{Access, Verdict};
use crate::server::ServerCounters;

const CHALLENGE: &str = "Basic realm=\"memwire\", charset=\"UTF-8\"";
/// What probes ask, which have no password.
const OPEN: &[&str] = &["/healthz", "/readyz"];

/// What is known of the client of one connection.
#[derive(Debug, Default)]
pub(super) struct Guard {
    accepted: Option<HeaderValue>,
    failures: u32,
}

impl Guard {
    /// What a request is answered that is not let in.
    pub(super) fn refusal<B>(&mut self, request: &Request<B>, access: Option<&Access>) -> Option<Answer> {
        let access = access?;
        let is_probe =
            matches!(*request.method(), Method::GET | Method::HEAD) && OPEN.contains(&request.uri().path());
        if is_probe {
            return None;
        }
        let Some(shown) = request.headers().get(AUTHORIZATION) else {
            return Some(refused("a user's name and password are wanted"));
        };
        // Only who has shown it on this connection can learn anything of how long this takes.
        if self.accepted.as_ref() == Some(shown) {
            return None;
        }
        self.accepted = None;
        if verdict(shown, access) == Verdict::Accepted {
            self.accepted = Some(shown.clone());
            return None;
        }
        self.failures += 1;
        let mut answer = refused("this is nobody's name and password");
        if self.failures >= access.limits.failures_max {
            ServerCounters::add(&access.counters.auth_kicks, 1);
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Some(answer)
    }
}

/// One that is not understood is a failure like any other.
fn verdict(shown: &HeaderValue, access: &Access) -> Verdict {
    let decoded = credentials(shown, access.limits.request_bytes_max);
    let colon = decoded.iter().position(|byte| *byte == b':').unwrap_or(decoded.len());
    let (name, password) = decoded.split_at(colon);
    access.check(name, password.get(1..).unwrap_or_default())
}

/// What stands behind `Basic`, where it is no longer than what a stranger may say in other protocols.
fn credentials(shown: &HeaderValue, bytes_max: usize) -> Vec<u8> {
    let encoded = shown.as_bytes().split_first_chunk::<6>().and_then(|(scheme, encoded)| {
        (scheme.eq_ignore_ascii_case(b"Basic ") && encoded.len() <= bytes_max).then_some(encoded)
    });
    encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded.trim_ascii()).ok()).unwrap_or_default()
}

fn refused(why: &str) -> Answer {
    Refused::new(StatusCode::UNAUTHORIZED, why).with(WWW_AUTHENTICATE, CHALLENGE).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::auth::{Limits, Mechanisms, file};

    fn access() -> Access {
        let access = Access::closed(Limits::default(), Mechanisms::All);
        access.set_users(file::parse(b"ann:pen:cil", [9; 32]).unwrap());
        access
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    fn status(guard: &mut Guard, access: &Access, path: &str, shown: &str) -> Option<(u16, bool)> {
        let request = Request::get(path);
        let request = if shown.is_empty() { request } else { request.header(AUTHORIZATION, shown) };
        let answer = guard.refusal(&request.body(()).unwrap(), Some(access))?;
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], CHALLENGE);
        Some((answer.status().as_u16(), answer.headers().contains_key(CONNECTION)))
    }

    #[test]
    fn members_come_in_and_strangers_learn_only_that_the_server_lives() {
        let (access, mut guard) = (access(), Guard::default());
        assert_eq!(status(&mut guard, &access, "/v1/keys/k", &basic("ann:pen:cil")), None);
        assert_eq!(
            status(&mut guard, &access, "/metrics", &basic("ann:pen:cil").replace("Basic", "bAsIc")),
            None
        );
        assert_eq!(status(&mut guard, &access, "/metrics", ""), Some((401, false)), "each request shows it");
        for path in ["/healthz", "/readyz"] {
            assert_eq!(status(&mut guard, &access, path, ""), None);
        }
        for path in ["/", "/v1/stats", "/healthz/", "/nothing"] {
            assert_eq!(status(&mut guard, &access, path, ""), Some((401, false)), "{path}");
        }
        let post = Request::post("/healthz").body(()).unwrap();
        assert!(guard.refusal(&post, Some(&access)).is_some());
        assert!(guard.refusal(&post, None).is_none(), "where nobody is asked");
    }

    #[test]
    fn what_is_wrong_is_counted_and_ends_the_connection() {
        for wrong in [
            &basic("ann:pen")[..],
            &basic("ann"),
            &basic(""),
            &basic("Ann:pen:cil"),
            &basic("ann:pen:cil\n"),
            "Basic",
            "Basic ?",
            "Bearer x",
            &basic(&format!("ann:pen:cil{}", "x".repeat(2000))),
        ] {
            let (access, mut guard) = (access(), Guard::default());
            for is_closed in [false, false, true] {
                assert_eq!(status(&mut guard, &access, "/", wrong), Some((401, is_closed)), "{wrong}");
            }
            let counted = access.counters.lines().map(|(_, count)| count.load(Ordering::Relaxed));
            assert_eq!(counted, [3, 3, 0, 0, 1], "{wrong}");
        }
    }

    #[test]
    fn what_was_right_is_remembered_on_its_connection_and_nothing_else() {
        let (access, mut guard) = (access(), Guard::default());
        for _ in 0..3 {
            assert_eq!(status(&mut guard, &access, "/", &basic("ann:pen:cil")), None);
        }
        let [(_, cmds), ..] = access.counters.lines();
        assert_eq!(cmds.load(Ordering::Relaxed), 1);
        assert_eq!(status(&mut guard, &access, "/", &basic("ann:wrong")), Some((401, false)));
        assert_eq!(status(&mut guard, &access, "/", &basic("ann:pen:cil")), None);
        assert_eq!(cmds.load(Ordering::Relaxed), 3);
    }
}
