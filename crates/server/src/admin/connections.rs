//! Accepting, and what slow, malformed and too many clients meet.
//!
//! Beyond [`HTTP_CONNECTIONS_MAX`] clients wait in the backlog. One that is slow with a request's head is answered 408, or
//! closed where it has not begun one; `hyper` answers what is malformed. A connection that ends with something unread
//! lingers, because closing it at once could destroy the answer on its way.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::guard::Guard;
use super::route;
use super::stream::{Stream, handshake};
use super::{Listener, Shared};
use crate::config::Security;
use crate::limits::{
    ACCEPT_PAUSE_MS, DRAIN_MS, HTTP_CONNECTION_BYTES, HTTP_CONNECTIONS_MAX, HTTP_FIELDS_MAX,
    HTTP_HEAD_BYTES_MAX, HTTP_STALL_MS, LINGER_BYTES, LINGER_MS, TLS_CONNECTION_BYTES,
};
use crate::meter::{Charge, Use};
use crate::net::addresses::Seat;
use crate::server::{ServerCounters, Stage};

/// What a client is answered that does not finish the head of its request.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until the end is told, and then answers what is under way.
pub(super) async fn serve(listeners: Vec<Listener>, shared: &Rc<Shared>) -> io::Result<()> {
    let listening = |Listener(socket, security)| Ok((TcpListener::from_std(socket)?, security));
    let mut listeners = listeners.into_iter().map(listening).collect::<io::Result<Vec<_>>>()?;
    let desk = Rc::clone(&shared.desk);
    let answers = spawn_local(async move { desk.hand_out().await });
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut stage = shared.stage.clone();
    let mut end = pin!(ended(&mut stage));
    while let Some(place) = before(&mut end, Arc::clone(&places).acquire_owned()).await {
        let Some(accepted) = before(&mut end, accept(&mut listeners)).await else { break };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((socket, peer, security)) => {
                let Ok(seat) = seat_of(peer.ip(), shared) else { continue };
                // Where the system refuses it, answers take longer.
                let _ = socket.set_nodelay(true);
                let shared = Rc::clone(shared);
                connections.spawn_local(async move {
                    greet(socket, security, &shared).await;
                    drop((place, seat));
                });
            }
            Err(error) => {
                log::debug!("HTTP: cannot accept: {error}");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(listeners);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(DRAIN_MS), all).await.is_err() {
        log::warn!("HTTP: clients that do not take their answers are left");
    }
    answers.abort();
    Ok(())
}

/// The next connection to any of them, and whose it is. Who had one is the last to be looked at next time.
async fn accept(listeners: &mut [(TcpListener, Security)]) -> io::Result<(TcpStream, SocketAddr, Security)> {
    let (at, accepted) = poll_fn(|context| {
        let mut ready = listeners.iter().enumerate().filter_map(|(at, (listener, security))| match listener
            .poll_accept(context)
        {
            Poll::Ready(accepted) => Some((at, accepted.map(|(socket, peer)| (socket, peer, *security)))),
            Poll::Pending => None,
        });
        ready.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    listeners.rotate_left(at + 1);
    accepted
}

/// A place among the connections of its address, where that may have so many only. One too many is closed.
fn seat_of(address: IpAddr, shared: &Shared) -> Result<Option<Box<Seat>>, ()> {
    let Some(addresses) = &shared.server.addresses else { return Ok(None) };
    addresses.enter(address).map(Some).ok_or_else(|| {
        log::debug!("HTTP: too many connections from {address}");
        ServerCounters::add(&shared.server.counters.rejected_per_address, 1);
    })
}

/// What `work` comes to, if it does before the end.
async fn before<T>(end: &mut (impl Future<Output = ()> + Unpin), work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = end => None,
        done = work => Some(done),
    }
}

/// Comes when nothing is accepted any more.
async fn ended(stage: &mut watch::Receiver<Stage>) {
    while stage.changed().await.is_ok() {}
}

/// Serves a client, behind a handshake where there is TLS.
async fn greet(socket: TcpStream, security: Security, shared: &Rc<Shared>) {
    let Some(tls) = shared.server.tls.as_ref().filter(|_| security == Security::Tls) else {
        return serve_one(socket, shared).await;
    };
    let _charge = Charge::of(TLS_CONNECTION_BYTES, &shared.server.meter, Use::Working);
    match handshake(socket, tls).await {
        Ok(socket) => serve_one(socket, shared).await,
        Err(error) => log::debug!("HTTP: no TLS handshake: {error}"),
    }
}

/// Serves a client until his connection ends.
pub(super) async fn serve_one(socket: impl AsyncRead + AsyncWrite + Unpin + 'static, shared: &Rc<Shared>) {
    let _charge = Charge::of(HTTP_CONNECTION_BYTES, &shared.server.meter, Use::Working);
    let serving = Rc::clone(shared);
    let guard = RefCell::new(Guard::default());
    let service = service_fn(move |request: Request<Incoming>| -> Pin<Box<dyn Future<Output = Outcome>>> {
        let shared = Rc::clone(&serving);
        let refusal = guard.borrow_mut().refusal(&request, shared.server.access.as_ref());
        Box::pin(async move {
            match refusal {
                None => Ok(route::answer(request, &shared).await),
                Some(refusal) => Ok(refusal),
            }
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HTTP_STALL_MS))
        .max_headers(HTTP_FIELDS_MAX)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Stream::new(socket)), service);
    let mut stage = shared.stage.clone();
    let mut end = pin!(ended(&mut stage));
    // This ends when all answers are written, also those to requests of which not everything was read.
    let done = before(&mut end, &mut connection).await;
    let done = if let Some(done) = done {
        done
    } else {
        Pin::new(&mut connection).graceful_shutdown();
        (&mut connection).await
    };
    if let Err(error) = &done {
        log::debug!("HTTP: {error}");
    }
    let is_slow = done.is_err_and(|error| error.is_timeout());
    let Parts { io, read_buf, .. } = connection.into_parts();
    let goodbye = say_goodbye(io.into_inner(), is_slow && !read_buf.is_empty());
    // It has had its answer, or will not take one.
    let _ = timeout(Duration::from_millis(LINGER_MS), goodbye).await;
}

type Outcome = Result<Answer, Infallible>;

/// Reads on for a while, so that what was written arrives.
async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: Stream<S>,
    is_slow: bool,
) -> io::Result<()> {
    if is_slow {
        stream.write_all(TOO_SLOW).await?;
    }
    stream.shutdown().await?;
    let mut room = [0; 4096];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match stream.read(&mut room).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
