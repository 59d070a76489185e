//! HTTP where there are users, or TLS: no way round either.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::version::TLS13;

use crate::auth::{PasswordFile, authenticated, plain};
use crate::client::{Client, wait_until};
use crate::harness::{PATIENCE, Server, skip_or_fail};
use crate::http::Http;
use crate::tls::certificates::{Authority, Material, Validity};
use crate::tls::{over, talk};

const CHALLENGE: &str = "Basic realm=\"memwire\", charset=\"UTF-8\"";

fn start(args: &[&str]) -> (Server, PasswordFile) {
    let users = PasswordFile::new("ann:pencil\n");
    let server = Server::start(&[&["--http", "0", "-Y", users.path().to_str().unwrap()], args].concat());
    (server, users)
}

/// A target with credentials.
pub(crate) fn with(target: &str, credentials: &str) -> String {
    format!("{target}\nAuthorization: Basic {}", BASE64_STANDARD.encode(credentials))
}

fn member(server: &Server) -> Client {
    let mut client = Client::connect(server);
    assert_eq!(client.ask(&plain("ann", "pencil")), authenticated());
    client
}

#[test]
fn a_stranger_learns_that_the_server_lives_and_a_member_is_served() {
    let (server, _users) = start(&[]);
    let mut http = Http::connect(server.http());
    for target in ["/healthz", "/readyz"] {
        assert_eq!(http.get(target).status, 200, "{target}");
    }
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/v1/stats"),
        ("GET", "/v1/keys/k"),
        ("PUT", "/v1/keys/k"),
        ("DELETE", "/v1/keys/k"),
        ("POST", "/v1/snapshot"),
        ("GET", "/nothing"),
        ("POST", "/healthz"),
    ] {
        let answer = http.ask(method, target, b"");
        answer.assert_error(401);
        assert_eq!(answer.field("www-authenticate"), CHALLENGE, "{method} {target}");
    }
    assert_eq!(http.put(&with("/v1/keys/k", "ann:pencil"), "value").status, 204);
    assert_eq!(http.get(&with("/v1/keys/k", "ann:pencil")).body, b"value");
    assert!(http.get(&with("/metrics", "ann:pencil")).text().contains("memcached_up 1"));
    http.get("/v1/keys/k").assert_error(401);
    assert_eq!(member(&server).get("k").unwrap(), b"value");
}

#[test]
fn failures_are_counted_with_the_others_and_end_the_connection() {
    let (server, _users) = start(&["-o", "auth_failures_max=2"]);
    let mut http = Http::connect(server.http());
    http.get(&with("/", "ann:paper")).assert_error(401);
    let last = http.put(&with("/v1/keys/k", "eve:pencil"), "value");
    last.assert_error(401);
    assert_eq!(last.field("connection"), "close");
    assert!(http.receive("GET").is_none(), "the connection is closed");
    let mut member = member(&server);
    assert_eq!(["auth_cmds", "auth_errors", "auth_kicks"].map(|name| member.stat(name)), [3, 2, 1]);
    assert_eq!(member.get("k"), None);
}

#[test]
fn a_large_value_of_a_stranger_is_not_read() {
    let (server, _users) = start(&["-I", "16m"]);
    let mut http = Http::connect(server.http());
    http.send(
        b"PUT /v1/keys/k HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\nExpect: 100-continue\r\n\r\n",
    );
    http.receive("PUT").expect("an answer without the body").assert_error(401);
    assert_eq!(member(&server).stat("large_bytes"), 0);
}

#[test]
fn where_nobody_is_asked_credentials_do_no_harm() {
    let server = Server::start(&["--http", "0"]);
    let mut http = Http::connect(server.http());
    assert_eq!(http.get(&with("/v1/keys/k", "ann:pencil")).status, 404);
}

