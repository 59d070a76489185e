//! The invariants of ARCHITECTURE.md that are about what is absent, held against the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A word, and the only places below `crates` where it may stand in code.
const CONFINED: &[(&str, &[&str])] = &[
    ("mio::", &["server/src/net/"]),
    ("socket2::", &["server/src/net/"]),
    ("listenfd::", &["server/src/net/inherited.rs"]),
    ("std::net::", &["server/src/net/", "server/src/config.rs", "server/src/admin/"]),
    ("tokio::", &["server/src/admin/"]),
    ("hyper::", &["server/src/admin/"]),
    ("hashbrown::", &["server/src/storage/index.rs", "server/src/storage/watch/"]),
    ("sha2::", &["server/src/auth/"]),
    ("pbkdf2::", &["server/src/auth/"]),
    ("subtle::", &["server/src/auth/"]),
    (
        "memmap2::",
        &[
            "server/src/storage/log/pages.rs",
            "server/src/storage/block.rs",
            "server/src/net/buffer.rs",
            "server/src/snapshot/uncached.rs",
        ],
    ),
    (
        "unsafe {",
        &[
            "server/src/storage/log/pages.rs",
            "server/src/storage/log/mod.rs",
            "server/src/storage/prefetch.rs",
            "server/src/rank.rs",
        ],
    ),
    (
        "crossbeam_channel::",
        &[
            "server/src/hop.rs",
            "server/src/net/event_loop.rs",
            "server/src/snapshot/taking.rs",
            "server/src/storage/mod.rs",
            "server/src/admin/desk.rs",
        ],
    ),
    (
        "std::thread",
        &[
            "server/src/net/",
            "server/src/snapshot/",
            "server/src/admin/mod.rs",
            "server/src/service/reload.rs",
            "server/src/storage/mod.rs",
            "server/src/storage/log/pages.rs",
            "server/src/config.rs",
            "server/src/patience.rs",
            "server/src/rank.rs",
        ],
    ),
    (
        "std::fs",
        &[
            "server/src/net/listener.rs",
            "server/src/process.rs",
            "server/src/service/",
            "server/src/snapshot/",
            "server/src/tls/",
        ],
    ),
    ("rustls::", &["server/src/net/", "server/src/tls/", "server/src/admin/stream.rs"]),
    (
        "Instant::now",
        &["server/src/net/", "server/src/snapshot/", "server/src/clock.rs", "server/src/patience.rs"],
    ),
    ("crc32c::", &["server/src/snapshot/"]),
    ("SystemTime::now", &["server/src/clock.rs"]),
    // The storage thread neither parses nor logs.
    ("wire::split", &["wire/src/", "server/src/session/", "server/src/snapshot/"]),
    ("log::debug!", &["server/src/net/", "server/src/session/", "server/src/admin/"]),
    ("log::trace!", &["server/src/net/", "server/src/session/", "server/src/admin/"]),
    ("log::info!", &["server/src/net/", "server/src/service/", "server/src/snapshot/", "server/src/tls/"]),
    (
        "log::warn!",
        &[
            "server/src/net/",
            "server/src/snapshot/",
            "server/src/process.rs",
            "server/src/service/",
            "server/src/main.rs",
            "server/src/admin/",
        ],
    ),
    (
        "log::error!",
        &[
            "server/src/net/",
            "server/src/snapshot/",
            "server/src/service/",
            "server/src/storage/mod.rs",
            "server/src/admin/mod.rs",
            "server/src/tls/",
        ],
    ),
];

/// Words that stand nowhere.
const BANNED: &[&str] = &["TODO", "FIXME", "XXX", "#[allow(", "dbg!(", "println!(\"debug"];

const LINE_CHARS_MAX: usize = 140;
const FILE_LINES_MAX: usize = 900;

#[test]
fn words_stand_only_in_their_rooms() {
    let mut strays = Vec::new();
    for (path, text) in sources() {
        for (word, rooms) in CONFINED {
            let is_home = rooms.iter().any(|room| path.starts_with(room));
            if !is_home && code_lines(&text).any(|line| line.contains(word)) {
                strays.push(format!("{path}: {word}"));
            }
        }
    }
    assert!(strays.is_empty(), "out of place:\n{}", strays.join("\n"));
}

#[test]
fn every_confined_word_stands_in_its_room() {
    for (word, rooms) in CONFINED {
        let stands = sources()
            .iter()
            .any(|(path, text)| rooms.iter().any(|room| path.starts_with(room)) && text.contains(word));
        assert!(stands, "{word} stands nowhere: the rule checks nothing");
    }
}

#[test]
fn storage_and_session_know_nothing_of_each_others_threads() {
    for (path, text) in sources() {
        let forbidden: &[&str] = if path.starts_with("server/src/storage/") {
            &["crate::net", "crate::session", "crate::snapshot"]
        } else if path.starts_with("server/src/session/") {
            &["crate::net", "crate::hop", "crate::snapshot", "std::io::Read", "std::io::Write"]
        } else if path.starts_with("server/src/snapshot/") {
            &["crate::net", "crate::session"]
        } else {
            &[]
        };
        for word in forbidden {
            assert!(!code_lines(&text).any(|line| line.contains(word)), "{path} knows {word}");
        }
    }
}

#[test]
fn no_source_holds_a_leftover_or_outgrows_its_reader() {
    for (path, text) in sources() {
        for word in BANNED {
            assert!(!text.contains(word), "{path} holds {word}");
        }
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(
            longest <= LINE_CHARS_MAX,
            "{path}: a line of {longest} characters, limit is {LINE_CHARS_MAX}"
        );
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{path}: {lines} lines, limit is {FILE_LINES_MAX}");
    }
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path} does not begin with its module's documentation");
    }
}

/// Lines that are no comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Every source below `crates/*/src`, by its path below `crates`.
fn sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the crates");
    let mut found = Vec::new();
    let mut folders = vec![crates.join("wire/src"), crates.join("server/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder") {
            let path: PathBuf = entry.expect("an entry of a source folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name =
                    path.strip_prefix(crates).expect("below the crates").to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).expect("a readable source")));
            }
        }
    }
    assert!(found.len() > 20, "the walk found the sources");
    found
}
