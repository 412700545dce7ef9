//! Both ends of short exchanges: one byte there, one byte back. They run as processes of their
//! own, in the namespaces of client and server.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde::{Deserialize, Serialize};

/// Connections the server serves at a time, each with a thread; more wait in the backlog.
const SERVER_THREADS: usize = 64;
/// An exchange of one byte that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Round trips before those that count: the first ones fill neighbour tables and caches.
const WARM_UP: usize = 50;
/// A connection that fails at once must not turn the loop into a flood.
const AFTER_ERROR: Duration = Duration::from_millis(1);
/// Connections that one process holds: what a usual limit on open files leaves.
pub const HELD: usize = 18_000;
/// Threads that open them.
const HOLD_CONCURRENCY: usize = 16;
/// What the client says when it holds all its connections.
pub const HOLDING: &str = "holding";
/// What a stranger says who was sent away.
pub const REFUSED: &str = "refused";
/// What the server says when it listens.
pub const LISTENING: &str = "listening";

#[derive(Clone, Debug, Args)]
pub struct EndsArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Clone, Debug, Subcommand)]
enum Role {
    /// Answers each byte with a byte, until it is killed.
    Server { listen: SocketAddr },
    /// The same for many connections that stay open: this process and others of it share the
    /// port, and each takes as many as it may have files.
    HoldServer {
        listen: SocketAddr,
        #[arg(long)]
        processes: usize,
    },
    /// One of those; the port is its standard input.
    #[command(hide = true)]
    HoldShare,
    /// Opens connections in a closed loop, one exchange each.
    Connections {
        to: SocketAddr,
        /// At a time.
        #[arg(long)]
        concurrency: usize,
        /// Ends after that.
        #[arg(long, default_value_t = f64::MAX)]
        seconds: f64,
        /// Ends after that many.
        #[arg(long, default_value_t = u64::MAX)]
        count: u64,
    },
    /// Opens connections with one exchange each and holds them until killed.
    Hold {
        to: SocketAddr,
        #[arg(long)]
        count: usize,
    },
    /// Connects with TLS and without a certificate, and expects to be sent away.
    Stranger {
        to: SocketAddr,
        /// PEM file of the CA that the server's certificate is of.
        #[arg(long)]
        ca: PathBuf,
        /// The name in it.
        #[arg(long)]
        name: String,
    },
    /// Exchanges on one connection.
    RoundTrips {
        to: SocketAddr,
        #[arg(long)]
        count: usize,
    },
}

/// Connections with a complete exchange, and those without.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Connections {
    pub errors: u64,
    pub first_error: Option<String>,
    /// Those that were complete within the time given, where one was.
    pub in_time: u64,
    /// The time given; else from the first one's beginning to the last one's end.
    pub seconds: f64,
    /// Of each complete one: from the beginning of the connection to its answer, us.
    pub micros: Vec<f64>,
}

/// Each round trip, us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundTrips {
    pub micros: Vec<f64>,
}

/// Runs one end; clients print their result as one line of JSON.
///
/// # Errors
/// The server cannot listen; a round trip failed. Failing connections are a result, not an error.
pub fn run(args: &EndsArgs) -> anyhow::Result<()> {
    match args.role {
        Role::Server { listen } => serve(listen),
        Role::HoldServer { listen, processes } => hold_server(listen, processes),
        Role::HoldShare => hold_share(),
        Role::Hold { to, count } => hold(to, count),
        Role::Stranger { to, ref ca, ref name } => stranger(to, ca, name),
        Role::Connections { to, concurrency, seconds, count } => {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            let result = connections(to, concurrency, time, count);
            println!("{}", serde_json::to_string(&result)?);
            Ok(())
        }
        Role::RoundTrips { to, count } => {
            println!("{}", serde_json::to_string(&round_trips(to, count)?)?);
            Ok(())
        }
    }
}

fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    println!("{LISTENING} on {listen}");
    thread::scope(|scope| {
        for _ in 0..SERVER_THREADS {
            scope.spawn(|| {
                loop {
                    match listener.accept() {
                        Ok((stream, _)) => answer(stream),
                        Err(_) => thread::sleep(AFTER_ERROR),
                    }
                }
            });
        }
    });
    Ok(())
}

/// Until the client closes; what it does wrong shows in its own count of errors.
fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    // A client that vanished must not keep the thread.
    let _ = stream.set_read_timeout(Some(2 * PATIENCE));
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, byte: u8) -> std::io::Result<()> {
    stream.write_all(&[byte])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer == [byte] {
        return Ok(());
    }
    Err(std::io::Error::other(format!("sent {byte}, got {}", answer[0])))
}

fn connections(to: SocketAddr, concurrency: usize, time: Duration, count: u64) -> Connections {
    let begin = Instant::now();
    let begun = AtomicU64::new(0);
    let one = |number: u8| {
        let mut result = Connections::default();
        while begin.elapsed() < time && begun.fetch_add(1, Ordering::Relaxed) < count {
            let start = Instant::now();
            match connect(to).and_then(|mut stream| exchange(&mut stream, number)) {
                Ok(()) => {
                    result.micros.push(micros(start));
                    result.in_time += u64::from(begin.elapsed() <= time);
                }
                Err(error) => {
                    result.errors += 1;
                    result.first_error.get_or_insert_with(|| error.to_string());
                    thread::sleep(AFTER_ERROR);
                }
            }
        }
        result
    };
    let mut total = Connections::default();
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..concurrency).map(|n| scope.spawn(move || one(n as u8))).collect();
        for thread in threads {
            let Ok(result) = thread.join() else { continue };
            total.micros.extend(result.micros);
            total.errors += result.errors;
            total.in_time += result.in_time;
            total.first_error = total.first_error.take().or(result.first_error);
        }
    });
    // Stragglers would stretch it: a SYN that is sent again is a second late.
    total.seconds = begin.elapsed().min(time).as_secs_f64();
    total
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64 / 1e3
}

