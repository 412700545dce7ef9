//! Handshakes by job, inline and on helper threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pki::{Pki, SetClock};
use super::{Ours, gateways};
use crate::limits::HANDSHAKE_QUEUE;
use crate::telemetry::CloseReason;
use crate::tls::{
    Done, Established, HandshakeExecutor, Identity, Inline, Job, KeyCache, Outcome, TlsError, Work,
    spawn_helpers,
};

fn wait(executor: &mut dyn HandshakeExecutor) -> Done {
    let start = Instant::now();
    loop {
        if let Some(done) = executor.poll() {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no result");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn start(token: u64, identity: &Arc<Identity>, client: Option<&str>) -> Job {
    let (identity, client) = (identity.clone(), client.map(Arc::from));
    Job { token, work: Work::Start { identity, client, input: Vec::new() } }
}

/// Two sides whose every step is a job; the token says which side.
fn connect(
    executor: &mut dyn HandshakeExecutor,
    client: &Arc<Identity>,
    server: &Arc<Identity>,
) -> (Established, Established) {
    let mut waiting = [None, None];
    let mut inbox = [Vec::new(), Vec::new()];
    let mut up = [None, None];
    executor.submit(start(0, client, Some(server.peer_name()))).unwrap();
    executor.submit(start(1, server, None)).unwrap();
    while up.iter().any(Option::is_none) {
        let Done { token, outcome } = wait(executor);
        let side = token as usize;
        let send = match outcome {
            Outcome::More { handshake, send } => {
                waiting[side] = Some(handshake);
                send
            }
            Outcome::Established { established, send } => {
                up[side] = Some(*established);
                send
            }
            other => panic!("side {side}: {other:?}"),
        };
        inbox[1 - side].extend_from_slice(&send);
        for side in 0..2 {
            if let Some(up) = &mut up[side] {
                up.leftover.append(&mut inbox[side]);
            } else if !inbox[side].is_empty()
                && let Some(handshake) = waiting[side].take()
            {
                let input = std::mem::take(&mut inbox[side]);
                let work = Work::Step { handshake, input };
                executor.submit(Job { token: side as u64, work }).unwrap();
            }
        }
    }
    let [client, server] = up.map(Option::unwrap);
    assert_eq!(executor.in_flight(), 0);
    (client, server)
}

fn exercise(executor: &mut dyn HandshakeExecutor) {
    let (west, east) = gateways();
    for round in 0..3 {
        let (mut client, server) = connect(executor, &west, &east);
        assert_eq!((client.resumed, server.resumed), (round > 0, round > 0));
        // Take the tickets in by a job too.
        let mut rest = std::mem::take(&mut client.leftover);
        let len = client.records.frame_len(&rest).unwrap().unwrap();
        client.records.open(&mut KeyCache::new(1), &mut rest[..len], Default::default()).unwrap();
        let job = client.records.take_ticket_job().unwrap();
        executor.submit(Job { token: 7, work: Work::Ticket(job) }).unwrap();
        match wait(executor) {
            Done { token: 7, outcome: Outcome::Ticket(done) } => {
                client.records.return_ticket_job(done).unwrap();
            }
            other => panic!("{other:?}"),
        }
        let (mut client, mut server) = (Ours::new(client), Ours::new(server));
        client.send(b"hello");
        server.feed(&client.take_output()).unwrap();
        assert_eq!(server.take_received(), b"hello");
    }
    executor.submit(start(9, &west, Some("not a name"))).unwrap();
    match wait(executor) {
        Done { token: 9, outcome: Outcome::Failed { error, send } } => {
            assert_eq!(error.reason(), CloseReason::PeerName);
            assert!(send.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn inline_and_helpers_do_the_same() {
    exercise(&mut Inline::default());
    let (threads, mut helpers) = spawn_helpers(2, 2).unwrap();
    for executor in &mut helpers {
        exercise(executor);
    }
    drop(helpers);
    threads.join();
}

#[test]
fn a_full_executor_gives_the_job_back() {
    let (west, _) = gateways();
    let (threads, mut helpers) = spawn_helpers(1, 1).unwrap();
    for executor in [&mut helpers[0] as &mut dyn HandshakeExecutor, &mut Inline::default()] {
        for token in 0..HANDSHAKE_QUEUE as u64 {
            executor.submit(start(token, &west, None)).unwrap();
        }
        let job = executor.submit(start(5_000, &west, None)).unwrap_err();
        assert_eq!(job.token, 5_000);
        assert_eq!(executor.in_flight(), HANDSHAKE_QUEUE);
        let mut seen = vec![false; HANDSHAKE_QUEUE];
        for _ in 0..HANDSHAKE_QUEUE {
            seen[wait(executor).token as usize] = true;
        }
        assert!(seen.into_iter().all(|s| s));
        assert!(executor.poll().is_none());
        executor.submit(job).unwrap();
        assert_eq!(wait(executor).token, 5_000);
    }
    // A worker that goes away with results waiting holds nobody up.
    helpers[0].submit(start(1, &west, None)).unwrap();
    drop(helpers);
    threads.join();
}

#[test]
fn a_panic_costs_one_handshake() {
    let pki = Pki::new();
    let east = pki.gateway("east").identity();
    let clock = SetClock::at(1_767_225_600);
    let west = Arc::new(pki.gateway("west").load(clock.clone()).unwrap());
    let (threads, mut helpers) = spawn_helpers(1, 1).unwrap();
    let executor = &mut helpers[0];
    clock.set(u64::MAX);
    // rustls asks the clock when it makes a ClientHello or looks at a certificate.
    executor.submit(start(0, &west, Some("east"))).unwrap();
    let mut outcome = wait(executor).outcome;
    if let Outcome::More { handshake, send } = outcome {
        let input = send;
        executor.submit(start(1, &east, None)).unwrap();
        let Outcome::More { handshake: server, .. } = wait(executor).outcome else { panic!() };
        executor.submit(Job { token: 1, work: Work::Step { handshake: server, input } }).unwrap();
        let Outcome::More { send: input, .. } = wait(executor).outcome else { panic!() };
        executor.submit(Job { token: 0, work: Work::Step { handshake, input } }).unwrap();
        outcome = wait(executor).outcome;
    }
    match outcome {
        Outcome::Failed { error: error @ TlsError::Panicked, send } => {
            assert!(send.is_empty());
            assert_eq!(error.reason(), CloseReason::TlsHandshake);
        }
        other => panic!("{other:?}"),
    }
    // The same thread serves the next one, and the same identity is not poisoned.
    clock.set(1_767_225_600);
    connect(executor, &west, &east);
    drop(helpers);
    threads.join();
}
