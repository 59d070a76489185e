//! A socket whose client must take what it is sent: one that takes nothing for a while is given up. How long a client
//! may take to send something is the business of those who wait for it. And the handshake, where there is TLS.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::limits::HTTP_STALL_MS;
use crate::server::ServerCounters;
use crate::tls;

/// See the module.
#[derive(Debug)]
pub(super) struct Stream<S> {
    socket: S,
    /// When it is given up, while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Stream<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, stalled: None }
    }

    fn watch<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(HTTP_STALL_MS))));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The handshake of TLS. One that comes to nothing is counted with those of other protocols.
pub(super) async fn handshake(socket: TcpStream, tls: &tls::Context) -> io::Result<TlsStream<TcpStream>> {
    let time = Duration::from_millis(tls.options.handshake_ms_max);
    let done = timeout(time, TlsAcceptor::from(tls.config()).accept(socket)).await;
    if done.is_err() {
        ServerCounters::add(&tls.counters.handshake_timeouts, 1);
    }
    let done = done.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    done.inspect_err(|_| ServerCounters::add(&tls.counters.handshake_errors, 1))
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
