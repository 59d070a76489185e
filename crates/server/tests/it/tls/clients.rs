//! Real clients over TLS: with users, and with certificates of their own.

use std::fs;
use std::path::Path;

use super::certificates::{Authority, Identity, Material, Validity};
use super::{start, talk};
use crate::auth::PasswordFile;
use crate::clients::{checks_count, succeeds, text};
use crate::harness::{Server, skip_or_fail};

fn start_with_users(material: &Material) -> (Server, PasswordFile) {
    let users = PasswordFile::new("ann:pencil\n");
    let server = start(material, &["-Y", users.path().to_str().unwrap()]);
    (server, users)
}

#[test]
fn members_come_in_by_sasl_over_tls() {
    let material = Material::new();
    let (server, _users) = start_with_users(&material);
    let address = format!("localhost:{}", server.port());
    for (interpreter, is_there, script) in [
        ("python3", ["-c", "import bmemcached"], "bmemcached_auth.py"),
        ("ruby", ["-e", "require 'dalli'"], "dalli_auth.rb"),
    ] {
        if !succeeds(interpreter, &is_there) {
            skip_or_fail(script);
            continue;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
        let args = [path.to_str().unwrap(), &address, "ann", "pencil", &material.path("ca.pem")];
        let output = talk(interpreter, &args, "").unwrap();
        let is_good = output.status.success() && checks_count(&output).is_some_and(|count| count > 0);
        assert!(is_good, "{script}: {}", text(&output));
    }
}

/// `openssl s_client` with `args` besides, and what it hears when it says `lines`. `None` where there is none.
fn s_client(server: &Server, material: &Material, args: &[&str], lines: &str) -> Option<String> {
    let (address, ca) = (server.addr().to_string(), material.path("ca.pem"));
    let all =
        ["s_client", "-quiet", "-ign_eof", "-verify_return_error", "-CAfile", &ca, "-connect", &address];
    let output = talk("openssl", &[&all, args].concat(), lines)?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn members_come_in_by_text_and_resp_over_tls() {
    let material = Material::new();
    let (server, _users) = start_with_users(&material);
    for (password, told) in
        [("pencil", "STORED\r\nEND\r\n"), ("papers", "CLIENT_ERROR authentication failure\r\n")]
    {
        let lines = format!("set x 0 0 10\r\nann {password}\r\nget k\r\nquit\r\n");
        let Some(heard) = s_client(&server, &material, &[], &lines) else { return skip_or_fail("openssl") };
        assert!(heard.starts_with(told), "{heard}");
    }
    let (port, ca) = (server.port().to_string(), material.path("ca.pem"));
    let redis_cli = |args: &[&str]| {
        let all = [&["-p", &port, "--tls", "--cacert", &ca, "--no-auth-warning"], args, &["PING"]].concat();
        talk("redis-cli", &all, "").map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(told) = redis_cli(&["--user", "ann", "--pass", "pencil"]) else {
        return skip_or_fail("redis-cli");
    };
    assert_eq!(told, "PONG\n");
    assert!(redis_cli(&[]).unwrap().contains("NOAUTH"));
}

#[test]
fn who_must_show_a_certificate_is_let_in_with_the_right_one_only() {
    let material = Material::new();
    let server = start(&material, &["--tls-ca", &material.path("ca.pem"), "--tls-verify", "require"]);
    let write = |name: &str, identity: &Identity| {
        let [cert, key] = ["pem", "key"].map(|kind| material.path(&format!("{name}.{kind}")));
        fs::write(&cert, &identity.cert).unwrap();
        fs::write(&key, &identity.key).unwrap();
        [cert, key]
    };
    let right = write("right", &material.authority.issue("right", Validity::Valid));
    let late = write("late", &material.authority.issue("late", Validity::Expired));
    let foreign = write("foreign", &Authority::new("stranger").issue("foreign", Validity::Valid));
    let (port, ca) = (server.port().to_string(), material.path("ca.pem"));
    for (name, files, is_let_in) in [
        ("the right one", Some(&right), true),
        ("an expired one", Some(&late), false),
        ("a foreign one", Some(&foreign), false),
        ("none", None, false),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = files.map(|[cert, key]| ["-cert", cert, "-key", key]);
            let args = [&[version][..], shown.as_ref().map_or(&[], |shown| shown)].concat();
            let Some(heard) = s_client(&server, &material, &args, "mn\r\nquit\r\n") else {
                return skip_or_fail("openssl");
            };
            assert_eq!(heard == "MN\r\n", is_let_in, "openssl {version} with {name}: {heard:?}");
        }
        let shown = files.map(|[cert, key]| ["--cert", cert, "--key", key]);
        let args = ["-p", &port, "--tls", "--cacert", &ca];
        let args = [&args[..], shown.as_ref().map_or(&[], |shown| shown), &["PING"]].concat();
        let Some(output) = talk("redis-cli", &args, "") else { return skip_or_fail("redis-cli") };
        assert_eq!(output.stdout == b"PONG\n", is_let_in, "redis-cli with {name}: {}", text(&output));
    }
    let log = server.log();
    for why in ["shows no certificate", "has expired", "signed by nobody in ssl_ca_cert"] {
        assert!(log.contains(why), "{why} is not in {log}");
    }
}
