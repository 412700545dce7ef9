//! `relay`: what one would write first, tokio and rustls and a copy in both directions, to be
//! measured beside the gateway. One thread, 64 KiB buffers, TLS 1.3 with both ends proved,
//! sessions resumed.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const BUFFER: usize = 64 * 1024;
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// What the relay says once every port is open.
pub const LISTENING: &str = "listening";

#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// Addresses to accept at; as many as `--connect`, each for the one at the same place.
    #[arg(long, required = true, value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    #[arg(long, required = true, value_delimiter = ',')]
    connect: Vec<SocketAddr>,
    #[arg(long)]
    mode: Mode,
    /// PEM files: the CA of both ends, and this end's certificate and key.
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// The name in the other end's certificate; for `tls-out`.
    #[arg(long, required_if_eq("mode", "tls-out"))]
    peer: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Accepts plain connections, connects with TLS.
    TlsOut,
    /// Accepts TLS, connects in the clear.
    TlsIn,
}

#[derive(Clone)]
enum Tls {
    Out(TlsConnector, ServerName<'static>),
    In(TlsAcceptor),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out(..) => "out",
            Self::In(_) => "in",
        })
    }
}

/// Relays until it is killed.
///
/// # Errors
/// A file or an address is wrong.
pub fn run(args: &RelayArgs) -> anyhow::Result<()> {
    ensure!(
        args.listen.len() == args.connect.len(),
        "{} addresses in --listen, {} in --connect: there must be one for each",
        args.listen.len(),
        args.connect.len()
    );
    let tls = tls(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the tokio runtime does not start")?;
    runtime.block_on(async {
        let mut last = None;
        for (&listen, &connect) in args.listen.iter().zip(&args.connect) {
            let listener =
                TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
            last = Some(tokio::spawn(accept(listener, connect, tls.clone())));
        }
        println!("{LISTENING}");
        match last {
            Some(task) => task.await.context("the relay panicked"),
            None => Ok(()),
        }
    })
}

async fn accept(listener: TcpListener, to: SocketAddr, tls: Tls) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let tls = tls.clone();
                tokio::spawn(async move {
                    // Ends of connections are no news; the client sees what went wrong.
                    let _ = relay(client, to, tls).await;
                });
            }
            Err(error) => {
                // Most likely out of files: there may be some when a connection has ended.
                eprintln!("accept: {error}");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn relay(mut client: TcpStream, to: SocketAddr, tls: Tls) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    match tls {
        Tls::Out(connector, name) => {
            let server = TcpStream::connect(to).await?;
            server.set_nodelay(true)?;
            let mut server = connector.connect(name, server).await?;
            copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
        }
        Tls::In(acceptor) => {
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(to).await?;
            server.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
        }
    }
    Ok(())
}

fn tls(args: &RelayArgs) -> anyhow::Result<Tls> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..ring::default_provider()
    });
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&args.ca)? {
        roots.add(certificate).with_context(|| named(&args.ca))?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(&args.cert)?;
    let key = PrivateKeyDer::from_pem_file(&args.key).with_context(|| named(&args.key))?;
    let versions = &[&version::TLS13];
    match args.mode {
        Mode::TlsOut => {
            let name = args.peer.clone().context("--peer is missing")?;
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)?
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, key)?;
            let name = ServerName::try_from(name).context("--peer is no host name")?;
            Ok(Tls::Out(TlsConnector::from(Arc::new(config)), name))
        }
        Mode::TlsIn => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()?;
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)?;
            config.ticketer = ring::Ticketer::new().context("no key for session tickets")?;
            Ok(Tls::In(TlsAcceptor::from(Arc::new(config))))
        }
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| named(file))
}

fn named(file: &Path) -> String {
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};
    use std::net;
    use std::thread;

    use clgw::sim::Pki;

    use super::*;
    use crate::lab::ends;

    fn listener() -> (net::TcpListener, SocketAddr) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Certificate files of a CA.
    fn files(dir: &Path, pki: &Pki, name: &str) -> [PathBuf; 3] {
        let (cert, key) = pki.peer(name).unwrap();
        let file = |what: &str, pem: &str| {
            let file = dir.join(format!("{name}-{what}.pem"));
            std::fs::write(&file, pem).unwrap();
            file
        };
        [file("ca", pki.ca()), file("cert", &cert), file("key", &key)]
    }

    /// Starts one end, which lives as long as the tests; where it listens.
    fn start(mode: Mode, [ca, cert, key]: [PathBuf; 3], connect: SocketAddr) -> SocketAddr {
        // Free again at once: nobody else takes a port by number here.
        let (_, listen) = listener();
        let peer = (mode == Mode::TlsOut).then(|| "site-b".to_owned());
        let (listen_at, connect) = (vec![listen], vec![connect]);
        let args = RelayArgs { listen: listen_at, connect, mode, ca, cert, key, peer };
        thread::spawn(move || run(&args).unwrap());
        while net::TcpStream::connect(listen).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        listen
    }

    fn call(to: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = net::TcpStream::connect(to)?;
        stream.write_all(question)?;
        stream.shutdown(net::Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// Waits for the end of each question before it answers it backwards.
    fn service() -> SocketAddr {
        let (listener, address) = listener();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut question = Vec::new();
                // The connections that wait for the relay to start end like this.
                if stream.read_to_end(&mut question).is_ok() {
                    question.reverse();
                    let _ = stream.write_all(&question);
                }
            }
        });
        address
    }

    #[test]
    fn either_direction_ends_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new("fabric").unwrap();
        let b = start(Mode::TlsIn, files(dir.path(), &pki, "site-b"), service());
        let a = start(Mode::TlsOut, files(dir.path(), &pki, "site-a"), b);
        let question: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
        let mut answer = call(a, &question).unwrap();
        answer.reverse();
        assert!(answer == question, "{} of {} bytes", answer.len(), question.len());
    }

    #[test]
    fn both_ends_must_be_of_the_fabric() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, other) = (Pki::new("fabric").unwrap(), Pki::new("fabric").unwrap());
        let ours = files(dir.path(), &pki, "site-b");
        let b = start(Mode::TlsIn, ours.clone(), service());
        // Trusts B, and is of another CA itself.
        let [_, cert, key] = files(dir.path(), &other, "site-x");
        let stranger = start(Mode::TlsOut, [ours[0].clone(), cert, key], b);
        // Trusts another CA, and is known to B.
        let [_, cert, key] = files(dir.path(), &pki, "site-a");
        let [ca, ..] = files(dir.path(), &other, "site-y");
        let sceptic = start(Mode::TlsOut, [ca, cert, key], b);
        for wrong in [stranger, sceptic] {
            let answer = call(wrong, b"question");
            assert!(answer.as_ref().map_or(true, Vec::is_empty), "{answer:?}");
        }
        ends::stranger(b, &ours[0], "site-b").unwrap();
    }

    #[test]
    fn a_server_that_asks_for_no_certificate_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new("fabric").unwrap();
        let [ca, cert, key] = files(dir.path(), &pki, "site-b");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                certificates(&cert).unwrap(),
                PrivateKeyDer::from_pem_file(&key).unwrap(),
            )
            .unwrap();
        let (listener, address) = listener();
        thread::spawn(move || {
            let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = listener.accept().unwrap().0;
            let mut stream = rustls::Stream::new(&mut session, &mut stream);
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        });
        let error = ends::stranger(address, &ca, "site-b").unwrap_err().to_string();
        assert!(error.contains("serves who has no certificate"), "{error}");
    }
}
