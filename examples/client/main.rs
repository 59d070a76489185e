//! A command-line client for memcached, memwire, or Redis where it is about strings, in any of four protocols.
//!
//! ```text
//! cargo run --example client -- set greeting 'Hello, world'
//! cargo run --example client -- --protocol meta get greeting
//! cargo run --example client -- --protocol resp --json stats
//! cargo run --example client -- inspect /var/lib/memwire/snapshot
//! ```
//!
//! Each protocol is a module of its own, which says with what bytes it asks and how it reads what comes back:
//!
//! | module | a request | an answer |
//! | --- | --- | --- |
//! | [`binary`] | a packet: 24 bytes of header, then extras, key, value | a packet of the same form |
//! | [`text`] | a line of words, and a line of data where there is a value | the same |
//! | [`meta`] | such a line with flags, each a letter and perhaps a token | a code of two letters, and flags |
//! | [`resp`] | an array of strings, each behind its length | one value, whose first byte tells its type |
//!
//! What they have in common is in [`protocol`]: a [`wire::Command`] goes in, an [`protocol::Outcome`] comes out.
//! [`connection`] is the way to the server, [`arguments`] the command line, [`output`] what is printed. `--verbose` shows
//! what goes back and forth. [`watch`], [`inspect`] and `passwd` are about memwire alone.

mod arguments;
mod binary;
mod connection;
mod failure;
mod inspect;
mod lines;
mod meta;
mod output;
mod protocol;
mod resp;
mod text;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use memwire::auth::file;
use wire::Command;

use crate::arguments::{Arguments, Task};
use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};
use crate::output::Answer;
use crate::protocol::Protocol;

/// Requests that are written before the first answer is read. All of them fit into the sockets' buffers: where each
/// side wrote without reading, both could wait for ever.
const BATCH_COUNT_MAX: usize = 100;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("client: {failure}");
            failure.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.task {
        Task::Inspect { file, keys } => return inspect::inspect(file, *keys, arguments.json),
        Task::Passwd { user } => return passwd(user),
        Task::Watch { key, count } => return watch::watch(arguments, arguments::key(key)?, *count),
        _ => {}
    }
    let value = arguments.task.value()?;
    let commands = arguments.task.commands(&value)?;
    let answers = ask(arguments, &commands)?;
    output::print(&answers, arguments.json)?;
    let codes = answers.iter().map(|answer| answer.outcome.exit_code());
    Ok(ExitCode::from(codes.max().unwrap_or(0)))
}

/// The password is no argument: those can be read by everybody on the machine.
fn passwd(user: &str) -> Result<ExitCode, Failure> {
    let line = file::line_from(user, io::stdin().lock()).map_err(Failure::Usage)?;
    writeln!(io::stdout(), "{line}").map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Sends the commands, a batch at a time. What the protocol cannot say is found before anything is sent.
fn ask<'a>(arguments: &Arguments, commands: &[Command<'a>]) -> Result<Vec<Answer<'a>>, Failure> {
    let protocol = arguments.protocol.speaker();
    let unsayable = |what| Failure::Unsayable(arguments.protocol, what);
    let batches: Vec<&[Command<'a>]> = commands.chunks(BATCH_COUNT_MAX).collect();
    let requests = batches
        .iter()
        .map(|batch| requests_of(protocol, batch))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unsayable)?;
    let mut connection = Connection::open(&arguments.server, arguments.timeout, arguments.tell())?;
    let mut answers = Vec::with_capacity(commands.len());
    for (batch, requests) in batches.into_iter().zip(requests) {
        connection.send(&requests)?;
        let outcomes = protocol.read_all(batch, &mut connection)?;
        answers.extend(batch.iter().zip(outcomes).map(|(command, outcome)| Answer::new(command, outcome)));
    }
    Ok(answers)
}

fn requests_of(protocol: &dyn Protocol, batch: &[Command<'_>]) -> Result<Requests, Unsayable> {
    let mut requests = Requests::default();
    protocol.write_all(batch, &mut requests)?;
    Ok(requests)
}
