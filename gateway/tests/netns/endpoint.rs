//! Kernel TCP clients and servers (and a bad line) in a namespace: this test program again, started there in a
//! role. The role is a test of its own when no role is given: both ends without a gateway between.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use clgw::sim::line::{self, LineConfig};

use crate::pattern::{CHUNK, Digest, Pattern};

/// Names the role; its words are separated by spaces.
const VARIABLE: &str = "CLGW_ENDPOINT";
/// The test that takes the role.
const ROLE_TEST: &str = "endpoint::both_ends_work_without_a_gateway";
/// What a server says first in the role `greet`.
const GREETING: &[u8] = b"220 the server speaks first\r\n";
/// Longer than any time-out of the gateway that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments and environment for starting this program in `role`.
pub fn command(role: &str) -> (Vec<String>, (String, String)) {
    let program = std::env::current_exe().expect("own path").display().to_string();
    let arguments = vec![program, "--exact".into(), ROLE_TEST.into(), "--nocapture".into()];
    (arguments, (VARIABLE.into(), role.into()))
}

#[test]
fn both_ends_work_without_a_gateway() {
    if let Ok(role) = std::env::var(VARIABLE) {
        // Leaves before the test harness prints that a test has passed.
        std::process::exit(match act(&role) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("error: {role}: {error}");
                1
            }
        });
    }
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let to = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, converse));
    for role in [
        format!("echo {to} 20 20000 1"),
        format!("upload {to} 3000001 2"),
        format!("download {to} 3000001 3"),
        format!("late {to} 100000 200000 4"),
        format!("first {to} 100000 200000 5"),
    ] {
        act(&role).unwrap_or_else(|error| panic!("{role}: {error}"));
    }
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let to = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, greet));
    act(&format!("greeted {to}")).unwrap();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let to = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, |stream| say("somebody", stream)));
    assert_eq!(asked(to).unwrap(), "somebody");
    // Nobody listens at port 1.
    let refused = outcome("[::1]:1".parse().unwrap());
    assert_eq!(refused, "refused");
}

fn act(role: &str) -> io::Result<()> {
    let words: Vec<&str> = role.split(' ').collect();
    let number = |at: usize| -> u64 { words[at].parse().expect("a number") };
    if words[0] == "line" {
        let delay = Duration::from_millis(number(1));
        let loss = number(2) as f64 / 10_000.0;
        let config = LineConfig { loss, seed: number(3), ..LineConfig::of_delay(delay) };
        return line::run(&[["left", "right"]], config).map_err(io::Error::other);
    }
    if words[0] == "linux" {
        return crate::linux::act(&words);
    }
    let address: SocketAddr = words[1].parse().expect("an address");
    match words[0] {
        "serve" => serve(&listen(address)?, converse),
        "greet" => serve(&listen(address)?, greet),
        "named" => {
            let name = words[2].to_owned();
            serve(&listen(address)?, move |stream| say(&name, stream))
        }
        "echo" => echo(address, number(2) as usize, number(3), number(4)),
        "upload" => upload(address, number(2), number(3)),
        "download" => download(address, number(2), number(3), None),
        "slowly" => download(address, number(2), number(3), Some(Duration::from_millis(number(4)))),
        "late" => late(address, number(2), number(3), number(4)),
        "first" => first(address, number(2), number(3), number(4)),
        "greeted" => greeted(address),
        "ask" => {
            let names: Vec<String> = (0..number(2))
                .map(|_| asked(address).unwrap_or_else(|_| "nobody".to_owned()))
                .collect();
            eprintln!("served by {}", names.join(" "));
            Ok(())
        }
        "hold" => hold(address),
        "try" => {
            let begun = Instant::now();
            let text = outcome(address);
            eprintln!("{text} {} ms", begun.elapsed().as_millis());
            Ok(())
        }
        other => Err(io::Error::other(format!("there is no role {other}"))),
    }
}

// --- Servers ------------------------------------------------------------------------------------

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    eprintln!("listening");
    Ok(listener)
}

fn serve(
    listener: &TcpListener,
    with: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<()> {
    loop {
        let (stream, from) = listener.accept()?;
        let with = with.clone();
        thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            if let Err(error) = with(stream) {
                eprintln!("connection from {from}: {error}");
            }
        })?;
    }
}

