//! Any bytes as a file that an operator writes: of options, or of users. What is understood can be printed and is
//! understood again as the same; what is not is told in one sentence that names the place, and no password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memwire::auth::users::SALT_BYTES;
use memwire::auth::{Access, Limits, Mechanisms, Users, Verdict, file};
use memwire::service::settings;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = str::from_utf8(input) {
        read_as_options(text);
    }
    read_as_users(first_lines(input));
    make_a_line(input);
});

fn read_as_options(text: &str) {
    let table = text.parse::<toml::Table>();
    match settings::of_file(text) {
        Ok(read) => {
            let table = table.expect("what is no TOML is refused");
            let mut printed = read.to_toml();
            if cfg!(feature = "canary") {
                // An option is forgotten.
                printed = printed.replace("memory-limit", "# memory-limit");
            }
            let again = settings::of_file(&printed).unwrap_or_else(|why| panic!("{why} in\n{printed}"));
            assert_eq!(again.to_toml(), read.to_toml());
            for name in table.keys() {
                assert!(printed.lines().any(|line| line.starts_with(name)), "{name} is not in\n{printed}");
            }
        }
        Err(why) => {
            assert!(!why.contains(['\n', '\r']), "one line: {why:?}");
            let is_named = match table {
                Ok(table) => table.keys().any(|name| why.starts_with(&name.escape_debug().to_string())),
                Err(_) => names_line(&why, text.matches('\n').count() + 1),
            };
            assert!(is_named, "nobody knows what is wrong: {why}");
        }
    }
}

/// A line in clear costs an iteration count's time: a few are enough.
fn first_lines(input: &[u8]) -> &[u8] {
    let mut ends = input.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.nth(2).map_or(input, |(at, _)| &input[..at])
}

fn read_as_users(text: &[u8]) {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let lines: Vec<_> = body.split(|byte| *byte == b'\n').collect();
    match file::parse(text, [1; 32]) {
        Ok(users) => {
            assert_eq!(users.len(), lines.len(), "a user a line");
            let access = access(users);
            for line in &lines {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let (name, password) = at_colon(line).expect("a line has a colon");
                let is_clear = !password.starts_with(b"SCRAM-SHA-256$");
                assert_eq!(access.check(name, password) == Verdict::Accepted, is_clear);
            }
            let twice = [body, b"\n", lines[0]].concat();
            let why = file::parse(&twice, [1; 32]).map(drop).expect_err("a user stands there twice");
            assert!(names_line(&why, lines.len() + 1), "{why}");
        }
        Err(why) => {
            assert!(names_line(&why, lines.len()) || why.ends_with(" bytes, limit is 16384"), "{why}");
            assert!(why.is_ascii() && why.len() < 100, "something of the file is told: {why:?}");
        }
    }
}

/// The line of a user, by the name and the password that the input has.
fn make_a_line(input: &[u8]) {
    let Some((name, password)) = at_colon(input) else { return };
    let Ok(name) = str::from_utf8(name) else { return };
    let Ok(line) = file::line(name, password, [3; SALT_BYTES]) else { return };
    let users = file::parse(line.as_bytes(), [1; 32]).unwrap_or_else(|why| panic!("{why}: {line}"));
    let access = access(users);
    assert_eq!(access.check(name.as_bytes(), password), Verdict::Accepted);
    assert_eq!(access.check(name.as_bytes(), b""), Verdict::Refused);
}

fn access(users: Users) -> Access {
    let access = Access::closed(Limits::default(), Mechanisms::All);
    access.set_users(users);
    access
}

fn at_colon(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

/// Whether a complaint begins with the number of one of so many lines.
fn names_line(why: &str, lines: usize) -> bool {
    let number = why.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    number.and_then(|(number, _)| number.parse().ok()).is_some_and(|number| (1..=lines).contains(&number))
}
