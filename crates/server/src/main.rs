//! The program: reads the command line, makes the process what it should be, starts the threads, and waits.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use memwire::clock::Clock;
use memwire::config::{Config, Resolved};
use memwire::net::{event_loop, listener};
use memwire::process::{self, PidFile};
use memwire::server::Server;
use memwire::service::settings::{self, Refusal};
use memwire::service::{self, State};
use memwire::storage::{self, Engine};

/// As sysexits has it: the command line was wrong.
const EXIT_USAGE: u8 = 64;
/// As sysexits has it: the system refused something.
const EXIT_SYSTEM: u8 = 71;

fn main() -> ExitCode {
    let typed: Vec<_> = std::env::args_os().collect();
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
    start_log(args.verbose);
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
    match run(resolved) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_SYSTEM, &error),
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

fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}

fn run(Resolved { mut config, warnings }: Resolved) -> Result<(), String> {
    for warning in warnings {
        log::warn!("{warning}");
    }
    process::raise_file_limit(&config)?;
    if config.process.core_dumps {
        process::allow_core_dumps();
    }
    // What can fail, fails before the process leaves the terminal. Ports below 1024 are taken before root is given up.
    let listeners = listener::Listeners::open(&config)?;
    config.listen = config.listen.with_ports_of(&listeners.tcp_addresses());
    let user = process::user_to_become(&config.process)?;
    let seed = getrandom::u64().map_err(|error| format!("no random numbers: {error}"))?;
    let server = Arc::new(Server::new(config, Clock::start(), seed));
    let config = &server.config;
    let engine = Engine::new(config.engine(), Arc::clone(&server.meter))
        .map_err(|error| format!("-m {}: {error}", config.memory_bytes_max >> 20))?;

    process::go_into_background(&config.process, config.verbosity)?;
    let signals = listener::hear_signals().map_err(|error| format!("signals: {error}"))?;
    let _pid_file = PidFile::write(&config.process)?;
    if let Some(user) = user {
        process::become_user(&user, listeners.unix_path())?;
    }
    serve(&server, engine, listeners, signals)
}

/// Starts the threads, serves until a signal comes, and lets each thread finish what the ones before it have sent.
fn serve(
    server: &Arc<Server>,
    engine: Engine,
    listeners: listener::Listeners,
    signals: listener::Signals,
) -> Result<(), String> {
    let storage = storage::spawn(engine, server.clock).map_err(|error| format!("storage thread: {error}"))?;
    let loops: Result<Vec<_>, _> = (0..server.config.threads)
        .map(|number| event_loop::spawn(number, Arc::clone(server), storage.storage()))
        .collect();
    let loops = loops.map_err(|error| format!("I/O threads: {error}"))?;

    if let Some(path) = std::env::var_os("MEMCACHED_PORT_FILENAME") {
        listener::write_port_file(path.as_ref(), &listeners.tcp_addresses())?;
    }
    service::notify(State::Ready);
    let listened = listeners.run(signals, server, &loops);
    service::notify(State::Stopping(Duration::from_millis(server.config.drain_ms)));
    for event_loop in &loops {
        event_loop.drain();
    }
    for event_loop in loops {
        event_loop.join();
    }
    storage.join();
    listened.map_err(|error| format!("listening: {error}"))
}
