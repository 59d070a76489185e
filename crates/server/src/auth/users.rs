//! The users, and whether a password is theirs.
//!
//! Nothing here keeps a password. What is kept of each is what SCRAM keeps (RFC 5802), and, where the file has the
//! password in clear or it was told and found right, a keyed digest: the next one who tells the same costs one HMAC
//! instead of thousands. Whoever tells another costs what an unknown user does.

use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Bytes of SHA-256.
pub type Digest = [u8; 32];

/// Iterations for a password that stands in clear, and for a line that is made here: Postgres's number.
pub const ITERATIONS: u32 = 4096;
/// Bytes of a salt that is made here.
pub const SALT_BYTES: usize = 16;

/// The users of one password file.
#[derive(Debug)]
pub struct Users {
    all: Vec<User>,
    /// In the place of who is not there. Nobody can be him.
    decoy: User,
    /// Of the process. Keys the digests, and all that must not be guessed.
    secret: Digest,
    /// Iterations that a password costs which is not known, 0 where all are.
    iterations: u32,
}

/// A user.
#[derive(Debug)]
pub struct User {
    pub(super) name: Box<[u8]>,
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: u32,
    pub(super) keys: Keys,
    /// The digest of the password, once it is known.
    known: OnceLock<Digest>,
}

/// What SCRAM keeps of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Verifies the client's proof.
    pub stored_key: Digest,
    /// Signs the server's.
    pub server_key: Digest,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Of a password.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted: Digest = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations);
        let stored_key = sha256(&hmac(&salted, &[b"Client Key"]));
        Self { stored_key, server_key: hmac(&salted, &[b"Server Key"]) }
    }
}

impl User {
    /// A user of whom there are only keys.
    #[must_use]
    pub fn hashed(name: &[u8], salt: &[u8], iterations: u32, keys: Keys) -> Self {
        Self { name: name.into(), salt: salt.into(), iterations, keys, known: OnceLock::new() }
    }

    /// A user whose password is known. `secret` must be that of the table.
    #[must_use]
    pub fn known(name: &[u8], password: &[u8], secret: &Digest) -> Self {
        let salt = salt_of(secret, name);
        let keys = Keys::derive(password, &salt, ITERATIONS);
        let user = Self::hashed(name, &salt, ITERATIONS, keys);
        Self { known: OnceLock::from(digest_of(secret, password)), ..user }
    }
}

impl Users {
    /// These users. `secret` must come from the system's random numbers, and stay here.
    #[must_use]
    pub fn new(users: Vec<User>, secret: Digest) -> Self {
        let unknown = users.iter().filter(|user| user.known.get().is_none());
        let iterations = unknown.map(|user| user.iterations).max().unwrap_or(0);
        let shown = users.first().map_or(ITERATIONS, |user| user.iterations);
        let unreachable = |what: &[u8]| hmac(&secret, &[b"decoy", what]);
        let keys = Keys { stored_key: unreachable(b"stored"), server_key: unreachable(b"server") };
        Self { all: users, decoy: User::hashed(b"", b"", shown, keys), secret, iterations }
    }

    /// None.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(Vec::new(), Digest::default())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether `name` is a user with this password.
    pub(super) fn check(&self, name: &[u8], password: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let user = self.find(name).unwrap_or(&self.decoy);
        let digest = digest_of(&self.secret, password);
        let none = Digest::default();
        let is_known = user.known.get().unwrap_or(&none).ct_eq(&digest);
        if bool::from(is_known) {
            return true;
        }
        if self.iterations == 0 {
            return false;
        }
        let keys = Keys::derive(password, &user.salt, user.iterations);
        // Whoever is asked for, the answer takes the same time.
        if user.iterations < self.iterations {
            let rest = self.iterations - user.iterations;
            std::hint::black_box(Keys::derive(password, &user.salt, rest));
        }
        let is_right = bool::from(keys.stored_key.ct_eq(&user.keys.stored_key));
        if is_right {
            // Somebody else may have been told the same a moment ago.
            let _ = user.known.set(digest);
        }
        is_right
    }

