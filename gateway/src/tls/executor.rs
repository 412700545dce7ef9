//! Handshakes away from the poll loop. A full one costs as much CPU as a thousand packets, so
//! workers only carry bytes: a [`Job`] goes out with what was received, a [`Done`] comes back with
//! what is to be sent.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::{Established, Handshake, Identity, Progress, TicketDone, TicketJob, TlsError};
use crate::limits::HANDSHAKE_QUEUE;

/// Something to do for one connection. A connection has one job out at a time.
#[derive(Debug)]
pub struct Job {
    /// The caller's name for the connection; comes back in [`Done`].
    pub token: u64,
    pub work: Work,
}

#[derive(Debug)]
pub enum Work {
    /// Begins a handshake: as client towards `client` (a peer name), or as server. `input` is
    /// what was received already, usually nothing for a client.
    Start { identity: Arc<Identity>, client: Option<Arc<str>>, input: Vec<u8> },
    /// Continues with bytes of the peer.
    Step { handshake: Box<Handshake>, input: Vec<u8> },
    /// Stores session tickets.
    Ticket(TicketJob),
}

/// A [`Job`] that was done.
#[derive(Debug)]
pub struct Done {
    pub token: u64,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// Send `send` and continue with the peer's answer.
    More { handshake: Box<Handshake>, send: Vec<u8> },
    /// Send `send`; the connection is up.
    Established { established: Box<Established>, send: Vec<u8> },
    /// For [`super::RecordLayer::return_ticket_job`].
    Ticket(TicketDone),
    /// Send `send` (an alert, or nothing) and close. After a ticket job, the record layer lacks
    /// its kernel: close that connection as well.
    Failed { error: TlsError, send: Vec<u8> },
}

/// Where workers send their handshakes.
pub trait HandshakeExecutor {
    /// Never blocks.
    ///
    /// # Errors
    /// The job itself if there is no room; try again after [`Self::poll`], or refuse the
    /// connection.
    fn submit(&mut self, job: Job) -> Result<(), Job>;

    /// The next result, if there is one. Results come in no particular order. Never blocks.
    fn poll(&mut self) -> Option<Done>;

    /// Jobs submitted whose results were not polled.
    fn in_flight(&self) -> usize;
}

/// Runs one job. A panic in it ends that connection only.
fn run(job: Job) -> Done {
    let Job { token, work } = job;
    // The state that could be left inconsistent is dropped by the unwinding itself.
    let outcome = catch_unwind(AssertUnwindSafe(|| work.run()))
        .unwrap_or(Outcome::Failed { error: TlsError::Panicked, send: Vec::new() });
    Done { token, outcome }
}

impl Work {
    fn run(self) -> Outcome {
        let (handshake, input) = match self {
            Self::Ticket(job) => return Outcome::Ticket(job.run()),
            Self::Step { handshake, input } => (Ok(handshake), input),
            Self::Start { identity, client, input } => {
                let handshake = match client {
                    Some(name) => Handshake::client(&identity, &name),
                    None => Handshake::server(&identity),
                };
                (handshake.map(Box::new), input)
            }
        };
        let mut send = Vec::new();
        match handshake.and_then(|mut handshake| {
            let progress = handshake.step(&input, &mut send)?;
            Ok((handshake, progress))
        }) {
            Ok((handshake, Progress::More)) => Outcome::More { handshake, send },
            Ok((_, Progress::Done(established))) => Outcome::Established { established, send },
            Err(error) => Outcome::Failed { error, send },
        }
    }
}

/// Runs jobs when they are submitted. For the simulator and for measurements on one thread.
#[derive(Debug, Default)]
pub struct Inline {
    done: VecDeque<Done>,
}

impl HandshakeExecutor for Inline {
    fn submit(&mut self, job: Job) -> Result<(), Job> {
        if self.done.len() >= HANDSHAKE_QUEUE {
            return Err(job);
        }
        self.done.push_back(run(job));
        Ok(())
    }

    fn poll(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }
}

/// A job with the number of the worker that gets the result.
struct Routed {
    worker: usize,
    job: Job,
}

/// One worker's access to the helper threads.
#[derive(Debug)]
pub struct Helpers {
    worker: usize,
    jobs: Sender<Routed>,
    done: Receiver<Done>,
    in_flight: usize,
}

impl HandshakeExecutor for Helpers {
    fn submit(&mut self, job: Job) -> Result<(), Job> {
        // The done channel holds as many, so that a helper never waits for a worker.
        if self.in_flight >= HANDSHAKE_QUEUE {
            return Err(job);
        }
        match self.jobs.try_send(Routed { worker: self.worker, job }) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err(TrySendError::Full(r) | TrySendError::Disconnected(r)) => Err(r.job),
        }
    }

    fn poll(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.in_flight -= 1;
        Some(done)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// The helper threads. They end when the last worker's [`Helpers`] is dropped.
#[derive(Debug)]
pub struct HelperThreads(Vec<JoinHandle<()>>);

impl HelperThreads {
    /// Waits for the threads to end. Drop the workers' [`Helpers`] first, or it waits for ever.
    pub fn join(self) {
        for thread in self.0 {
            // A job's panic is caught; were one outside of it, it has been printed already.
            let _ = thread.join();
        }
    }
}

/// Starts `threads` helper threads, named `tls-0`, `tls-1`, ..., for `workers` workers. They share
/// one queue of [`HANDSHAKE_QUEUE`] jobs.
///
/// # Errors
/// If the system gives no thread; those started before end by themselves.
pub fn spawn_helpers(
    threads: usize,
    workers: usize,
) -> std::io::Result<(HelperThreads, Vec<Helpers>)> {
    let (jobs, jobs_rx) = bounded::<Routed>(HANDSHAKE_QUEUE);
    let (done_tx, done_rx): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| bounded::<Done>(HANDSHAKE_QUEUE)).unzip();
    let mut handles = Vec::with_capacity(threads);
    for n in 0..threads.max(1) {
        let (jobs, done) = (jobs_rx.clone(), done_tx.clone());
        handles.push(thread::Builder::new().name(format!("tls-{n}")).spawn(move || {
            for Routed { worker, job } in jobs {
                let result = run(job);
                if let Some(done) = done.get(worker) {
                    // Fails only if that worker is gone, and its connections with it.
                    let _ = done.send(result);
                }
            }
        })?);
    }
    let helpers = done_rx
        .into_iter()
        .enumerate()
        .map(|(worker, done)| Helpers { worker, jobs: jobs.clone(), done, in_flight: 0 })
        .collect();
    Ok((HelperThreads(handles), helpers))
}
