//! Clients of whom nobody knows who they are: how they get in, or not, and what they are owed until then.
//!
//! What a client may ask for follows from what it has asked for before, because the server looks at one request of a
//! stranger at a time. So it is known as soon as a request is made.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use memwire::auth::users::{Keys, User, Users};
use memwire::config::Config;
use memwire::limits::AUTH_FAILURES_MAX;
use memwire::message::Command;
use sha2::{Digest, Sha256};
use wire::{
    Expiration, FRAME_BODY_BYTES_MAX, HEADER_BYTES, Key, Loudness, Opcode, Request, RequestHeader, Response,
    Split, Status, StoreMode,
};

use crate::Fault;
use crate::ask::{Ask, NOWHERE};
use crate::client::Client;
use crate::owed::{Dialect, Ending, Owed, Size, Verdict};
use crate::source::Source;

const USER: &str = "ann";
const PASSWORD: &str = "pencil";
const WRONG: &str = "paper";
const ADMITTED: &[u8] = b"Authenticated";
const SALT: &[u8] = b"salt";
const FIRST: &str = "n=ann,r=fyko";
const SCRAM: &str = "SCRAM-SHA-256";

/// Where a client stands, once all is answered that it has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may ask for everything.
    Member,
    /// It has failed so many times to say who it is.
    Stranger {
        /// How many times.
        failures: u32,
    },
    /// The same, and it waits for a challenge, to which there is no answer before.
    Challenged {
        /// How many times.
        failures: u32,
    },
    /// It has proved who it is, and is to acknowledge the server's last word.
    Proved {
        /// How many times.
        failures: u32,
    },
}

/// A request, and what becomes of it.
#[derive(Debug)]
pub struct Made {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is owed.
    pub owed: Owed,
    /// Where its client stands behind it.
    pub standing: Standing,
}

/// Who belongs. One iteration, so that a story is told quickly.
#[must_use]
pub fn users(fault: Option<Fault>) -> Users {
    let password = if fault == Some(Fault::OtherPassword) { WRONG } else { PASSWORD };
    let keys = Keys::derive(password.as_bytes(), SALT, 1);
    Users::new(vec![User::hashed(USER.as_bytes(), SALT, 1, keys)], [7; 32])
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    Right,
    Wrong,
    /// Something else, that a stranger may ask for or not.
    Other,
}

/// What a stranger asks for next, if it does not wait for an answer. `anything` is what a member would ask for.
pub fn request(
    source: &mut Source,
    config: &Config,
    client: &Client,
    opaque: u32,
    anything: impl FnOnce(&mut Source) -> Vec<u8>,
) -> Option<Made> {
    let attempt = source.weighted(&[(4, Try::Right), (3, Try::Wrong), (1, Try::Other)]);
    let (dialect, standing) = (client.dialect, client.standing);
    if standing == Standing::Member && attempt == Try::Other {
        return None;
    }
    let maker = Maker { attempt, opaque, dialect, failures: standing.failures() };
    Some(match (dialect, standing) {
        (_, Standing::Challenged { .. }) => maker.proof(client.challenge.as_deref()?),
        (_, Standing::Proved { .. }) => maker.acknowledgement(),
        (Dialect::Text, _) => maker.text(),
        (Dialect::Resp, _) => maker.resp(),
        (Dialect::Binary, _) => match (attempt, source.below(3)) {
            (Try::Other, 0) => {
                maker.told(wire::Command::SaslListMechs, Status::OK, b"SCRAM-SHA-256 PLAIN", Verdict::Says)
            }
            (Try::Other, _) => maker.anything(anything(source), config),
            (_, 0) => maker.scram(),
            _ => maker.plain(),
        },
    })
}

