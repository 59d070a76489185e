//! What a client may ask for before it has authenticated: AUTH, HELLO and QUIT. They are answered where they are answered
//! for everybody.

use crate::message::{Command, KeyHash, Op, Span};
use crate::session::gate::Step;
use crate::session::resp::Note;
use crate::session::resp::commands::{self, Word};
use crate::session::resp::complaint::Complaint;
use crate::session::resp::frame::{ARGS_MAX, Args, Reader, Stop};

/// The request at the front of a stranger's input, which begins at `at`.
pub(in crate::session) fn step(rest: &[u8], at: usize, bytes_max: usize) -> Step {
    let rest = rest.get(..bytes_max).unwrap_or(rest);
    match request(rest, at) {
        Ok(step) => step,
        Err(Stop::Missing(missing)) if rest.len().saturating_add(missing) <= bytes_max => {
            Step::Missing(missing)
        }
        Err(Stop::Missing(_) | Stop::TooLong) => Step::TooLong { op: Some(refusal(at)) },
        Err(Stop::Broken(_)) => Step::Close { op: Some(refusal(at)) },
    }
}

fn request(rest: &[u8], at: usize) -> Result<Step, Stop> {
    let mut reader = Reader::new(rest, 0);
    reader.empty_lines()?;
    if reader.at() > 0 {
        return Ok(Step::Nothing { bytes: reader.at() });
    }
    let count = reader.array()?;
    if count > ARGS_MAX {
        return Err(Stop::TooLong);
    }
    let mut args = Args::new(rest);
    for behind in (0..count).rev() {
        args.push(reader.arg(behind, usize::MAX)?);
    }
    let bytes = reader.at();
    if count == 0 {
        return Ok(Step::Nothing { bytes });
    }
    let op = match commands::find(args.get(0)) {
        Some((number, row)) if matches!(row.word, Word::Auth | Word::Hello | Word::Quit) => {
            let complaint = if row.takes(count) { 0 } else { Complaint::Arity.code() };
            let op = op(at, Note { complaint, ..Note::of_row(number) });
            if row.word == Word::Quit {
                return Ok(Step::Close { op: Some(op) });
            }
            op
        }
        _ => refusal(at),
    };
    Ok(Step::Answer { op, bytes })
}

fn refusal(at: usize) -> Op {
    op(at, Note { complaint: Complaint::NoAuth.code(), ..Note::of_row(u8::MAX) })
}

fn op(at: usize, note: Note) -> Op {
    Op {
        command: Command::Pass,
        key: Span::default(),
        hash: KeyHash(0),
        starts_at: Span::new(at, 0).start,
        tag: note.to_tag(),
    }
}
