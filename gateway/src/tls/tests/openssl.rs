//! Against OpenSSL's command line tools over loopback sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::pki::{Files, Pki};
use super::*;
use crate::tls::ALPN_NATIVE;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `openssl`, ended with this value.
struct Tool {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Tool {
    fn start(directory: &Path, args: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .current_dir(directory)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let (tx, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        // The threads end with the tool.
        for output in outputs {
            let tx = tx.clone();
            std::thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    if tx.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
        Self { child, stdin, lines }
    }

    fn say(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    /// Waits for a line that contains `text`.
    fn expect(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(e) => panic!("openssl did not say {text:?}: {e}"),
            }
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The record layer with a socket.
struct Link {
    ours: Ours,
    socket: TcpStream,
}

impl Link {
    fn handshake(mut handshake: Handshake, mut socket: TcpStream) -> (Self, bool, Option<Vec<u8>>) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut out, mut buf) = (Vec::new(), [0; 700]);
        let mut received = 0;
        loop {
            let progress = handshake.step(&buf[..received], &mut out).unwrap();
            socket.write_all(&out).unwrap();
            out.clear();
            if let Progress::Done(established) = progress {
                let (resumed, alpn) = (established.resumed, established.alpn.clone());
                return (Self { ours: Ours::new(*established), socket }, resumed, alpn);
            }
            received = socket.read(&mut buf).unwrap();
            assert!(received > 0, "openssl closed during the handshake");
        }
    }

    fn send(&mut self, data: &[u8]) {
        self.ours.send(data);
        let out = self.ours.take_output();
        self.socket.write_all(&out).unwrap();
    }

    /// Reads until `done`.
    fn read_until(&mut self, done: impl Fn(&Ours) -> bool) {
        let mut buf = [0; 4_096];
        self.ours.feed(&[]).unwrap();
        while !done(&self.ours) {
            let n = self.socket.read(&mut buf).unwrap();
            assert!(n > 0, "openssl closed; received {:?}", self.ours.received);
            self.ours.feed(&buf[..n]).unwrap();
            let out = self.ours.take_output();
            self.socket.write_all(&out).unwrap();
        }
    }

    fn expect(&mut self, data: &[u8]) {
        self.read_until(|ours| ours.received.len() >= data.len());
        assert_eq!(self.ours.take_received(), data);
    }
}

fn write_files(directory: &Path, files: &Files) {
    std::fs::write(directory.join("ca.pem"), &files.ca).unwrap();
    std::fs::write(directory.join("cert.pem"), &files.cert).unwrap();
    std::fs::write(directory.join("key.pem"), &files.key).unwrap();
}

const COMMON: [&str; 10] = [
    "-CAfile",
    "ca.pem",
    "-cert",
    "cert.pem",
    "-key",
    "key.pem",
    "-tls1_3",
    "-alpn",
    "clusterlink-gw/1",
    "-verify_return_error",
];

#[test]
fn our_server_with_s_client() {
    let pki = Pki::new();
    let west = pki.gateway("west").identity();
    let directory = tempfile::tempdir().unwrap();
    write_files(directory.path(), &pki.gateway("east"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for round in 0..2 {
        let mut args = vec!["s_client", "-connect", &address, "-servername", "west"];
        args.extend_from_slice(&["-verify_hostname", "west", "-sess_out", "session.pem"]);
        args.extend_from_slice(&COMMON);
        if round > 0 {
            args.extend_from_slice(&["-sess_in", "session.pem"]);
        }
        let mut client = Tool::start(directory.path(), &args);
        let (socket, _) = listener.accept().unwrap();
        let handshake = Handshake::server(&west).unwrap();
        let (mut link, resumed, alpn) = Link::handshake(handshake, socket);
        assert_eq!(resumed, round > 0);
        assert_eq!(alpn.as_deref(), Some(ALPN_NATIVE));
        client.say("hello\n");
        link.expect(b"hello\n");
        link.send(b"to you\n");
        client.expect("to you");
        // The session is written when the tickets come, before the data behind them.
        assert!(directory.path().join("session.pem").exists());
        // K asks for a KeyUpdate in return, k does not. One line at a time: the tool takes
        // commands only at the start of what it reads.
        for (n, command) in ["K", "k", "K"].into_iter().enumerate() {
            client.say(&format!("{command}\n"));
            client.expect("KEYUPDATE");
            client.say(&format!("after {command}{n}\n"));
            link.expect(format!("after {command}{n}\n").as_bytes());
            link.send(format!("seen {n}\n").as_bytes());
            client.expect(&format!("seen {n}"));
        }
        link.ours.records.set_key_update_after(1);
        for n in 0..5 {
            link.send(format!("own {n}\n").as_bytes());
            client.expect(&format!("own {n}"));
        }
        client.say("Q\n");
        link.read_until(|ours| ours.closed);
    }
}

#[test]
fn our_client_with_s_server() {
    let pki = Pki::new();
    let west = pki.gateway("west").identity();
    let directory = tempfile::tempdir().unwrap();
    write_files(directory.path(), &pki.gateway("east"));
    let mut args = vec!["s_server", "-accept", "127.0.0.1:0", "-Verify", "2"];
    args.extend_from_slice(&COMMON);
    args.extend_from_slice(&["-num_tickets", "3", "-naccept", "2"]);
    let mut server = Tool::start(directory.path(), &args);
    let accept = server.expect("ACCEPT ");
    let address = accept.trim_start_matches("ACCEPT ").to_owned();
    for round in 0..2 {
        let socket = TcpStream::connect(&address).unwrap();
        let handshake = Handshake::client(&west, "east").unwrap();
        let (mut link, resumed, alpn) = Link::handshake(handshake, socket);
        assert_eq!(resumed, round > 0);
        assert_eq!(alpn.as_deref(), Some(ALPN_NATIVE));
        link.send(b"hello\n");
        server.expect("hello");
        server.say("to you\n");
        link.expect(b"to you\n");
        assert!(link.ours.tickets > 0);
        for (n, command) in ["K", "k", "K"].into_iter().enumerate() {
            // This tool does not say when it has acted on the command.
            server.say(&format!("{command}\n"));
            std::thread::sleep(Duration::from_millis(50));
            server.say(&format!("after {command}{n}\n"));
            link.expect(format!("after {command}{n}\n").as_bytes());
            link.send(format!("seen {n}\n").as_bytes());
            server.expect(&format!("seen {n}"));
        }
        link.ours.records.set_key_update_after(1);
        for n in 0..5 {
            link.send(format!("own {n}\n").as_bytes());
            server.expect(&format!("own {n}"));
        }
        link.ours.records.close();
        link.send(b"");
        server.expect("DONE");
    }
}

#[test]
fn a_nameless_openssl_client_is_refused() {
    let pki = Pki::new();
    let west = pki.gateway("west").identity();
    let directory = tempfile::tempdir().unwrap();
    write_files(directory.path(), &pki.gateway("east"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // No -cert.
    let args = ["s_client", "-connect", &address, "-CAfile", "ca.pem", "-servername", "west"];
    let _client = Tool::start(directory.path(), &args);
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut handshake = Handshake::server(&west).unwrap();
    let (mut out, mut buf) = (Vec::new(), [0; 4_096]);
    let error = loop {
        let n = socket.read(&mut buf).unwrap();
        assert!(n > 0);
        match handshake.step(&buf[..n], &mut out) {
            Ok(Progress::More) => socket.write_all(&out).unwrap(),
            Ok(Progress::Done(_)) => panic!("let in without a certificate"),
            Err(error) => break error,
        }
        out.clear();
    };
    assert!(matches!(error, TlsError::Handshake(rustls::Error::NoCertificatesPresented)));
}