    /// What SCRAM is to use for `name`, and a salt that is always the same for who is not there.
    pub(super) fn find_or_decoy(&self, name: &[u8]) -> (&User, Box<[u8]>) {
        let made_up = salt_of(&self.secret, name);
        match self.find(name) {
            Some(user) => (user, user.salt.clone()),
            None => (&self.decoy, Box::new(made_up)),
        }
    }

    /// What nobody can tell beforehand, for each number another.
    pub(super) fn nonce(&self, number: u64) -> [u8; 18] {
        first(&hmac(&self.secret, &[b"nonce", &number.to_be_bytes()]))
    }

    /// All names are looked at, whichever it is.
    fn find(&self, name: &[u8]) -> Option<&User> {
        let is_his = |user: &User| -> Choice { user.name.ct_eq(name) };
        self.all.iter().fold(None, |found, user| if bool::from(is_his(user)) { Some(user) } else { found })
    }
}

fn digest_of(secret: &Digest, password: &[u8]) -> Digest {
    hmac(secret, &[b"password", password])
}

fn salt_of(secret: &Digest, name: &[u8]) -> [u8; SALT_BYTES] {
    first(&hmac(secret, &[b"salt", name]))
}

fn first<const N: usize>(digest: &Digest) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(digest).for_each(|(at, byte)| *at = *byte);
    bytes
}

/// HMAC-SHA-256 of `parts`, one behind the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Digest = [7; 32];

    fn hashed(name: &[u8], password: &[u8], iterations: u32) -> User {
        User::hashed(name, b"salt", iterations, Keys::derive(password, b"salt", iterations))
    }

    #[test]
    fn a_password_is_right_for_its_user_only() {
        for users in [
            vec![User::known(b"ann", b"pencil", &SECRET), User::known(b"bob", b"paper", &SECRET)],
            vec![hashed(b"ann", b"pencil", 2), hashed(b"bob", b"paper", 3)],
            vec![User::known(b"ann", b"pencil", &SECRET), hashed(b"bob", b"paper", 3)],
        ] {
            let users = Users::new(users, SECRET);
            // Twice: what was found right is remembered.
            for _ in 0..2 {
                assert!(users.check(b"ann", b"pencil") && users.check(b"bob", b"paper"));
                for (name, password) in [
                    (&b"ann"[..], &b"paper"[..]),
                    (b"bob", b"pencil"),
                    (b"ann", b""),
                    (b"ann", b"pencil "),
                    (b"an", b"pencil"),
                    (b"Ann", b"pencil"),
                    (b"", b""),
                    (b"", b"pencil"),
                    (b"eve", b"pencil"),
                ] {
                    assert!(!users.check(name, password), "{name:?} {password:?}");
                }
            }
        }
    }

    #[test]
    fn nobody_gets_in_where_nobody_is() {
        assert!(!Users::nobody().check(b"", b""));
        assert!(!Users::nobody().check(b"ann", b"pencil"));
    }

    #[test]
    fn a_password_that_was_right_is_remembered_and_no_other() {
        let users = Users::new(vec![hashed(b"ann", b"pencil", 2)], SECRET);
        assert!(!users.check(b"ann", b"wrong"));
        assert!(users.all[0].known.get().is_none());
        assert!(users.check(b"ann", b"pencil"));
        assert!(users.all[0].known.get().is_some());
    }

    #[test]
    fn who_is_not_there_has_a_salt_that_stays() {
        let users = Users::new(vec![hashed(b"ann", b"pencil", 5)], SECRET);
        let told = |name: &[u8]| {
            let (user, salt) = users.find_or_decoy(name);
            (user.iterations, salt)
        };
        assert_eq!(told(b"eve"), told(b"eve"));
        assert_ne!(told(b"eve"), told(b"mallory"));
        assert_eq!(told(b"eve").0, 5, "as the users that are there");
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        let users = Users::new(vec![User::known(b"ann", b"pencil", &SECRET)], SECRET);
        assert_eq!(format!("{:?}", users.all[0].keys), "Keys");
    }
}
