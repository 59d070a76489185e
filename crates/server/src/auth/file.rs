//! The password file: a line for each user.
//!
//! ```text
//! user:password
//! user:SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>
//! ```
//! The first form is that of memcached's `-Y` and of its SASL password database; the second, in base64, is Postgres's,
//! and holds no password. A file that is not understood as a whole is refused as a whole, so that nobody is shut out or
//! let in by a slip of the pen.

use std::io::BufRead;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::auth::users::{Digest, ITERATIONS, Keys, SALT_BYTES, User, Users};
use crate::limits::{ITERATIONS_MAX, USER_LINE_BYTES_MAX, USERS_FILE_BYTES_MAX, USERS_MAX};

const MARK: &[u8] = b"SCRAM-SHA-256$";

/// The users of a password file. `secret` must come from the system's random numbers.
///
/// # Errors
/// A sentence that names the line, and nothing that stands in it.
pub fn parse(text: &[u8], secret: Digest) -> Result<Users, String> {
    if text.len() > USERS_FILE_BYTES_MAX {
        return Err(format!("{} bytes, limit is {USERS_FILE_BYTES_MAX}", text.len()));
    }
    let mut users: Vec<User> = Vec::new();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let user = user(line, &secret).map_err(|why| format!("line {}: {why}", at + 1))?;
        if users.iter().any(|other| other.name == user.name) {
            return Err(format!("line {}: a user that stands there already", at + 1));
        }
        users.push(user);
        if users.len() > USERS_MAX {
            return Err(format!("more than {USERS_MAX} users"));
        }
    }
    Ok(Users::new(users, secret))
}

/// The line of a user that holds no password.
///
/// # Errors
/// A sentence, where the name cannot stand in a file.
pub fn line(name: &str, password: &[u8], salt: [u8; SALT_BYTES]) -> Result<String, String> {
    check_name(name.as_bytes())?;
    check_password(password)?;
    let keys = Keys::derive(password, &salt, ITERATIONS);
    let [salt, stored, server] =
        [&salt[..], &keys.stored_key, &keys.server_key].map(|bytes| BASE64_STANDARD.encode(bytes));
    let line = format!("{name}:SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}");
    if line.len() > USER_LINE_BYTES_MAX { Err(too_long(line.len())) } else { Ok(line) }
}

/// The line of a user whose password is the first line of `input`, with a salt from the system.
///
/// # Errors
/// A sentence, where nothing can be read, or either cannot stand in a file.
pub fn line_from(name: &str, input: impl BufRead) -> Result<String, String> {
    let mut password = Vec::new();
    let read = input.take(USER_LINE_BYTES_MAX as u64).read_until(b'\n', &mut password);
    read.map_err(|error| format!("the password cannot be read: {error}"))?;
    let password = password.strip_suffix(b"\n").unwrap_or(&password);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| format!("no random numbers: {error}"))?;
    line(name, password, salt)
}