/// A status line and all that follows, of the last request on a connection. It may be followed by a header field.
fn ask(stream: &mut (impl Read + Write), request: &str) -> String {
    let (request, field) = request.split_once('\n').unwrap_or((request, "Connection: close"));
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{field}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn an_address_has_tls_where_the_server_has_unless_it_says_otherwise() {
    let material = Material::new();
    let server = Server::start(&["-Z", "-o", &material.options(), "--http", "0,notls:0"]);
    let [secure, clear] = server.https()[..] else { panic!("two addresses") };
    let config = material.authority.client(None, &[&TLS13]);
    let answer = ask(&mut over(connect(secure), &config), "GET /healthz");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let answer = ask(&mut connect(clear), "GET /healthz");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Larger than any buffer on the way.
    let mut tls = over(connect(secure), &config);
    let value = "v".repeat(1_000_000);
    let head = "PUT /v1/keys/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    tls.write_all(&[head, &value].concat().into_bytes()).unwrap();
    let answer = ask(&mut tls, "GET /v1/keys/k");
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.ends_with(&value), "{}", &answer[..200]);

    // A page of its own origin may write.
    let mut tls = over(connect(secure), &config);
    let answer = ask(&mut tls, "DELETE /v1/keys/k\nOrigin: https://localhost");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");

    let mut deaf = connect(secure);
    deaf.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut told = Vec::new();
    // What it has not read may reset the connection.
    let _ = deaf.read_to_end(&mut told);
    assert!(!told.starts_with(b"HTTP"), "{}", told.escape_ascii());
    wait_until("it is counted", || {
        let mut tls = over(connect(server.addr()), &config);
        crate::tls::stats(&mut tls, "").contains("STAT ssl_handshake_errors 1\r\n")
    });
}

#[test]
fn a_handshake_has_its_time_and_its_certificate() {
    let material = Material::new();
    let ca = material.path("ca.pem");
    let options =
        format!("{},ssl_ca_cert={ca},ssl_verify_mode=2,ssl_handshake_timeout=1", material.options());
    let server = Server::start(&["-Z", "-o", &options, "--http", "0"]);
    assert_eq!(connect(server.http()).read(&mut [0]).unwrap(), 0, "closed");
    let right = material.authority.issue("right", Validity::Valid);
    let foreign = Authority::new("stranger").issue("foreign", Validity::Valid);
    let late = material.authority.issue("late", Validity::Expired);
    for (identity, is_let_in) in
        [(Some(&right), true), (None, false), (Some(&foreign), false), (Some(&late), false)]
    {
        let config = material.authority.client(identity, &[&TLS13]);
        let mut tls = over(connect(server.http()), &config);
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut answer = Vec::new();
        let asked = tls.write_all(request).and_then(|()| tls.read_to_end(&mut answer));
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), is_let_in, "{asked:?}");
    }
}

#[test]
fn curl_and_python_are_served_with_tls_and_password() {
    let material = Material::new();
    let (server, _users) = start(&["-Z", "-o", &material.options()]);
    let url = format!("https://localhost:{}/v1/keys/k", server.http().port());
    let ca = material.path("ca.pem");
    let curl = |args: &[&str]| {
        let all =
            [&["-sS", "-4", "--noproxy", "*", "--cacert", &ca, "-w", "%{http_code}"], args, &[&url]].concat();
        talk("curl", &all, "").map(|output| String::from_utf8(output.stdout).unwrap())
    };
    match curl(&["-u", "ann:pencil", "-X", "PUT", "-d", "value"]) {
        None => skip_or_fail("curl"),
        Some(told) => {
            assert_eq!(told, "204");
            assert_eq!(curl(&["-u", "ann:pencil"]).unwrap(), "value200");
            assert!(curl(&["-u", "ann:paper"]).unwrap().ends_with("401"));
            assert!(curl(&[]).unwrap().ends_with("401"));
        }
    }
    let script = "import base64, ssl, sys, urllib.error, urllib.request\n\
        url, ca = sys.argv[1:]\n\
        context = ssl.create_default_context(cafile=ca)\n\
        proxies = urllib.request.ProxyHandler({})\n\
        opener = urllib.request.build_opener(proxies, urllib.request.HTTPSHandler(context=context))\n\
        def ask(method, password, data=None):\n\
        \x20   shown = 'Basic ' + base64.b64encode(b'ann:' + password).decode()\n\
        \x20   request = urllib.request.Request(url, data, {'Authorization': shown}, method=method)\n\
        \x20   return opener.open(request)\n\
        assert ask('PUT', b'pencil', b'x' * 500000).status == 204\n\
        assert ask('GET', b'pencil').read() == b'x' * 500000\n\
        try:\n\
        \x20   ask('GET', b'paper')\n\
        \x20   sys.exit('a wrong password is served')\n\
        except urllib.error.HTTPError as error:\n\
        \x20   assert error.code == 401 and error.headers['WWW-Authenticate'].startswith('Basic ')\n";
    let Some(output) = talk("python3", &["-c", script, &url, &ca], "") else {
        return skip_or_fail("python3");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
