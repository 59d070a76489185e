//! Which request goes where.

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};

use super::Shared;
use super::answer::{Answer, Refused, typed};
use super::{keys, metrics, status};
use crate::server::Stage;
use crate::snapshot::Asked;

const PAGE: &str = include_str!("page.html");
/// The page runs its own script and asks its own server; nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const READ: &[Method] = &[Method::GET, Method::HEAD];

/// The answer to a request.
pub(super) async fn answer(request: Request<Incoming>, shared: &Shared) -> Answer {
    log::trace!("HTTP: {} {}", request.method(), request.uri());
    serve(request, shared).await.unwrap_or_else(|refused: Refused| refused.into())
}

async fn serve(request: Request<Incoming>, shared: &Shared) -> Result<Answer, Refused> {
    refuse_strangers(request.headers())?;
    let path = request.uri().path();
    let needs_storage = path == "/metrics" || path.starts_with("/v1/");
    if needs_storage && shared.server.stage() == Stage::Restoring {
        return Err(unready("restoring").with(RETRY_AFTER, "1"));
    }
    if let Some(key) = path.strip_prefix("/v1/keys/") {
        let key = keys::Key::decode(key)?;
        return keys::answer(key, request, shared).await;
    }
    let method = request.method();
    match path {
        "/" => {
            allow(method, READ, "GET, HEAD")?;
            let mut page = typed(StatusCode::OK, "text/html; charset=utf-8", PAGE);
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
            Ok(page)
        }
        "/metrics" => {
            allow(method, READ, "GET, HEAD")?;
            metrics::answer(shared).await
        }
        "/v1/stats" => {
            allow(method, READ, "GET, HEAD")?;
            status::answer(shared).await
        }
        "/healthz" => {
            allow(method, READ, "GET, HEAD")?;
            Ok(typed(StatusCode::OK, "text/plain", "ok\n"))
        }
        "/readyz" => {
            allow(method, READ, "GET, HEAD")?;
            match shared.server.stage() {
                Stage::Ready => Ok(typed(StatusCode::OK, "text/plain", "ready\n")),
                Stage::Restoring => Err(unready("restoring")),
                Stage::Draining => Err(unready("draining")),
            }
        }
        "/v1/snapshot" => {
            allow(method, &[Method::POST], "POST")?;
            match shared.server.snapshots.take() {
                Asked::Taken => {
                    Ok(typed(StatusCode::ACCEPTED, "application/json", "{\"snapshot\":\"is taken\"}\n"))
                }
                Asked::Off => Err(Refused::new(StatusCode::NOT_IMPLEMENTED, "there is no snapshot file")),
            }
        }
        _ => Err(Refused::new(StatusCode::NOT_FOUND, format!("nothing is served at {path}"))),
    }
}

fn unready(why: &str) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, why)
}

pub(super) fn allow(method: &Method, allowed: &[Method], told: &'static str) -> Result<(), Refused> {
    if allowed.contains(method) {
        return Ok(());
    }
    let refused =
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not served here, only {told}"));
    Err(refused.with(ALLOW, told))
}

/// A page of somebody else's site, open in a browser that can reach this server, has no business here.
fn refuse_strangers(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let shown = origin.as_bytes();
    let shown = shown.strip_prefix(b"https://").or_else(|| shown.strip_prefix(b"http://"));
    if shown.is_some_and(|shown| shown == host) {
        return Ok(());
    }
    Err(Refused::new(StatusCode::FORBIDDEN, "pages of other origins are not served"))
}
