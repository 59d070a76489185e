//! Accepting, and what slow, malformed and too many clients meet.
//!
//! Beyond [`HTTP_CONNECTIONS_MAX`] clients wait in the backlog. One that is slow with a request's head is answered 408, or
//! closed where it has not begun one; `hyper` answers what is malformed. A connection that ends with something unread
//! lingers, because closing it at once could destroy the answer on its way.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::answer::Answer;
use super::route;
use super::stream::Stream;
use crate::limits::{
    ACCEPT_PAUSE_MS, DRAIN_MS, HTTP_CONNECTION_BYTES, HTTP_CONNECTIONS_MAX, HTTP_FIELDS_MAX,
    HTTP_HEAD_BYTES_MAX, HTTP_STALL_MS, LINGER_BYTES, LINGER_MS,
};
use crate::meter::{Charge, Use};
use crate::server::Stage;

/// What a client is answered that does not finish the head of its request.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until the end is told, and then answers what is under way.
pub(super) async fn serve(listener: TcpListener, shared: &Rc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let desk = Rc::clone(&shared.desk);
    let answers = spawn_local(async move { desk.hand_out().await });
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut stage = shared.stage.clone();
    let mut end = pin!(ended(&mut stage));
    while let Some(place) = before(&mut end, Arc::clone(&places).acquire_owned()).await {
        let Some(accepted) = before(&mut end, listener.accept()).await else { break };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((socket, _)) => {
                // Where the system refuses it, answers take longer.
                let _ = socket.set_nodelay(true);
                let shared = Rc::clone(shared);
                connections.spawn_local(async move {
                    serve_one(socket, &shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                log::debug!("HTTP: cannot accept: {error}");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(DRAIN_MS), all).await.is_err() {
        log::warn!("HTTP: clients that do not take their answers are left");
    }
    answers.abort();
    Ok(())
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

/// Serves a client until his connection ends.
pub(super) async fn serve_one(socket: impl AsyncRead + AsyncWrite + Unpin + 'static, shared: &Rc<Shared>) {
    let _charge = Charge::of(HTTP_CONNECTION_BYTES, &shared.server.meter, Use::Working);
    let serving = Rc::clone(shared);
    let service = service_fn(move |request: Request<Incoming>| -> Pin<Box<dyn Future<Output = Outcome>>> {
        let shared = Rc::clone(&serving);
        Box::pin(async move { Ok(route::answer(request, &shared).await) })
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
