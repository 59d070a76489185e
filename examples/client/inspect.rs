//! What a snapshot of memwire's holds. No server is asked.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use memwire::snapshot::Reader;
use memwire::snapshot::reader::{Damage, Item};
use serde_json::{Map, Value, json};
use wire::Expiration;

use crate::failure::Failure;
use crate::output::printable;

/// What a snapshot holds.
#[derive(Default)]
struct Contents {
    created: u32,
    newest_cas: u64,
    pending_flush: Option<u32>,
    items: u64,
    volatile_items: u64,
    key_bytes: usize,
    value_bytes: usize,
}

/// Reads a snapshot up to its end, or to where it is damaged, and prints what it holds.
pub(crate) fn inspect(path: &Path, lists_keys: bool, as_json: bool) -> Result<ExitCode, Failure> {
    let unreadable = |error| Failure::File { path: path.display().to_string(), error };
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut contents = Contents::default();
    let damage = contents.read(file, len, |item| {
        if !lists_keys {
            return Ok(());
        }
        let (seconds, value_len, key) = (item.expiration.to_wire(), item.value.len(), printable(item.key));
        writeln!(out, "{} {seconds} {value_len} {key}", item.flags)
    })?;
    let lines = contents.lines(len, damage.as_ref());
    let printed = if as_json {
        let fields: Map<_, _> = lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        writeln!(out, "{}", Value::Object(fields))
    } else {
        let plain = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.into_iter().try_for_each(|(name, value)| writeln!(out, "{name:<14} {}", plain(value)))
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(ExitCode::from(u8::from(damage.is_some()))),
    }
}

impl Contents {
    /// Adds up what is good, and says what is not.
    fn read(
        &mut self,
        file: File,
        len: u64,
        mut each: impl FnMut(&Item<'_>) -> io::Result<()>,
    ) -> Result<Option<Damage>, Failure> {
        let mut reader = match Reader::open(file, len) {
            Ok(reader) => reader,
            Err(damage) => return Ok(Some(damage)),
        };
        (self.created, self.newest_cas) = (reader.opening().created, reader.opening().newest_cas);
        self.pending_flush = reader.pending_flush();
        loop {
            let items = match reader.next_items() {
                Ok(Some(items)) => items,
                Ok(None) => return Ok(None),
                Err(damage) => return Ok(Some(damage)),
            };
            for item in items {
                self.items += 1;
                self.volatile_items += u64::from(item.expiration != Expiration::Never);
                self.key_bytes += item.key.len();
                self.value_bytes += item.value.len();
                each(&item).map_err(Failure::Output)?;
            }
        }
    }

    fn lines(&self, file_bytes: u64, damage: Option<&Damage>) -> Vec<(&'static str, Value)> {
        vec![
            ("state", damage.map_or_else(|| json!("good"), |damage| json!(format!("damaged: {damage}")))),
            ("file_bytes", json!(file_bytes)),
            ("good_bytes", json!(damage.map_or(file_bytes, |damage| damage.good_bytes))),
            ("created", json!(self.created)),
            ("newest_cas", json!(self.newest_cas)),
            ("pending_flush", json!(self.pending_flush)),
            ("items", json!(self.items)),
            ("volatile_items", json!(self.volatile_items)),
            ("key_bytes", json!(self.key_bytes)),
            ("value_bytes", json!(self.value_bytes)),
        ]
    }
}
