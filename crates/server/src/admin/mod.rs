//! The HTTP thread: metrics, health, keys, and a page to look at. A client of the storage thread like any other.
//!
//! | module | what it knows |
//! | --- | --- |
//! | `connections` | accepting, and what slow, malformed and too many clients meet |
//! | `stream` | a socket whose client must take what it is sent; its handshake, where there is TLS |
//! | `guard` | who may come in |
//! | `route` | which request goes where |
//! | `answer` | responses, and errors in JSON |
//! | `keys` | one item: GET, PUT, DELETE |
//! | `poll` | waiting for its change |
//! | `value` | values on their way in and out |
//! | `metrics` | figures for Prometheus |
//! | `status` | the same for the page |
//! | `desk` | the way to the storage thread |
//!
//! It is there before the storage thread is, while a snapshot is restored: until then it says so.
//!
//! HTTP itself is `hyper`'s, on a runtime of one thread. Whatever happens here, the event loops do not notice it: this
//! thread holds no lock that they know of, and its questions stand in the storage thread's queue like theirs.

mod answer;
mod connections;
mod desk;
mod guard;
mod keys;
mod metrics;
mod poll;
mod route;
mod status;
mod stream;
mod value;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use crate::config::Security;
use crate::hop::Storage;
use crate::limits::HTTP_WATCHERS_MAX;
use crate::server::{Server, Stage};

/// A socket that HTTP comes in by.
#[derive(Debug)]
pub struct Listener(TcpListener, Security);

impl Listener {
    /// Opens it. Connections come with `security`, where there is TLS.
    ///
    /// # Errors
    /// A sentence that names the address and what the system said.
    pub fn open(address: SocketAddr, security: Security) -> Result<Self, String> {
        let open = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Self(listener, security))
        };
        open().map_err(|error: io::Error| format!("--http: cannot listen on {address}: {error}"))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The running HTTP thread.
#[derive(Debug)]
pub struct Handle {
    addresses: Vec<SocketAddr>,
    stage: watch::Sender<Stage>,
    storage: Arc<OnceLock<Storage>>,
    join: JoinHandle<()>,
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    server: Arc<Server>,
    desk: Rc<desk::Desk>,
    stage: watch::Receiver<Stage>,
    /// Places for those who wait for a change.
    watchers: Semaphore,
}

/// Starts the thread. What needs the storage thread is refused until that is [there](Handle::open).
///
/// # Errors
/// Where the system gives no thread, or no poll.
pub fn spawn(listeners: Vec<Listener>, server: Arc<Server>) -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (stage, told) = watch::channel(Stage::Ready);
    let addresses = listeners.iter().filter_map(|listener| listener.address().ok()).collect();
    let storage = Arc::default();
    let asked = Arc::clone(&storage);
    let join = std::thread::Builder::new().name("http".into()).spawn(move || {
        let shared = Rc::new(Shared::new(server, asked, told));
        let outcome = LocalSet::new().block_on(&runtime, connections::serve(listeners, &shared));
        if let Err(error) = outcome {
            log::error!("HTTP is not served any more: {error}");
        }
    })?;
    Ok(Handle { addresses, stage, storage, join })
}

/// Serves one connection over anything, on the runtime of whoever calls: that may be a test with a clock of its own.
pub async fn converse(
    socket: impl AsyncRead + AsyncWrite + Unpin + 'static,
    server: Arc<Server>,
    storage: Storage,
) {
    let (_stage, told) = watch::channel(Stage::Ready);
    let shared = Rc::new(Shared::new(server, Arc::new(storage.into()), told));
    tokio::select! {
        () = shared.desk.hand_out() => {}
        () = connections::serve_one(socket, &shared) => {}
    }
}

impl Shared {
    fn new(server: Arc<Server>, storage: Arc<OnceLock<Storage>>, stage: watch::Receiver<Stage>) -> Self {
        Self { server, desk: desk::Desk::new(storage), stage, watchers: Semaphore::new(HTTP_WATCHERS_MAX) }
    }
}

impl Handle {
    /// Has it serve what `storage` holds.
    pub fn open(&self, storage: Storage) {
        // A server has one, and opens once.
        let _ = self.storage.set(storage);
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Every request that waits for something is answered.
    pub fn drain(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Ends the thread: no request is accepted any more, and those under way are answered.
    pub fn join(self) {
        drop(self.stage);
        if self.join.join().is_err() {
            log::error!("the HTTP thread panicked");
        }
    }
}
