//! What is printed: for people, or as JSON.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde_json::{Map, Value, json};
use wire::{Command, Key, Status};

use crate::failure::Failure;
use crate::protocol::{Outcome, Refusal};

/// What the server said about one key, or about no key.
pub(crate) struct Answer<'a> {
    key: Option<Key<'a>>,
    pub(crate) outcome: Outcome,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(command: &Command<'a>, outcome: Outcome) -> Self {
        Self { key: Key::new(command.key_and_value().0).ok(), outcome }
    }
}

/// A reader that has seen enough, as `head` has, is no failure.
pub(crate) fn print(answers: &[Answer<'_>], as_json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = match answers {
        [answer] if as_json => writeln!(out, "{}", answer.to_json()),
        _ if as_json => writeln!(out, "{}", answers.iter().map(Answer::to_json).collect::<Value>()),
        [answer] => print_one(&mut out, answer),
        _ => answers.iter().try_for_each(|answer| print_line(&mut out, answer)),
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Prints what a key has become, on a line of its own.
pub(crate) fn print_change(answer: &Answer<'_>, as_json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = if as_json { writeln!(out, "{}", answer.to_json()) } else { print_line(&mut out, answer) };
    printed.and_then(|()| out.flush()).map_err(Failure::Output)
}

fn print_one(out: &mut (impl Write + IsTerminal), answer: &Answer<'_>) -> io::Result<()> {
    match &answer.outcome {
        Outcome::Hit { value, .. } => {
            out.write_all(value)?;
            if out.is_terminal() { writeln!(out) } else { Ok(()) }
        }
        Outcome::Done => writeln!(out, "done"),
        Outcome::Stored { cas } => match cas {
            Some(cas) => writeln!(out, "stored, CAS {cas}"),
            None => writeln!(out, "stored"),
        },
        Outcome::Number { number, .. } => writeln!(out, "{number}"),
        Outcome::Version(version) => writeln!(out, "{version}"),
        Outcome::Statistics(statistics) => {
            statistics.iter().try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
        }
        Outcome::Refused(refusal) => {
            answer.complain(refusal);
            Ok(())
        }
    }
}

/// One of several keys.
fn print_line(out: &mut impl Write, answer: &Answer<'_>) -> io::Result<()> {
    match (&answer.outcome, answer.key) {
        (Outcome::Hit { value, .. }, Some(key)) => {
            writeln!(out, "{}: {}", printable(key.as_bytes()), printable(value))
        }
        (Outcome::Refused(refusal), _) => {
            answer.complain(refusal);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Text as it is; anything that would disturb a terminal, or is no text, escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

impl Answer<'_> {
    fn complain(&self, refusal: &Refusal) {
        match self.key {
            Some(key) => eprintln!("client: {}: {refusal}", printable(key.as_bytes())),
            None => eprintln!("client: {refusal}"),
        }
    }

    fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if let Some(key) = self.key {
            insert_bytes(&mut fields, "key", key.as_bytes());
        }
        let refusal = match &self.outcome {
            Outcome::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        };
        fields.insert("ok".to_owned(), json!(refusal.is_none()));
        fields.insert("status".to_owned(), json!(refusal.unwrap_or_else(|| Status::OK.to_string())));
        self.outcome.insert_json(&mut fields);
        Value::Object(fields)
    }
}

impl Outcome {
    fn insert_json(&self, fields: &mut Map<String, Value>) {
        match self {
            Self::Done | Self::Refused(_) => {}
            Self::Stored { cas } => insert_known(fields, "cas", *cas),
            Self::Number { number, cas } => {
                insert_known(fields, "number", Some(number.clone()));
                insert_known(fields, "cas", *cas);
            }
            Self::Hit { value, flags, cas } => {
                insert_known(fields, "flags", *flags);
                insert_known(fields, "cas", *cas);
                insert_bytes(fields, "value", value);
            }
            Self::Version(version) => insert_known(fields, "version", Some(version.as_str())),
            Self::Statistics(statistics) => {
                let statistics = statistics.iter().map(|(name, value)| (name.clone(), json!(value)));
                insert_known(fields, "statistics", Some(statistics.collect::<Value>()));
            }
        }
    }
}

/// What the protocol did not tell is left out.
fn insert_known(fields: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.into());
    }
}

/// JSON has no bytes: those that are no UTF-8 go under another name, in hexadecimal.
fn insert_bytes(fields: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => fields.insert(name.to_owned(), json!(text)),
        Err(_) => fields.insert(format!("{name}_hex"), json!(hex(bytes))),
    };
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
