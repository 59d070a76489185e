//! SCRAM-SHA-256, the server's part: RFC 5802 with RFC 7677. No channel binding: there is no channel to bind to.
//!
//! ```text
//! client-first   n,,n=user,r=<client's nonce>
//! server-first   r=<both nonces>,s=<salt>,i=<iterations>
//! client-final   c=biws,r=<both nonces>,p=<proof>
//! server-final   v=<signature>
//! ```
//! Names are taken as they come, without `SASLprep`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

use crate::auth::users::{Digest, Keys, Users, hmac, sha256};

/// An exchange whose last message from the client is awaited.
#[derive(Debug)]
pub struct Exchange {
    /// `c=`, as the client must say it again.
    binding: String,
    /// `r=`, the same.
    nonce: String,
    /// The first messages of both, as they are signed.
    firsts: Vec<u8>,
    keys: Keys,
}

impl Exchange {
    /// Takes the client's first message, and gives the answer. `number` must be another for each exchange.
    #[must_use]
    pub fn begin(client_first: &[u8], users: &Users, number: u64) -> Option<(Self, Vec<u8>)> {
        let message = str::from_utf8(client_first).ok()?;
        let mut parts = message.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let mut attributes = bare.split(',');
        let name = saslname(attributes.next()?.strip_prefix("n=")?)?;
        let client_nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        let is_himself = match authzid.strip_prefix("a=") {
            Some(other) => saslname(other)? == name,
            None => authzid.is_empty(),
        };
        if !is_himself {
            return None;
        }
        let (user, salt) = users.find_or_decoy(name.as_bytes());
        let nonce = format!("{client_nonce}{}", BASE64_STANDARD.encode(users.nonce(number)));
        let server_first = format!("r={nonce},s={},i={}", BASE64_STANDARD.encode(salt), user.iterations);
        let binding = BASE64_STANDARD.encode(format!("{flag},{authzid},"));
        let firsts = format!("{bare},{server_first}").into_bytes();
        Some((Self { binding, nonce, firsts, keys: user.keys }, server_first.into_bytes()))
    }

    /// Takes the client's last message. Gives the server's, if the proof is right.
    #[must_use]
    pub fn finish(&self, client_final: &[u8]) -> Option<Vec<u8>> {
        let message = str::from_utf8(client_final).ok()?;
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        // An extension that must be understood comes first of all, so it is no `c=`; others may follow.
        if binding != self.binding || nonce != self.nonce {
            return None;
        }
        let proof = Digest::try_from(BASE64_STANDARD.decode(proof).ok()?).ok()?;
        let signed: [&[u8]; 3] = [&self.firsts, b",", without_proof.as_bytes()];
        let mut client_key = hmac(&self.keys.stored_key, &signed);
        client_key.iter_mut().zip(proof).for_each(|(at, byte)| *at ^= byte);
        if !bool::from(sha256(&client_key).ct_eq(&self.keys.stored_key)) {
            return None;
        }
        let signature = hmac(&self.keys.server_key, &signed);
        Some(format!("v={}", BASE64_STANDARD.encode(signature)).into_bytes())
    }
}