/// The first line says what the client wants.
fn converse(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(CHUNK, stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let words: Vec<&str> = line.trim().split(' ').collect();
    let number = |at: usize| -> io::Result<u64> {
        words
            .get(at)
            .and_then(|w| w.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not a wish: {line:?}")))
    };
    match words[0] {
        "echo" => {
            io::copy(&mut reader, &mut stream)?;
        }
        "sink" => {
            // Until the announced length, so that the answer does not need a half-close.
            let digest = receive(&mut reader, Some(number(1)?), None)?;
            writeln!(stream, "{digest}")?;
        }
        "source" => send(&mut stream, number(1)?, number(2)?)?,
        "late" => {
            let digest = receive(&mut reader, None, None)?;
            // The client is long at its end before the server begins.
            thread::sleep(Duration::from_millis(300));
            writeln!(stream, "{digest}")?;
            send(&mut stream, number(1)?, number(2)?)?;
        }
        "first" => {
            send(&mut stream, number(1)?, number(2)?)?;
            stream.shutdown(Shutdown::Write)?;
            let digest = receive(&mut reader, None, None)?;
            eprintln!("received after own end: {digest}");
        }
        _ => return Err(io::Error::other(format!("not a wish: {line:?}"))),
    }
    Ok(())
}

fn greet(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(GREETING)?;
    let mut reader = stream.try_clone()?;
    io::copy(&mut reader, &mut stream)?;
    Ok(())
}

/// Says who it is.
fn say(name: &str, mut stream: TcpStream) -> io::Result<()> {
    writeln!(stream, "{name}")?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

// --- Clients ------------------------------------------------------------------------------------

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn send(stream: &mut TcpStream, bytes: u64, seed: u64) -> io::Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(CHUNK as u64) as usize;
        pattern.fill(&mut buffer[..n]);
        stream.write_all(&buffer[..n])?;
        left -= n as u64;
    }
    Ok(())
}

/// Reads `limit` bytes, or to the end; `pause` after every piece.
fn receive(
    from: &mut impl Read,
    limit: Option<u64>,
    pause: Option<Duration>,
) -> io::Result<Digest> {
    let mut digest = Digest::default();
    let mut buffer = vec![0; CHUNK];
    while limit.is_none_or(|limit| digest.bytes < limit) {
        let room = limit.map_or(CHUNK as u64, |l| (l - digest.bytes).min(CHUNK as u64)) as usize;
        match from.read(&mut buffer[..room])? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    Ok(digest)
}

fn same(what: &str, got: &str, wanted: &str) -> io::Result<()> {
    if got == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!("{what}: got {got}, wanted {wanted}")))
}

fn at_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 64])? {
        0 => Ok(()),
        n => Err(io::Error::other(format!("{n} bytes more than there should be"))),
    }
}

