//! Responses, and errors in JSON.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde_json::json;

/// A response, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// A request that is not served, and why.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    why: String,
    field: Option<(HeaderName, HeaderValue)>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), field: None }
    }

    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// The same with a header field.
    pub(super) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { field: Some((name, HeaderValue::from_static(value))), ..self }
    }
}

impl From<super::desk::Gone> for Refused {
    fn from(_: super::desk::Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending")
    }
}

impl From<Refused> for Answer {
    fn from(Refused { status, why, field }: Refused) -> Self {
        let body = format!("{}\n", json!({ "error": why, "status": status.as_u16() }));
        let mut answer = typed(status, "application/json", body);
        if let Some((name, value)) = field {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// A response with a body of this type. Browsers do not guess another one, and nobody keeps it.
pub(super) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
