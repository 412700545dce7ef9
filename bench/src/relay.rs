//! `relay`: what one would write first, tokio and rustls and a copy in both directions, to be
//! measured beside the gateway. One thread, 64 KiB buffers, TLS 1.3 with both ends proved,
//! sessions resumed.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
        .enable_io()
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
                eprintln!("accept: {error}");
                tokio::task::yield_now().await;
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