/// What a member asks for in lines.
#[must_use]
pub fn lines(source: &mut Source, dialect: Dialect, key: &str, opaque: u32) -> Made {
    let value = format!("value {opaque}");
    let len = value.len();
    let is_text = dialect == Dialect::Text;
    let (opcode, ask, bytes) = match source.below(3) {
        0 => {
            let bytes = if is_text { format!("get {key}\r\n") } else { words(&["GET", key]) };
            (Opcode::GET, Ask::get(key), bytes)
        }
        1 => {
            let bytes = if is_text { format!("delete {key}\r\n") } else { words(&["DEL", key]) };
            (Opcode::DELETE, Ask::delete(key), bytes)
        }
        _ => {
            let bytes = if is_text {
                format!("set {key} 0 0 {len}\r\n{value}\r\n")
            } else {
                words(&["SET", key, &value])
            };
            let command = Command::Store {
                mode: StoreMode::Set,
                flags: 0,
                expiration: Expiration::Never,
                cas: None,
                value: NOWHERE,
            };
            (Opcode::SET, Ask::new(key, command).with(value), bytes)
        }
    };
    let owed = Owed {
        opcode,
        opaque,
        verdict: Verdict::Asks(ask),
        ending: Ending::Stay,
        due_bytes: bytes.len(),
        value: Size::Small,
        dialect,
    };
    Made { bytes: bytes.into(), owed, standing: Standing::Member }
}

impl Standing {
    fn failures(self) -> u32 {
        match self {
            // Who begins anew is given as many tries again.
            Self::Member => 0,
            Self::Stranger { failures } | Self::Challenged { failures } | Self::Proved { failures } => {
                failures
            }
        }
    }
}

/// Makes one request.
#[derive(Clone, Copy)]
struct Maker {
    attempt: Try,
    opaque: u32,
    dialect: Dialect,
    failures: u32,
}

