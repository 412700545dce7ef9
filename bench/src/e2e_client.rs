//! Both ends of the short exchanges of [`crate::e2e`]: one byte there, one byte back. They run as
//! processes of their own, in the namespaces of client and server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Connections the server serves at a time, each with a thread; more wait in the backlog.
const SERVER_THREADS: usize = 64;
/// An exchange of one byte that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Round trips before those that count: the first ones fill neighbour tables and caches.
const WARM_UP: usize = 50;
/// A connection that fails at once must not turn the loop into a flood.
const AFTER_ERROR: Duration = Duration::from_millis(1);
/// What the server says when it listens.
pub const LISTENING: &str = "listening";

#[derive(Clone, Debug, Args)]
pub struct PeerArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Clone, Debug, Subcommand)]
enum Role {
    /// Answers each byte with a byte, until it is killed.
    Server { listen: SocketAddr },
    /// Opens connections in a closed loop, one exchange each.
    Connections {
        to: SocketAddr,
        /// At a time.
        #[arg(long)]
        concurrency: usize,
        #[arg(long)]
        seconds: f64,
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
    pub complete: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    /// Until the last one ended.
    pub seconds: f64,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RoundTrips {
    pub p50: f64,
    pub p99: f64,
}

/// Runs one end; clients print their result as one line of JSON.
///
/// # Errors
/// The server cannot listen; a round trip failed. Failing connections are a result, not an error.
pub fn run(args: &PeerArgs) -> anyhow::Result<()> {
    match args.role {
        Role::Server { listen } => serve(listen),
        Role::Connections { to, concurrency, seconds } => {
            let result = connections(to, concurrency, Duration::from_secs_f64(seconds));
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

fn connections(to: SocketAddr, concurrency: usize, time: Duration) -> Connections {
    let start = Instant::now();
    let over = AtomicBool::new(false);
    let one = |number: u8| {
        let mut result = Connections::default();
        while !over.load(Ordering::Relaxed) {
            match connect(to).and_then(|mut stream| exchange(&mut stream, number)) {
                Ok(()) => result.complete += 1,
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
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            let Ok(result) = thread.join() else { continue };
            total.complete += result.complete;
            total.errors += result.errors;
            total.first_error = total.first_error.take().or(result.first_error);
        }
    });
    total.seconds = start.elapsed().as_secs_f64();
    total
}

fn round_trips(to: SocketAddr, count: usize) -> anyhow::Result<RoundTrips> {
    let mut stream = connect(to).with_context(|| format!("connect to {to}"))?;
    let mut histogram = Histogram::<u64>::new(3)?;
    for n in 0..WARM_UP + count {
        let start = Instant::now();
        exchange(&mut stream, n as u8).with_context(|| format!("round trip {n} to {to}"))?;
        if n >= WARM_UP {
            histogram.record(start.elapsed().as_nanos() as u64)?;
        }
    }
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Ok(RoundTrips { p50: micros(0.5), p99: micros(0.99) })
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
        assert!(result.p50 > 0.0 && result.p50 <= result.p99, "{result:?}");
    }

    #[test]
    fn connections_are_counted() {
        let result = connections(server(usize::MAX), 2, Duration::from_millis(50));
        assert!(result.complete > 0 && result.errors == 0, "{result:?}");
        assert!(result.seconds >= 0.05, "{result:?}");
    }

    #[test]
    fn refused_connections_are_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let result = connections(nobody, 1, Duration::from_millis(20));
        assert!(result.complete == 0 && result.errors > 0, "{result:?}");
        assert!(result.first_error.unwrap().contains("refused"));
    }
}