fn user(line: &[u8], secret: &Digest) -> Result<User, String> {
    if line.len() > USER_LINE_BYTES_MAX {
        return Err(too_long(line.len()));
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or("no colon behind a user's name")?;
    let (name, password) = (&line[..colon], &line[colon + 1..]);
    check_name(name)?;
    check_password(password)?;
    match password.strip_prefix(MARK) {
        Some(keys) => hashed(name, keys),
        None => Ok(User::known(name, password, secret)),
    }
}

fn too_long(bytes: usize) -> String {
    format!("{bytes} bytes, limit is {USER_LINE_BYTES_MAX}")
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let is_name = !name.is_empty() && !name.iter().any(|byte| matches!(byte, 0..=b' ' | b':' | 0x7f));
    if is_name { Ok(()) } else { Err("a user's name is empty, or has blanks or control characters".into()) }
}

fn check_password(password: &[u8]) -> Result<(), String> {
    let is_password = !password.is_empty() && !password.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    if is_password { Ok(()) } else { Err("a password is empty, or has a line's end or a NUL in it".into()) }
}

/// `iterations:salt$StoredKey:ServerKey`.
fn hashed(name: &[u8], keys: &[u8]) -> Result<User, String> {
    let parts = || {
        let (count, keys) = str::from_utf8(keys).ok()?.split_once('$')?;
        let (iterations, salt) = count.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let digest = |key| Digest::try_from(BASE64_STANDARD.decode(key).ok()?).ok();
        let keys = Keys { stored_key: digest(stored_key)?, server_key: digest(server_key)? };
        let salt = BASE64_STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some((iterations.parse::<u32>().ok()?, salt, keys))
    };
    let (iterations, salt, keys) =
        parts().ok_or("not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, each in base64")?;
    if !(1..=ITERATIONS_MAX).contains(&iterations) {
        return Err(format!("{iterations} iterations, limit is {ITERATIONS_MAX}"));
    }
    Ok(User::hashed(name, &salt, iterations, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Users, String> {
        parse(text, [1; 32])
    }

    #[test]
    fn users_stand_in_lines_with_their_passwords() {
        for text in
            [&b"ann:pencil\nbob:a b:c\n"[..], b"ann:pencil\nbob:a b:c", b"ann:pencil\r\nbob:a b:c\r\n"]
        {
            let users = parsed(text).unwrap();
            assert_eq!(users.len(), 2);
            assert!(users.check(b"ann", b"pencil"));
            assert!(users.check(b"bob", b"a b:c"), "a password may have colons");
            assert!(!users.check(b"bob", b"a b"));
        }
    }

    #[test]
    fn a_line_that_is_made_here_is_understood_and_holds_no_password() {
        let line = line("ann", b"pencil", [5; SALT_BYTES]).unwrap();
        assert!(line.starts_with("ann:SCRAM-SHA-256$4096:BQUF") && !line.contains("pencil"));
        let users = parsed(line.as_bytes()).unwrap();
        assert!(!users.check(b"ann", line.split_once(':').unwrap().1.as_bytes()), "the keys are no password");
        assert!(users.check(b"ann", b"pencil"));
    }

    // Made by PostgreSQL's own rule (RFC 5802 with SHA-256): salt and keys of RFC 7677's example.
    #[test]
    fn the_example_of_rfc_7677_is_understood() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::derive(b"pencil", &salt, 4096);
        let told = |key: &Digest| BASE64_STANDARD.encode(key);
        assert_eq!(told(&keys.stored_key), "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=");
        assert_eq!(told(&keys.server_key), "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    }

    #[test]
    fn a_file_with_a_bad_line_is_refused_as_a_whole() {
        let key = BASE64_STANDARD.encode([1; 32]);
        let bad = [
            "",
            "\n",
            "ann",
            ":pencil",
            "ann:",
            "ann:pencil\n\n",
            "ann:pencil\nbob",
            "ann:a\nann:b",
            "a b:c",
            "ann:p\0q",
            "ann:SCRAM-SHA-256$",
            "ann:SCRAM-SHA-256$4096:c2FsdA==$",
            "ann:SCRAM-SHA-256$x:c2FsdA==$a:b",
        ];
        for text in bad.map(String::from).into_iter().chain([
            format!("ann:SCRAM-SHA-256$4096:c2FsdA==${key}:{key}="),
            format!("ann:SCRAM-SHA-256$4096:${key}:{key}"),
            format!("ann:SCRAM-SHA-256$0:c2FsdA==${key}:{key}"),
            format!("ann:SCRAM-SHA-256$16385:c2FsdA==${key}:{key}"),
            format!("ann:{}", "x".repeat(251)),
        ]) {
            assert!(parsed(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parsed(format!("ann:SCRAM-SHA-256$16384:c2FsdA==${key}:{key}").as_bytes()).is_ok());
        assert_eq!(parsed(&vec![b'x'; USERS_FILE_BYTES_MAX + 1]).unwrap_err(), "16385 bytes, limit is 16384");
    }

    #[test]
    fn a_complaint_does_not_tell_what_stands_in_the_line() {
        let why = parsed(b"ann:pencil\nsecret").unwrap_err();
        assert_eq!(why, "line 2: no colon behind a user's name");
    }
}
