//! A disk that takes a while for everything, by a library that stands before the system's calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use super::{Folder, is_good};
use crate::client::{Client, wait_until};
use crate::harness::{Server, skip_or_fail};

const VALUE_BYTES: usize = 10_000;
/// Their packets fill several blocks.
const ITEMS: usize = 400;
/// Rounds between two looks whether the snapshot is there.
const LOOKS_EVERY: usize = 20;

const SLOW_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

static void take_a_while(void) {
    struct timespec while_ = {0, 200 * 1000 * 1000};
    nanosleep(&while_, NULL);
}

ssize_t pwrite64(int file, const void *bytes, size_t len, off64_t at) {
    take_a_while();
    return ((ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64"))(file, bytes, len, at);
}

int fsync(int file) {
    take_a_while();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}
"#;

/// The library, if there is a compiler for it.
fn slow_disk(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("slow.c"), folder.join("slow.so"));
    fs::write(&source, SLOW_DISK).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").output();
    let Ok(built) = built else {
        skip_or_fail("cc");
        return None;
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(library)
}

#[test]
fn nobody_waits_for_a_slow_disk() {
    let folder = Folder::new();
    let Some(library) = slow_disk(folder.0.path()) else { return };
    let server = Server::start_by(
        Command::new(env!("CARGO_BIN_EXE_memwire"))
            .env("LD_PRELOAD", library)
            .args(["--snapshot", folder.file().to_str().unwrap()]),
    );
    let mut client = Client::connect(&server);
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..ITEMS {
        client.set(format!("key-{number}"), &value);
    }

    kill(server.pid(), Signal::SIGUSR1).unwrap();
    wait_until("it writes", || client.stats("")["snapshot_state"] == "writing");
    let mut rounds = 0;
    while client.stat("snapshot_count") == 0 {
        for number in 0..LOOKS_EVERY {
            client.set("counter", rounds.to_string());
            assert_eq!(client.get("counter"), Some(rounds.to_string().into_bytes()));
            assert_eq!(client.get(format!("key-{number}")).as_deref(), Some(value.as_bytes()));
            rounds += 1;
        }
    }
    // Several blocks and a sync, which take a while each: had any request waited for one of them, there were few.
    assert!(rounds > 5 * LOOKS_EVERY, "{rounds} rounds");
    assert_eq!(client.stat("snapshot_errors"), 0);
    assert!(is_good(&folder.file()));

    assert!(server.stop().success(), "the last one is waited for");
    assert!(is_good(&folder.file()));
    let server = folder.start(&[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.stat("curr_items"), ITEMS as u64 + 1);
}
