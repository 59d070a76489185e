//! The socket itself, without a server around it.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use memwire::clock::Clock;
use memwire::net::socket::Transport;
use memwire::net::tls::TlsSocket;
use memwire::tls::Context;
use memwire::tls::options::Given;
use rustls::version::TLS13;

use super::{Material, Tls, over};
use crate::harness::{PATIENCE, Random};

/// Both ends, when they have shaken hands.
fn pair() -> (TlsSocket, Tls) {
    let material = Material::new();
    let (mut given, mut warnings) = (Given::default(), Vec::new());
    given.enable();
    given.take("ssl_chain_cert", &material.path("server.pem"), &mut warnings).unwrap();
    given.take("ssl_key", &material.path("server.key"), &mut warnings).unwrap();
    let options = given.resolve().unwrap().unwrap();
    let context = Arc::new(Context::load(options, Clock::start()).unwrap());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = material.authority.client(None, &[&TLS13]);
    let client = thread::spawn(move || {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = over(socket, &config);
        client.write_all(b"x").unwrap();
        client
    });
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut server = TlsSocket::new(mio::net::TcpStream::from_std(socket), &context).unwrap();
    // The handshake is done when that has come.
    assert_eq!(read(&mut server, &mut [0]), 1);
    (server, client.join().unwrap())
}

/// Reads when there is something.
fn read(server: &mut TlsSocket, buffer: &mut [u8]) -> usize {
    loop {
        match server.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            read => return read.unwrap(),
        }
    }
}

#[test]
fn what_is_decrypted_and_not_taken_is_known_to_be_there() {
    let (mut server, mut client) = pair();
    client.write_all(&[7; 95]).unwrap();
    let mut buffer = [0; 10];
    for left in (0..9).rev().map(|tens| 10 * tens + 5).chain([0]) {
        assert_eq!(read(&mut server, &mut buffer), if left > 0 { 10 } else { 5 });
        assert_eq!(server.holds_more(), left > 0, "{left} bytes left");
    }
    assert_eq!(server.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!server.holds_more());
}

#[test]
fn what_is_offered_again_is_sent_once() {
    let (mut server, mut client) = pair();
    let bytes = Random::new(1).bytes(100_000);
    let mut chunks_count = 1;
    let mut sent = 0;
    // Nobody reads: at last a chunk is not taken whole.
    loop {
        match server.write_vectored(&[IoSlice::new(&bytes[sent..])]) {
            Ok(written) => sent += written,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
        if sent == bytes.len() {
            (sent, chunks_count) = (0, chunks_count + 1);
        }
    }
    assert!(server.waiting_bytes() > 0, "what is encrypted and not sent is known");

    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        received
    });
    while sent < bytes.len() {
        // In two slices this time, of which the first may be shorter than what is encrypted.
        let (first, second) = bytes[sent..].split_at(1.min(bytes.len() - sent));
        match server.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Ok(written) => sent += written,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        thread::yield_now();
    }
    assert_eq!(server.waiting_bytes(), 0);
    server.shutdown_write().unwrap();
    let received = reader.join().unwrap();
    assert_eq!(received.len(), chunks_count * bytes.len());
    assert!(received.chunks(bytes.len()).all(|chunk| chunk == bytes), "the bytes came changed");
}
