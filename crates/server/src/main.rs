//! The program: reads the command line, makes the process what it should be, starts the threads, and waits.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use memwire::admin;
use memwire::args::{Args, Task};
use memwire::auth::file;
use memwire::clock::Clock;
use memwire::config::{Config, Resolved};
use memwire::limits::SNAPSHOT_AT_END_MS;
use memwire::net::{event_loop, listener};
use memwire::process::{self, PidFile};
use memwire::server::{Server, Stage};
use memwire::service::settings::{self, Refusal};
use memwire::service::{self, State, logging, reload};
use memwire::snapshot::{self, restore};
use memwire::storage::{self, Engine};

/// As sysexits has it: the command line was wrong.
const EXIT_USAGE: u8 = 64;
/// As sysexits has it: what was to be read is damaged.
const EXIT_DATA: u8 = 65;
/// As sysexits has it: the system refused something.
const EXIT_SYSTEM: u8 = 71;

/// Why the server does not run, and how it exits then.
struct Failure {
    code: u8,
    why: String,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { code: EXIT_SYSTEM, why }
    }
}

impl From<restore::Failure> for Failure {
    fn from(failure: restore::Failure) -> Self {
        match failure {
            restore::Failure::Memory(why) => Self { code: EXIT_SYSTEM, why },
            restore::Failure::Damaged(why) => Self { code: EXIT_DATA, why },
        }
    }
}

fn main() -> ExitCode {
    let typed: Vec<_> = std::env::args_os().collect();
    // An order of its own: no option has a part in it.
    if let Ok(Args { task: Some(Task::Passwd { user }), .. }) = Args::try_parse_from(&typed) {
        return match file::line_from(&user, io::stdin().lock()) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(EXIT_USAGE, &error),
        };
    }
    let settings = match settings::gather(&typed, std::env::vars_os()) {
        Ok(settings) => settings,
        Err(Refusal::Usage(error)) => return usage(&error),
        Err(Refusal::Sentence(error)) => return fail(EXIT_USAGE, &error),
    };
    let args = &settings.args;
    if args.license {
        print!("{}", include_str!("../../../LICENSE"));
        return ExitCode::SUCCESS;
    }
    logging::start(args.verbose);
    let resolved = match Config::resolve(args) {
        Ok(resolved) => resolved,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    if args.print_config {
        print!("{}", settings.to_toml());
        return ExitCode::SUCCESS;
    }
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let options = match reload::Options::of(&settings, typed) {
        Ok(options) => options,
        Err(error) => return fail(EXIT_SYSTEM, &error),
    };
    match run(resolved, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, why }) => fail(code, &why),
    }
}

/// What clap has to say: help and version are no failures.
fn usage(error: &clap::Error) -> ExitCode {
    // Where it cannot be printed, nobody is there to read it.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

fn fail(code: u8, error: &str) -> ExitCode {
    eprintln!("memwire: {error}");
    ExitCode::from(code)
}

fn run(Resolved { mut config, warnings }: Resolved, options: Option<reload::Options>) -> Result<(), Failure> {
    for warning in warnings {
        log::warn!("{warning}");
    }
    process::raise_file_limit(&config)?;
    if config.process.core_dumps {
        process::allow_core_dumps();
    }
    // What can fail, fails before the process leaves the terminal. Ports below 1024 are taken before root is given up.
    let listeners = listener::Listeners::open(&config)?;
    let http = config.http.iter().map(|(address, security)| admin::Listener::open(*address, *security));
    let http = http.collect::<Result<Vec<_>, _>>()?;
    config.listen = config.listen.with_ports_of(&listeners.tcp_addresses());
    let user = process::user_to_become(&config.process)?;
    let seed = getrandom::u64().map_err(|error| format!("no random numbers: {error}"))?;
    let server = Arc::new(Server::new(config, Clock::start(), seed).with_tls()?);
    process::load_users(&server)?;
    let config = &server.config;
    server.enter(Stage::Restoring);
    // Before the terminal is left, so that a damaged snapshot is told there. Threads would not come along.
    let restored = config.process.daemon.then(|| restore::engine(&server)).transpose()?;

    process::go_into_background(&config.process, config.verbosity)?;
    let _pid_file = PidFile::write(&config.process)?;
    if let Some(user) = user {
        process::become_user(&user, listeners.unix_path())?;
    }
    // It tells how the server is while that restores.
    let http = Some(http).filter(|http| !http.is_empty());
    let http = http.map(|http| admin::spawn(http, Arc::clone(&server))).transpose();
    let http = http.map_err(|error| format!("HTTP thread: {error}"))?;
    let engine = restored.map_or_else(|| restore::engine(&server), Ok)?;
    // Until here they end the process as they do by themselves: nobody has been served.
    let signals = listener::hear_signals().map_err(|error| format!("signals: {error}"))?;
    reload::spawn(&server, options).map_err(|error| format!("reload thread: {error}"))?;
    serve(&server, engine, listeners, http, signals)?;
    Ok(())
}

/// Starts the threads, serves until a signal comes, and lets each thread finish what the ones before it have sent.
fn serve(
    server: &Arc<Server>,
    engine: Engine,
    listeners: listener::Listeners,
    http: Option<admin::Handle>,
    signals: listener::Signals,
) -> Result<(), String> {
    let (storage, loops) = start_threads(server, engine).map_err(|error| format!("threads: {error}"))?;
    let snapshots =
        snapshot::spawn(server, storage.storage()).map_err(|error| format!("snapshot thread: {error}"))?;
    if let Some(http) = &http {
        http.open(storage.storage());
    }
    server.enter(Stage::Ready);

    if let Some(path) = std::env::var_os("MEMCACHED_PORT_FILENAME") {
        let http = http.as_ref().map_or(&[][..], admin::Handle::addresses);
        listener::write_port_file(path.as_ref(), &listeners.tcp_addresses(), http)?;
    }
    service::notify(State::Ready);
    let listened = listeners.run(signals, server, &loops);
    let last_snapshot_ms = if snapshots.is_some() { SNAPSHOT_AT_END_MS } else { 0 };
    service::notify(State::Stopping(Duration::from_millis(server.config.drain_ms + last_snapshot_ms)));
    server.enter(Stage::Draining);
    if let Some(http) = &http {
        http.drain();
    }
    for event_loop in &loops {
        event_loop.drain();
    }
    for event_loop in loops {
        event_loop.join();
    }
    if let Some(http) = http {
        http.join();
    }
    if let Some(snapshots) = snapshots {
        snapshots.finish();
    }
    storage.join();
    listened.map_err(|error| format!("listening: {error}"))
}

/// Starts the storage thread and the event loops.
fn start_threads(
    server: &Arc<Server>,
    engine: Engine,
) -> io::Result<(storage::Thread, Vec<event_loop::Handle>)> {
    if server.config.storage_serves {
        let (event_loop, storage) = event_loop::spawn_with_storage(server, engine)?;
        return Ok((storage, vec![event_loop]));
    }
    let storage = storage::spawn(engine, server.clock)?;
    let loops: io::Result<_> = (0..server.config.threads)
        .map(|number| event_loop::spawn(number, Arc::clone(server), storage.storage()))
        .collect();
    Ok((storage, loops?))
}