/// A name, in which `=2C` stands for a comma and `=3D` for an equals sign.
fn saslname(encoded: &str) -> Option<String> {
    let mut name = String::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((before, behind)) = rest.split_once('=') {
        name.push_str(before);
        let (code, behind) = behind.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = behind;
    }
    name.push_str(rest);
    (!name.is_empty()).then_some(name)
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::users::User;

    const SECRET: Digest = [3; 32];

    fn users() -> Users {
        let salt = b"salt of ann";
        Users::new(vec![User::hashed(b"a,n=n", salt, 7, Keys::derive(b"pencil", salt, 7))], SECRET)
    }

    /// What a client answers, by the RFC and not by the code above.
    fn client_final(first_bare: &str, server_first: &[u8], password: &[u8], binding: &str) -> String {
        let server_first = str::from_utf8(server_first).unwrap();
        let attribute =
            |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let salt = BASE64_STANDARD.decode(attribute("s=")).unwrap();
        let salted =
            pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(password, &salt, attribute("i=").parse().unwrap());
        let client_key = hmac(&salted, &[b"Client Key"]);
        let without_proof = format!("c={binding},r={}", attribute("r="));
        let auth_message = format!("{first_bare},{server_first},{without_proof}");
        let signature = hmac(&sha256(&client_key), &[auth_message.as_bytes()]);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, other)| key ^ other).collect();
        format!("{without_proof},p={}", BASE64_STANDARD.encode(proof))
    }

    const BARE: &str = "n=a=2Cn=3Dn,r=fyko+d2lbbFgONRv9qkxdawL";

    fn first() -> Vec<u8> {
        format!("n,,{BARE}").into_bytes()
    }

    #[test]
    fn who_knows_the_password_is_accepted_and_told_that_the_server_knows_it_too() {
        let (exchange, server_first) = Exchange::begin(&first(), &users(), 0).unwrap();
        let told = exchange.finish(client_final(BARE, &server_first, b"pencil", "biws").as_bytes()).unwrap();
        assert!(told.starts_with(b"v=") && told.len() == 46);
    }

    // The example of RFC 7677, with the server's nonce that stands there.
    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let exchange = Exchange {
            binding: "biws".into(),
            nonce: nonce.into(),
            firsts: format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
                .into(),
            keys: Keys::derive(b"pencil", &salt, 4096),
        };
        let told = exchange
            .finish(format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").as_bytes());
        assert_eq!(told.unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_are_refused_at_the_same_step() {
        let (exchange, server_first) = Exchange::begin(&first(), &users(), 0).unwrap();
        assert!(exchange.finish(client_final(BARE, &server_first, b"paper", "biws").as_bytes()).is_none());
        let bare = "n=eve,r=abc";
        let (exchange, server_first) = Exchange::begin(format!("n,,{bare}").as_bytes(), &users(), 1).unwrap();
        assert!(exchange.finish(client_final(bare, &server_first, b"pencil", "biws").as_bytes()).is_none());
    }

    #[test]
    fn a_message_is_good_for_its_own_exchange_only() {
        let users = users();
        let (first_exchange, server_first) = Exchange::begin(&first(), &users, 0).unwrap();
        let message = client_final(BARE, &server_first, b"pencil", "biws");
        assert!(first_exchange.finish(message.as_bytes()).is_some());
        let (second, _) = Exchange::begin(&first(), &users, 1).unwrap();
        assert!(second.finish(message.as_bytes()).is_none());
    }

    #[test]
    fn what_was_said_first_must_be_said_again() {
        let (exchange, server_first) = Exchange::begin(&first(), &users(), 0).unwrap();
        let with_y = BASE64_STANDARD.encode("y,,");
        assert!(exchange.finish(client_final(BARE, &server_first, b"pencil", &with_y).as_bytes()).is_none());
        let right = client_final(BARE, &server_first, b"pencil", "biws");
        for broken in [
            String::new(),
            right.replace("c=biws", "m=x,c=biws"),
            right.replace(",r=", ",q="),
            right.replace(",p=", ",p=A"),
            right.replace(",p=", ",x=y,p="),
            right.split_once(",p=").unwrap().0.into(),
        ] {
            assert!(exchange.finish(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn first_messages_are_held_to_their_form() {
        let begins = |message: &str| Exchange::begin(message.as_bytes(), &users(), 0).is_some();
        for good in ["n,,n=ann,r=x", "y,,n=ann,r=x", "n,a=ann,n=ann,r=x", "n,,n=ann,r=x,e=1"] {
            assert!(begins(good), "{good}");
        }
        for bad in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=ann",
            "n,,n=,r=x",
            "n,,n=ann,r=",
            "p=tls-unique,,n=ann,r=x",
            "n,a=bob,n=ann,r=x",
            "n,bob,n=ann,r=x",
            "n,,m=1,n=ann,r=x",
            "n,,n=a=2,r=x",
            "n,,n=a=41,r=x",
            "n,,n=ann,r=a b",
            "n,,r=x,n=ann",
        ] {
            assert!(!begins(bad), "{bad}");
        }
    }
}
