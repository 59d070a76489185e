//! The storage thread's end.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use memwire::clock::Clock;
use memwire::config::Config;
use memwire::hop::{Bell, Home};
use memwire::message::Batch;
use memwire::meter::Meter;
use memwire::storage::{self, Engine};

/// It is told to in the middle of its last look at its queue as well: a thread that had just found the queue empty
/// once slept on forever.
#[test]
fn the_storage_thread_ends_whenever_it_is_told_to() {
    let (done, ends) = mpsc::channel();
    thread::spawn(move || {
        for round in 0..200 {
            serve_once_and_end();
            done.send(round).expect("the test waits");
        }
    });
    for round in 0..200 {
        let ended = ends.recv_timeout(Duration::from_secs(10));
        assert_eq!(ended, Ok(round), "the storage thread never ends");
    }
}

fn serve_once_and_end() {
    let engine = Engine::new(Config::default().engine(), Arc::new(Meter::default())).unwrap();
    let thread = storage::spawn(engine, Clock::start()).unwrap();
    let (home, answers) = crossbeam_channel::bounded(1);
    let home = Arc::new(Home::new(home, Arc::new(Bell::new(|| {}))));
    thread.storage().execute(Box::new(Batch::default()), &home);
    answers.recv().expect("a batch comes back");
    thread.join();
}