impl Maker {
    fn password(self) -> &'static str {
        if self.attempt == Try::Wrong { WRONG } else { PASSWORD }
    }

    fn made(self, bytes: Vec<u8>, opcode: Opcode, verdict: Verdict) -> Made {
        let failures = self.failures + u32::from(matches!(verdict, Verdict::Rejects(_)));
        let standing = match &verdict {
            Verdict::Admits(_) => Standing::Member,
            Verdict::Challenges => Standing::Challenged { failures },
            _ => Standing::Stranger { failures },
        };
        let ending = if failures >= AUTH_FAILURES_MAX { Ending::Close } else { Ending::Stay };
        let Self { opaque, dialect, .. } = self;
        let due_bytes = bytes.len();
        let owed = Owed { opcode, opaque, verdict, ending, due_bytes, value: Size::Small, dialect };
        Made { bytes, owed, standing }
    }

    /// A packet, and the one that answers it.
    fn told(
        self,
        command: wire::Command<'_>,
        status: Status,
        value: &[u8],
        verdict: fn(Vec<u8>) -> Verdict,
    ) -> Made {
        let bytes = self.packet(command);
        let opcode = Opcode(bytes[1]);
        let answer = if status == Status::AUTH_ERROR {
            Response::error(opcode, status, self.opaque)
        } else {
            Response { value, ..Response::empty(opcode, status, self.opaque, None) }
        };
        let mut told = Vec::new();
        answer.append_to(&mut told);
        self.made(bytes, opcode, verdict(told))
    }

    fn packet(self, command: wire::Command<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Request { opaque: self.opaque, loudness: Loudness::Loud, command }.append_to(&mut bytes);
        bytes
    }

    fn plain(self) -> Made {
        let message = format!("\0{USER}\0{}", self.password());
        let command = wire::Command::SaslAuth { mechanism: mechanism("PLAIN"), message: message.as_bytes() };
        match self.attempt {
            Try::Wrong => self.told(command, Status::AUTH_ERROR, b"", Verdict::Rejects),
            _ => self.told(command, Status::OK, ADMITTED, Verdict::Admits),
        }
    }

    fn scram(self) -> Made {
        let message = format!("n,,{FIRST}");
        let command = wire::Command::SaslAuth { mechanism: mechanism(SCRAM), message: message.as_bytes() };
        self.made(self.packet(command), Opcode::SASL_AUTH, Verdict::Challenges)
    }

    /// The answer to a challenge: RFC 5802, the client's part, with one iteration.
    fn proof(self, challenge: &[u8]) -> Made {
        let challenge = String::from_utf8_lossy(challenge);
        let nonce = challenge.split(',').next().unwrap_or_default();
        let salted = hmac(self.password().as_bytes(), &[SALT, &[0, 0, 0, 1]].concat());
        let without_proof = format!("c=biws,{nonce}");
        let signed = format!("{FIRST},{challenge},{without_proof}");
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, other)| key ^ other).collect();
        let message = format!("{without_proof},p={}", BASE64_STANDARD.encode(proof));
        let command = step(message.as_bytes());
        if self.attempt == Try::Wrong {
            return self.told(command, Status::AUTH_ERROR, b"", Verdict::Rejects);
        }
        let signature = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
        let last_word = format!("v={}", BASE64_STANDARD.encode(signature));
        let made = self.told(command, Status::AUTH_CONTINUE, last_word.as_bytes(), Verdict::Says);
        Made { standing: Standing::Proved { failures: self.failures }, ..made }
    }

    fn acknowledgement(self) -> Made {
        self.told(step(b""), Status::OK, ADMITTED, Verdict::Admits)
    }

    fn text(self) -> Made {
        let (bytes, verdict) = match self.attempt {
            Try::Other => ("get k\r\n".into(), Verdict::Says(b"CLIENT_ERROR unauthenticated\r\n".into())),
            attempt => {
                let value = format!("{USER} {}", self.password());
                let verdict = match attempt {
                    Try::Wrong => Verdict::Rejects(b"CLIENT_ERROR authentication failure\r\n".into()),
                    _ => Verdict::Admits(b"STORED\r\n".into()),
                };
                (format!("set auth 0 0 {}\r\n{value}\r\n", value.len()), verdict)
            }
        };
        self.made(bytes.into(), Opcode::SASL_AUTH, verdict)
    }

    fn resp(self) -> Made {
        let (bytes, verdict) = match self.attempt {
            Try::Other => {
                (words(&["GET", "k"]), Verdict::Says(b"-NOAUTH Authentication required.\r\n".into()))
            }
            Try::Wrong => (
                words(&["AUTH", USER, self.password()]),
                Verdict::Rejects(
                    b"-WRONGPASS invalid username-password pair or user is disabled.\r\n".into(),
                ),
            ),
            Try::Right => (words(&["AUTH", USER, self.password()]), Verdict::Admits(b"+OK\r\n".into())),
        };
        self.made(bytes.into(), Opcode::SASL_AUTH, verdict)
    }

    /// By its header it is known whether a stranger may ask for it.
    fn anything(self, bytes: Vec<u8>, config: &Config) -> Made {
        let split = wire::split::<RequestHeader>(&bytes, FRAME_BODY_BYTES_MAX);
        let is_forbidden =
            matches!(split, Ok(Split::Whole { packet, .. }) if packet.header.opcode != Opcode::VERSION);
        let mut owed = Owed::of(&bytes, config);
        if is_forbidden {
            owed.verdict = Verdict::Fails(Status::AUTH_ERROR);
            (owed.ending, owed.due_bytes, owed.value) = (Ending::Close, HEADER_BYTES, Size::Small);
        }
        Made { bytes, owed, standing: Standing::Stranger { failures: self.failures } }
    }
}

fn mechanism(name: &str) -> Key<'_> {
    Key::new(name.as_bytes()).expect("a legal key")
}

fn step(message: &[u8]) -> wire::Command<'_> {
    wire::Command::SaslStep { mechanism: mechanism(SCRAM), message }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    hmac.chain_update(text).finalize().into_bytes().into()
}

/// A request of RESP.
fn words(words: &[&str]) -> String {
    words
        .iter()
        .fold(format!("*{}\r\n", words.len()), |told, word| told + &format!("${}\r\n{word}\r\n", word.len()))
}