fn round_trips(to: SocketAddr, count: usize) -> anyhow::Result<RoundTrips> {
    let mut stream = connect(to).with_context(|| format!("connect to {to}"))?;
    let mut times = Vec::with_capacity(count);
    for n in 0..WARM_UP + count {
        let start = Instant::now();
        exchange(&mut stream, n as u8).with_context(|| format!("round trip {n} to {to}"))?;
        if n >= WARM_UP {
            times.push(micros(start));
        }
    }
    Ok(RoundTrips { micros: times })
}

/// Connects without a certificate.
///
/// # Errors
/// The server shows no certificate of the CA, or serves.
pub fn stranger(to: SocketAddr, ca: &Path, name: &str) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).context("the CA")? {
        roots.add(certificate.context("the CA")?)?;
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).context("--name is no host name")?;
    let mut session = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = connect(to).with_context(|| format!("connect to {to}"))?;
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    // In TLS 1.3 the client is told behind its own last flight, at its first read.
    match stream.write_all(&[1]).and_then(|()| stream.read(&mut [0])) {
        Ok(0) => {}
        Ok(_) => anyhow::bail!("{to} serves who has no certificate"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            anyhow::bail!("{to} neither serves nor refuses who has no certificate")
        }
        Err(error) => println!("{error}"),
    }
    // Who fails for another reason would not be proof.
    anyhow::ensure!(
        session.peer_certificates().is_some(),
        "{to} broke off before it showed its own certificate"
    );
    println!("{REFUSED}");
    Ok(())
}

fn hold_server(listen: SocketAddr, processes: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    let this = std::env::current_exe().context("path of this program")?;
    let mut shares = Vec::new();
    for _ in 0..processes {
        let port = OwnedFd::from(listener.try_clone().context("share the port")?);
        let share = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&this)
            .args(["ends", "hold-share"])
            .stdin(port)
            .spawn();
        shares.push(share.context("a process of the server does not start")?);
    }
    println!("{LISTENING} on {listen}");
    for mut share in shares {
        let status = share.wait().context("a process of the server")?;
        anyhow::ensure!(status.success(), "a process of the server ended with {status}");
    }
    Ok(())
}

fn hold_share() -> anyhow::Result<()> {
    let port = io::stdin().as_fd().try_clone_to_owned().context("the port on stdin")?;
    let listener = TcpListener::from(port);
    let mut held = Vec::new();
    while held.len() < HELD {
        let (mut stream, _) = listener.accept().context("accept")?;
        // Who sends nothing costs itself, and the others this long.
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut byte = [0];
        if matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {
            held.push(stream);
        }
    }
    loop {
        thread::park();
    }
}

fn hold(to: SocketAddr, count: usize) -> anyhow::Result<()> {
    anyhow::ensure!(count <= HELD, "one process holds at most {HELD} connections");
    let left = AtomicUsize::new(count);
    let held = Mutex::new(Vec::with_capacity(count));
    thread::scope(|scope| {
        let one = || -> anyhow::Result<()> {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let mut stream = connect(to).with_context(|| format!("connect to {to}"))?;
                exchange(&mut stream, 1).context("the first byte of a connection")?;
                held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..HOLD_CONCURRENCY).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
        })
    })?;
    println!("{HOLDING} {count}");
    loop {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server for as many connections as the test opens.
    fn server(connections: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                answer(stream.unwrap());
            }
        });
        address
    }

    #[test]
    fn round_trips_are_measured() {
        let result = round_trips(server(1), 100).unwrap();
        assert!(result.micros.len() == 100 && result.micros.iter().all(|t| *t > 0.0), "{result:?}");
    }

    #[test]
    fn connections_are_counted() {
        let result = connections(server(usize::MAX), 2, Duration::from_millis(50), u64::MAX);
        assert!(!result.micros.is_empty() && result.errors == 0, "{result:?}");
        assert_eq!(result.seconds, 0.05);
        assert!(result.in_time > 0 && result.in_time <= result.micros.len() as u64, "{result:?}");
        let result = connections(server(usize::MAX), 3, Duration::MAX, 10);
        assert!(result.micros.len() == 10 && result.errors == 0, "{result:?}");
    }

    /// An answer behind the end counts as complete, and not for the rate.
    #[test]
    fn late_answers_are_not_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            thread::sleep(Duration::from_millis(80));
            answer(stream);
        });
        let result = connections(to, 1, Duration::from_millis(20), u64::MAX);
        assert_eq!((result.micros.len(), result.in_time, result.errors), (1, 0, 0));
        assert_eq!(result.seconds, 0.02);
    }

    #[test]
    fn refused_connections_are_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let result = connections(nobody, 1, Duration::from_millis(20), u64::MAX);
        assert!(result.micros.is_empty() && result.errors > 0, "{result:?}");
        assert!(result.first_error.unwrap().contains("refused"));
    }
}
