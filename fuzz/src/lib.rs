//! What the fuzz targets share: streams of packets, and what must hold of them however they are cut up on their way.
//!
//! An input is a stream and behind it where to cut it. Read from its end: one byte, the number of cuts; two bytes for
//! each, the place, taken modulo the length of the stream.
//!
//! ```text
//! cargo +nightly fuzz run request_stream
//! cargo +nightly fuzz run request_stream --features canary    # must fail within seconds
//! ```
//! The canary is a receiver that loses a byte where a stream is cut between a header and its body. A target that does
//! not find it finds nothing. What a run discovers goes into the first folder that is named:
//! `cargo +nightly fuzz run request_stream target/found fuzz/corpus/request_stream` leaves the checked-in inputs alone.

pub mod auth;
pub mod connection;
pub mod http;
pub mod resp;
pub mod session;
pub mod text;

use wire::{FRAME_BODY_BYTES_MAX, HEADER_BYTES, Header, Packet, Reject, Split, split};

/// The most cuts that an input can ask for.
const CUT_COUNT_MAX: usize = 16;

/// What a receiver made of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// The bytes of each packet.
    pub packets: Vec<Vec<u8>>,
    /// What is left behind the last of them.
    pub left: Vec<u8>,
    /// Why the stream could not be followed any further.
    pub reject: Option<Reject>,
}

/// Receives the stream of `input` in one piece and cut up, and gives what was received.
///
/// # Panics
/// Where the two differ.
#[must_use]
pub fn receive_however_cut<H: Header>(input: &[u8]) -> Received {
    let (stream, cuts) = stream_and_cuts(input);
    let whole = receive::<H>(&[stream]);
    let cut_up = receive::<H>(&pieces(stream, cuts));
    assert_eq!(cut_up, whole, "cut at {cuts:?}");
    let received_len = whole.packets.iter().map(Vec::len).sum::<usize>() + whole.left.len();
    assert_eq!(received_len, stream.len(), "a byte was lost or made up");
    whole
}

/// The only packet in `bytes`.
///
/// # Panics
/// Where they are anything but one packet.
#[must_use]
pub fn only_packet<H: Header>(bytes: &[u8]) -> Packet<'_, H> {
    match split::<H>(bytes, FRAME_BODY_BYTES_MAX) {
        Ok(Split::Whole { packet, rest: [] }) => packet,
        _ => panic!("received as one packet, and is not one: {}", bytes.escape_ascii()),
    }
}

/// The stream, and two bytes for each cut.
fn stream_and_cuts(input: &[u8]) -> (&[u8], &[[u8; 2]]) {
    let Some((&cut_count, rest)) = input.split_last() else {
        return (&[], &[]);
    };
    let cuts_len = 2 * (usize::from(cut_count) % (CUT_COUNT_MAX + 1));
    let (stream, cuts) = rest.split_at(rest.len() - cuts_len.min(rest.len()));
    (stream, cuts.as_chunks().0)
}

fn pieces<'a>(stream: &'a [u8], cuts: &[[u8; 2]]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> =
        cuts.iter().map(|cut| usize::from(u16::from_be_bytes(*cut)) % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, &end)| &stream[start..end]).collect()
}

fn receive<H: Header>(pieces: &[&[u8]]) -> Received {
    let mut received = Received { packets: Vec::new(), left: Vec::new(), reject: None };
    for piece in pieces {
        received.left.extend_from_slice(piece);
        while received.reject.is_none() && received.take::<H>() {}
    }
    received
}

impl Received {
    /// Takes the packet at the front of what is left, if it is whole.
    fn take<H: Header>(&mut self) -> bool {
        let taken_len = match split::<H>(&self.left, FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, rest }) => {
                let body_len = packet.extras.len() + packet.key.len() + packet.value.len();
                assert_eq!(body_len, packet.header.body_len() as usize);
                assert_eq!(rest.len() + HEADER_BYTES + body_len, self.left.len());
                HEADER_BYTES + body_len
            }
            Ok(Split::Head { missing }) => {
                assert_eq!(self.left.len() + missing, HEADER_BYTES);
                return false;
            }
            Ok(Split::Body { header, body, missing }) => {
                assert!(missing > 0);
                assert_eq!(body.len() + missing, header.body_len() as usize);
                if cfg!(feature = "canary") && body.is_empty() {
                    self.left.pop();
                }
                return false;
            }
            Err(reject) => {
                self.reject = Some(reject);
                return false;
            }
        };
        let behind = self.left.split_off(taken_len);
        self.packets.push(std::mem::replace(&mut self.left, behind));
        true
    }
}
