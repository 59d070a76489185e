//! HTTP is there before what the server holds.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use memwire::clock::Clock;
use memwire::config::{Auth, Config, Security};
use memwire::server::{self, Stage};
use memwire::storage::{self, Engine};
use memwire::{admin, auth, process, snapshot};
use tempfile::TempDir;

use crate::auth::PasswordFile;
use crate::client::{Client, Request, op, wait_until};
use crate::harness::{Server, free_port};
use crate::http::Http;
use crate::http_guard::with;

/// What a server says that restores, each time that it is asked.
#[track_caller]
fn assert_restoring(http: &mut Http) {
    assert_eq!((http.get("/healthz").status, http.get("/").status), (200, 200));
    for target in ["/metrics", "/v1/stats", "/v1/keys/k", "/v1/keys/k?index=0&wait=5m"] {
        let refused = http.get(target);
        refused.assert_error(503);
        assert_eq!(refused.field("retry-after"), "1", "{target}");
    }
    http.put("/v1/keys/k", "value").assert_error(503);
    http.ask("DELETE", "/v1/keys/k", b"").assert_error(503);
    http.ask("POST", "/v1/snapshot", b"").assert_error(503);
    http.get("/v1").assert_error(404);
}

#[test]
fn what_needs_the_storage_thread_is_refused_until_it_is_there() {
    let server = Arc::new(server::Server::new(Config::default(), Clock::start(), 7));
    server.enter(Stage::Restoring);
    let listener = admin::Listener::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Security::Tls).unwrap();
    let address = listener.address().unwrap();
    let front = admin::spawn(vec![listener], Arc::clone(&server)).unwrap();
    let mut http = Http::connect(address);
    let unready = http.get("/readyz");
    unready.assert_error(503);
    assert!(unready.text().contains("restoring"));
    assert_restoring(&mut http);

    let engine = Engine::new(server.config.engine(), Arc::clone(&server.meter)).unwrap();
    let storage = storage::spawn(engine, server.clock).unwrap();
    front.open(storage.storage());
    assert_restoring(&mut http);
    server.enter(Stage::Ready);
    assert_eq!(http.get("/readyz").text(), "ready\n");
    assert_eq!(http.put("/v1/keys/k", "value").status, 204);
    assert_eq!(http.get("/v1/keys/k").text(), "value");
    assert_eq!(server.snapshots.state(), snapshot::State::Off);

    server.enter(Stage::Draining);
    http.get("/readyz").assert_error(503);
    assert_eq!((http.get("/healthz").status, http.get("/v1/keys/k").text()), (200, "value"));
    front.drain();
    front.join();
    storage.join();
}

#[test]
fn a_server_that_restores_asks_strangers_who_they_are_first() {
    let users = PasswordFile::new("ann:pencil\n");
    let auth =
        Auth { file: users.path(), limits: auth::Limits::default(), mechanisms: auth::Mechanisms::All };
    let config = Config { auth: Some(auth), ..Config::default() };
    let server = Arc::new(server::Server::new(config, Clock::start(), 7));
    process::load_users(&server).unwrap();
    server.enter(Stage::Restoring);
    let listener = admin::Listener::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Security::Tls).unwrap();
    let mut http = Http::connect(listener.address().unwrap());
    let front = admin::spawn(vec![listener], server).unwrap();

    assert_eq!(http.get("/healthz").status, 200);
    http.get("/readyz").assert_error(503);
    for target in ["/", "/metrics", "/v1/keys/k"] {
        http.get(target).assert_error(401);
    }
    for (target, status) in [("/", 200), ("/metrics", 503), ("/v1/keys/k", 503)] {
        assert_eq!(http.get(&with(target, "ann:pencil")).status, status, "{target}");
    }
    front.join();
}

/// A file that takes a while to be read, whatever the machine.
fn large_snapshot(folder: &TempDir) -> String {
    let file = folder.path().join("snapshot").to_str().unwrap().to_owned();
    let server = Server::start(&["-m", "1024", "--snapshot", &file]);
    let mut client = Client::connect(&server);
    for chunk in 0..ITEMS / 1000 {
        let requests = (0..1000)
            .flat_map(|at| Request::store(op::SETQ, format!("{}", chunk * 1000 + at), "value").bytes());
        client.send(&requests.collect::<Vec<_>>());
    }
    client.assert_in_step();
    assert!(server.stop().success());
    file
}

const ITEMS: usize = 150_000;

#[test]
fn a_server_that_restores_says_so_until_it_is_done() {
    let folder = TempDir::new().unwrap();
    let file = large_snapshot(&folder);
    // Not where everybody else is, who could take the port before the server does: asking for it may be enough.
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), free_port()));
    let asking = thread::spawn(move || {
        while TcpStream::connect(address).is_err() {
            thread::yield_now();
        }
        let mut http = Http::connect(address);
        http.get("/readyz").assert_error(503);
        assert_restoring(&mut http);
        http.get("/readyz").assert_error(503);
        // Whoever asks without a pause takes the time in which it restores.
        wait_until("it is ready", || http.get("/readyz").status == 200);
        assert_eq!(
            http.get("/v1/keys/1234").text(),
            "value",
            "whatever is stored is there from the first answer on"
        );
    });
    let server = Server::start(&["-m", "1024", "--snapshot", &file, "--http", &address.to_string()]);
    asking.join().unwrap();
    assert_eq!(Client::connect(&server).stat("snapshot_restored_items"), ITEMS as u64);
    // Nobody needs the last one.
    nix::sys::signal::kill(server.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    drop(server);
    assert!(fs::exists(&file).unwrap());
}

#[test]
fn a_damaged_snapshot_still_ends_the_start_though_http_is_served() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("snapshot");
    fs::write(&file, "no snapshot").unwrap();
    let pid_file = folder.path().join("pid");
    for background in [&[][..], &["-d"]] {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_memwire"))
            .args(["-l", "127.0.0.1", "-p", "-1", "--http", "0", "--snapshot", file.to_str().unwrap()])
            .args(["-P", pid_file.to_str().unwrap()])
            .args(background)
            .output()
            .unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!((run.status.code(), said.contains("this is no snapshot")), (Some(65), true), "{said}");
        assert!(!pid_file.exists());
    }
}
