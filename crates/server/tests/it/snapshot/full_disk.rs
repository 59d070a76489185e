//! A file system that is full: a small one in memory, which the server alone sees. Its files are read by way of the process.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Uid;

use super::{Folder, assert_stored, is_good, items, store, take_snapshot};
use crate::client::{Client, Request, op, wait_until};
use crate::harness::{Server, skip_or_fail};

const DISK: &str = "size=1m";

/// A command that runs with a disk of its own on `folder`.
fn with_disk(folder: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs -o \"$0\" tmpfs \"$1\" && shift && exec \"$@\"", DISK]);
    command.arg(folder).arg(program);
    command
}

/// Whether this process may do that: not every root may, in a container for example.
fn may_mount(folder: &Path) -> bool {
    match with_disk(folder, "true").output() {
        Err(_) => skip_or_fail("unshare"),
        Ok(run) if run.status.success() => return true,
        Ok(_) => {
            let who = if Uid::effective().is_root() { "this root" } else { "who is not root" };
            // Past the test runner, which shows what a test prints only where it fails.
            let _ = writeln!(io::stderr(), "skipped: {who} may mount no disk");
        }
    }
    false
}

#[test]
fn a_full_disk_is_told_and_the_file_before_stays_until_there_is_room() {
    let (folder, items) = (Folder::new(), items(3000));
    let disk = folder.path("disk");
    fs::create_dir(&disk).unwrap();
    if !may_mount(&disk) {
        return;
    }
    let file = disk.join("snapshot");
    let server = Server::start_by(with_disk(&disk, env!("CARGO_BIN_EXE_memwire")).args([
        "-v",
        "--snapshot",
        file.to_str().unwrap(),
    ]));
    let seen = |path: &Path| PathBuf::from(format!("/proc/{}/root{}", server.pid(), path.display()));
    let mut client = Client::connect(&server);
    let few = &items[..50];
    store(&mut client, few);
    client.ask(&Request::of(op::DELETE, &items[10].key));
    take_snapshot(&server, &mut client);
    assert!(!file.exists(), "it lies on the server's own disk");
    let good = fs::read(seen(&file)).unwrap();

    store(&mut client, &items);
    for failed in 1..=2 {
        kill(server.pid(), Signal::SIGUSR1).unwrap();
        wait_until("it fails", || client.stat("snapshot_errors") == failed);
        assert_eq!(client.stats("")["snapshot_state"], "failed");
        assert!(server.log().contains("No space left on device"), "{}", server.log());
        assert_eq!(fs::read(seen(&file)).unwrap(), good, "the one before stays");
        assert_eq!(fs::read_dir(seen(&disk)).unwrap().count(), 1, "what was not finished takes no room");
    }
    assert_stored(&mut client, &items);

    client.ask(&Request::new(op::FLUSH));
    client.set("k", "1");
    take_snapshot(&server, &mut client);
    assert_eq!((client.stat("snapshot_items"), client.stat("snapshot_errors")), (1, 2));
    assert!(is_good(&seen(&file)));
}