/// `count` connections that are all open at the same time; each sends `bytes` in rounds and gets
/// them back.
fn echo(address: SocketAddr, count: usize, bytes: u64, seed: u64) -> io::Result<()> {
    const ROUND: usize = 4_096;
    let open = Arc::new(Barrier::new(count));
    let threads: Vec<_> = (0..count as u64)
        .map(|n| {
            let open = Arc::clone(&open);
            thread::Builder::new().stack_size(128 * 1024).spawn(move || {
                let opened = connect(address).and_then(|mut stream| {
                    stream.write_all(b"echo\nopen")?;
                    let mut answer = [0; 4];
                    stream.read_exact(&mut answer)?;
                    same("first answer", &String::from_utf8_lossy(&answer), "open")?;
                    Ok(stream)
                });
                // Also when it failed: the others wait here.
                open.wait();
                let mut stream = opened?;
                let mut pattern = Pattern::new(seed + n);
                let (mut sent, mut got) = ([0; ROUND], [0; ROUND]);
                let mut left = bytes;
                while left > 0 {
                    let n = left.min(ROUND as u64) as usize;
                    pattern.fill(&mut sent[..n]);
                    stream.write_all(&sent[..n])?;
                    stream.read_exact(&mut got[..n])?;
                    if sent[..n] != got[..n] {
                        return Err(io::Error::other("the echo differs"));
                    }
                    left -= n as u64;
                }
                stream.shutdown(Shutdown::Write)?;
                at_end(&mut stream)
            })
        })
        .collect();
    let mut failures = Vec::new();
    for (n, thread) in threads.into_iter().enumerate() {
        let result = thread?.join().unwrap_or_else(|_| Err(io::Error::other("panicked")));
        if let Err(error) = result {
            failures.push(format!("connection {n}: {error}"));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let shown = failures.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    Err(io::Error::other(format!("{} of {count} failed: {shown}", failures.len())))
}

fn upload(address: SocketAddr, bytes: u64, seed: u64) -> io::Result<()> {
    let mut stream = connect(address)?;
    writeln!(stream, "sink {bytes}")?;
    send(&mut stream, bytes, seed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    same("checksum at the server", answer.trim(), &Digest::of(seed, bytes).to_string())
}

fn download(address: SocketAddr, bytes: u64, seed: u64, pause: Option<Duration>) -> io::Result<()> {
    let mut stream = connect(address)?;
    writeln!(stream, "source {bytes} {seed}")?;
    let begun = Instant::now();
    let digest = if let Some(pause) = pause {
        let mut first = [0; 1];
        stream.read_exact(&mut first)?;
        eprintln!("under way");
        receive(&mut first.as_slice().chain(&mut stream), None, Some(pause))?
    } else {
        receive(&mut stream, None, None)?
    };
    same("checksum", &digest.to_string(), &Digest::of(seed, bytes).to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{bytes} bytes in {seconds:.2} s");
    Ok(())
}

/// The client ends first and still receives.
fn late(address: SocketAddr, up: u64, down: u64, seed: u64) -> io::Result<()> {
    let mut stream = connect(address)?;
    writeln!(stream, "late {down} {seed}")?;
    send(&mut stream, up, seed)?;
    stream.shutdown(Shutdown::Write)?;
    let mut reader = BufReader::new(stream);
    let mut answer = String::new();
    reader.read_line(&mut answer)?;
    same("checksum at the server", answer.trim(), &Digest::of(seed, up).to_string())?;
    let digest = receive(&mut reader, None, None)?;
    same("checksum", &digest.to_string(), &Digest::of(seed, down).to_string())
}

/// The server ends first and still receives.
fn first(address: SocketAddr, down: u64, up: u64, seed: u64) -> io::Result<()> {
    let mut stream = connect(address)?;
    writeln!(stream, "first {down} {seed}")?;
    let digest = receive(&mut stream, None, None)?;
    same("checksum", &digest.to_string(), &Digest::of(seed, down).to_string())?;
    thread::sleep(Duration::from_millis(300));
    send(&mut stream, up, seed)
}

fn greeted(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    let mut greeting = vec![0; GREETING.len()];
    // Not a byte is sent before it is here.
    stream.read_exact(&mut greeting)?;
    same("greeting", &String::from_utf8_lossy(&greeting), &String::from_utf8_lossy(GREETING))?;
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    same("answer", &String::from_utf8_lossy(&answer), "hello")?;
    stream.shutdown(Shutdown::Write)?;
    at_end(&mut stream)
}

/// Who serves a connection.
fn asked(address: SocketAddr) -> io::Result<String> {
    let mut reader = BufReader::new(connect(address)?);
    let mut name = String::new();
    if reader.read_line(&mut name)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut stream = reader.into_inner();
    stream.shutdown(Shutdown::Write)?;
    at_end(&mut stream)?;
    Ok(name.trim().to_owned())
}

/// Opens a connection, says so, and keeps it until somebody ends it.
fn hold(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"echo\nopen")?;
    stream.read_exact(&mut [0; 4])?;
    eprintln!("holding");
    match stream.read(&mut [0; 1]) {
        Ok(n) => eprintln!("ended with {n} bytes"),
        Err(error) => eprintln!("ended with {:?}", error.kind()),
    }
    Ok(())
}

/// How a connection goes that asks for an echo, in a word.
fn outcome(address: SocketAddr) -> &'static str {
    let attempt = connect(address).and_then(|mut stream| {
        stream.write_all(b"echo\nopen")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)
    });
    match attempt.map_err(|e| e.kind()) {
        Ok(()) => "served",
        Err(io::ErrorKind::ConnectionRefused) => "refused",
        Err(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "reset",
        Err(io::ErrorKind::UnexpectedEof) => "ended",
        Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => "timeout",
        Err(_) => "other",
    }
}
