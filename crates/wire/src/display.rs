//! Packets as a line for people: logs, tests, tools.
//!
//! Keys are escaped and whole, values only counted.

use core::fmt;

use crate::{Cas, Command, Expiration, OnMiss, Packet, Request, RequestHeader, Response, ResponseHeader};

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} opaque=0x{:x}", self.opcode(), self.opaque)?;
        let (key, value) = self.command.key_and_value();
        key_field(key, f)?;
        match self.command {
            Command::Store {
                flags, expiration, ..
            } => {
                write!(
                    f,
                    " flags=0x{flags:x} expiration={expiration} value={}B",
                    value.len()
                )?;
            }
            Command::Concat { .. } | Command::SaslAuth { .. } | Command::SaslStep { .. } => {
                write!(f, " value={}B", value.len())?;
            }
            Command::Count { delta, on_miss, .. } => {
                write!(f, " delta={delta}")?;
                if let OnMiss::Create { initial, expiration } = on_miss {
                    write!(f, " initial={initial} expiration={expiration}")?;
                }
            }
            Command::Touch { expiration, .. }
            | Command::GetAndTouch { expiration, .. }
            | Command::Flush { at: Some(expiration) } => write!(f, " expiration={expiration}")?,
            _ => {}
        }
        cas_field(self.command.cas(), f)
    }
}

/// For [`Response`]'s own module: there the type stands, here its words.
pub(crate) fn response(response: &Response<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{} opaque=0x{:x} {}",
        response.opcode, response.opaque, response.status
    )?;
    key_field(response.key, f)?;
    if let Some(flags) = response.flags() {
        write!(f, " flags=0x{flags:x}")?;
    }
    if response.status.is_ok() && !response.value.is_empty() {
        write!(f, " value={}B", response.value.len())?;
    }
    cas_field(response.cas, f)
}

impl fmt::Display for Packet<'_, RequestHeader> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Request::parse(self) {
            Ok(request) => request.fmt(f),
            Err(reject) => write!(
                f,
                "{} opaque=0x{:x} ({reject})",
                self.header.opcode, self.header.opaque
            ),
        }
    }
}

impl fmt::Display for Packet<'_, ResponseHeader> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Response::parse(self).fmt(f)
    }
}

impl fmt::Display for Expiration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => write!(f, "never"),
            Self::After(seconds) => write!(f, "{seconds}s"),
            Self::At(seconds) => write!(f, "@{seconds}"),
        }
    }
}

fn key_field(key: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if key.is_empty() {
        Ok(())
    } else {
        write!(f, " key=\"{}\"", key.escape_ascii())
    }
}

fn cas_field(cas: Option<Cas>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match cas {
        Some(cas) => write!(f, " cas={}", cas.get()),
        None => Ok(()),
    }
}
