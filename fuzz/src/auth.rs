//! The way in: strangers who try to get in.

use memwire::auth::{Limits, Mechanisms, file};
use memwire::clock::Clock;
use memwire::config::{Auth, Config};
use memwire::server::Server;

use crate::connection::serve_on;
use crate::{pieces, stream_and_cuts};

/// One user whose password is known to the server, and one of whom it has keys only. Nobody finds out by trying; the
/// canary is a password that can be found.
const USERS: &str = if cfg!(feature = "canary") {
    "a:b"
} else {
    "ann:98c9e5e0d4d24b8f8a7e3d0d\n\
     bob:SCRAM-SHA-256$1:c2FsdA==$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
};

/// Serves the stream of `input`, in one piece and cut up, to somebody who knows no password.
///
/// # Panics
/// Where he gets in, or the answers differ.
pub fn be_a_stranger(input: &[u8]) {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = serve(&[stream]);
    let cut_up = serve(&pieces(stream, cuts));
    assert!(whole == cut_up, "cut at {cuts:?}: {} and {}", whole.escape_ascii(), cut_up.escape_ascii());
}

fn serve(pieces: &[&[u8]]) -> Vec<u8> {
    let auth = Auth { file: "users".into(), limits: Limits::default(), mechanisms: Mechanisms::All };
    let server = Server::new(Config { auth: Some(auth), ..Config::default() }, Clock::start(), 7);
    let users = file::parse(USERS.as_bytes(), [2; 32]).expect("a password file");
    server.access.as_ref().expect("a way in").set_users(users);
    let (answers, is_stranger) = serve_on(server, pieces);
    assert!(is_stranger, "somebody got in: {}", answers.escape_ascii());
    answers
}
