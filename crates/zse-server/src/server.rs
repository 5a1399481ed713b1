//! Sockets: listening, connections with their limits, and coming to an end.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use zse::GpuState;

use crate::config::{Config, ServeError};
use crate::connection::Connection;
use crate::models::{Served, aliases};
use crate::patience::Patient;
use crate::routes;
use crate::state::App;

/// Most threads that serve sockets. They only write what others compute, whose cores they must not
/// take.
const THREADS: usize = 2;
/// Cores to a thread that serves sockets: two threads wake each other at each step, which a small
/// machine needs for computing.
const CORES: usize = 4;
/// Bytes that the system holds for a client that reads slowly (Linux doubles it).
const SEND_BUFFER: u32 = 128 << 10;
/// Bytes that a connection buffers; the headers of a request must fit.
const BUFFER: usize = 64 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// How often it is asked whether the GPU can still be used.
const LOOK: Duration = Duration::from_millis(200);

/// A server that has its port. It serves once it [runs](Self::run); until then, clients wait.
pub struct Server {
    config: Config,
    runtime: Runtime,
    listener: StdListener,
    address: SocketAddr,
}

/// Why a server has ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// This process can use its GPU no more ([`Config::gpu_state`]). Clients that connect wait at this listener for the
    /// server that takes its place ([`Server::on`]).
    Broken(StdListener),
}

impl Server {
    /// Checks the settings and takes the port.
    ///
    /// # Errors
    /// If the settings are not safe, or the port is taken.
    pub fn bind(config: Config) -> Result<Self, ServeError> {
        Self::new(config, None)
    }

    /// Checks the settings and takes the port over from a server that has ended: `listener` instead of
    /// [`Config::address`], which the settings are checked for.
    ///
    /// # Errors
    /// If the settings are not safe, or `listener` is none.
    pub fn on(listener: StdListener, config: Config) -> Result<Self, ServeError> {
        Self::new(config, Some(listener))
    }

    fn new(config: Config, taken: Option<StdListener>) -> Result<Self, ServeError> {
        config.check()?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / CORES).clamp(1, THREADS))
            // Each request has one until its tokens come, and some more are short.
            .max_blocking_threads(config.max_requests.saturating_add(64).min(4096))
            .thread_name("zse-http")
            .enable_all()
            .build()
            .map_err(ServeError::Runtime)?;
        let listener = match taken {
            Some(listener) => listener.set_nonblocking(true).map(|()| listener),
            None => runtime.block_on(async { listen(config.address)?.into_std() }),
        };
        let listener = listener.and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = listener.map_err(|source| ServeError::Listen {
            address: config.address,
            source,
        })?;
        Ok(Self {
            config,
            runtime,
            listener,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ready once the process is told to stop: by Ctrl-C, or SIGTERM where there is such a thing. From this call
    /// on, neither ends the process by itself.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn interrupted(&self) -> Result<impl Future<Output = ()> + Send + use<>, ServeError> {
        let _within = self.runtime.enter();
        interruption().map_err(ServeError::Runtime)
    }

    /// Checks the names of `models`, which need not be loaded for that.
    ///
    /// # Errors
    /// If there is no model, two have one name, or an alias stands for none.
    pub fn check(&self, models: &[Served]) -> Result<(), ServeError> {
        aliases(models, &self.config).map(|_| ())
    }

    /// Serves `models` until `stop` is ready, or the GPU is broken where [`Config::gpu_state`] tells; then takes no more
    /// connections, and waits up to [`Config::drain`] for the requests that run.
    ///
    /// # Errors
    /// If their names are not sound: see [`check`](Self::check).
    pub fn run(
        self,
        models: Vec<Served>,
        stop: impl Future<Output = ()>,
    ) -> Result<Ended, ServeError> {
        let app = Arc::new(App::new(models, self.config)?);
        let listen_error = |source| ServeError::Listen {
            address: self.address,
            source,
        };
        let ended = self.runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener).map_err(listen_error)?;
            match accept(&app, listener, stop).await {
                Some(listener) => listener.into_std().map(Ended::Broken).map_err(listen_error),
                None => Ok(Ended::Stopped),
            }
        })?;
        // What still runs is cancelled with its connection.
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(ended)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Else a restart would have to wait for connections that were closed; on Windows it would share
    // the port with a server that runs.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Listens for what tells the process to stop, Ctrl-C, and SIGTERM where there is such a thing; ready once one
/// came.
#[cfg(unix)]
fn interruption() -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// See the other one.
#[cfg(not(unix))]
fn interruption() -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    // Without a handler the signal ends the process anyway.
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// How long answers that are cut off have to say so.
const FAREWELL: Duration = Duration::from_secs(3);

/// Ready once the process can use its GPU no more.
async fn broken(app: &App) {
    let Some(state) = &app.config.gpu_state else {
        return std::future::pending().await;
    };
    while state() != GpuState::Broken {
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes connections until `stop`, or until the GPU is broken, then waits for them; gives the listener in the second
/// case.
async fn accept(
    app: &Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Option<TcpListener> {
    let mut stop = std::pin::pin!(stop);
    let service = routes::router(app);
    let (stopping, stopped) = watch::channel(false);
    let places = app.config.max_connections.clamp(1, u32::MAX as usize >> 4);
    let connections = Arc::new(Semaphore::new(places));
    let serve = async {
        loop {
            let Ok(place) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let service = service.clone();
                    let app = Arc::clone(app);
                    let place = Connection::new(stopped.clone(), place);
                    tokio::spawn(connection(app, stream, service, place));
                }
                // Mostly for want of file descriptors, which will come back.
                Err(error) => {
                    app.report(&format!("cannot take a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    let mut is_broken = false;
    tokio::select! {
        biased;
        () = &mut stop => {}
        () = broken(app) => is_broken = true,
        () = app.models.watch() => {}
        () = serve => {}
    }
    // Kept open, it lets those who connect now wait for the next process.
    let mut listener = Some(listener).filter(|_| is_broken);
    let _ = stopping.send(true);
    app.downloads.stop();
    let mut drained = std::pin::pin!(drain(app, &connections, places as u32));
    tokio::select! {
        () = &mut drained => return listener,
        // Told to stop, it does not start again.
        () = &mut stop, if is_broken => listener = None,
    }
    drained.await;
    listener
}

/// Waits until all `places` for connections are free; not for ever.
async fn drain(app: &App, connections: &Semaphore, places: u32) {
    let all = || connections.acquire_many(places);
    if tokio::time::timeout(app.config.drain, all()).await.is_err() {
        // Answers that are not at their end say so.
        app.cut_off.send_replace(true);
        let _ = tokio::time::timeout(FAREWELL, all()).await;
    }
}

async fn connection(
    app: Arc<App>,
    stream: TcpStream,
    service: axum::Router,
    mut place: Connection,
) {
    // Tokens are small, and none should wait for the next.
    let _ = stream.set_nodelay(true);
    let io = Patient::new(stream, app.config.write_timeout, place.arrivals());
    let io = TokioIo::new(io);
    let service = TowerToHyperService::new(service);
    let extension = place.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let arrivals = extension.arrivals();
        request.extensions_mut().insert(arrivals.begin());
        request.extensions_mut().insert(extension.clone());
        let response = service.call(request);
        async move {
            let response = response.await;
            arrivals.end();
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.read_timeout)
        .max_buf_size(BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A client's mistakes on the wire are its own; there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = place.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
