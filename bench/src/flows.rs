//! Connections of the chain that all carry payload in one direction.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use clgw::sim::App;

use crate::apps::{Received, Sink, Source};
use crate::chain::{Chain, IMPORTS, Setup};

/// Payload of a full segment at MTU 1500, with the time stamp option.
pub const SEGMENT: u64 = 1_448;
/// Of the chain's own clock.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Flows {
    pub chain: Chain,
    connections: usize,
    upload: bool,
    /// Bytes that each may have sent by now.
    limit: Rc<Cell<u64>>,
    received: Rc<RefCell<Vec<Rc<Cell<Received>>>>>,
}

impl Flows {
    /// Connections that are asked for nothing yet, all to the first import.
    ///
    /// # Errors
    /// No tunnel comes up.
    pub fn open(setup: &Setup, connections: usize, upload: bool) -> anyhow::Result<Self> {
        let mut chain = Chain::new(setup)?;
        let (limit, received) = (Rc::new(Cell::new(0)), Rc::<RefCell<Vec<_>>>::default());
        let (most, all) = (Rc::clone(&limit), Rc::clone(&received));
        let end = move |sends: bool| -> Box<dyn App> {
            if sends {
                return Box::new(Source::up_to(Rc::clone(&most)));
            }
            let received = Rc::new(Cell::new(Received::default()));
            all.borrow_mut().push(Rc::clone(&received));
            Box::new(Sink(received))
        };
        let client = end.clone();
        chain.server.listen(IMPORTS[0].1, Box::new(move |_| end(!upload)));
        // The pool of warm tunnels comes first.
        chain.run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)?;
        for _ in 0..connections {
            chain.connect(0, client(upload))?;
        }
        Ok(Self { chain, connections, upload, limit, received })
    }

    /// Payload that has arrived over all of them.
    pub fn arrived(&self) -> u64 {
        sum(&self.received.borrow())
    }

    /// Carries so many bytes more over each.
    ///
    /// # Errors
    /// They do not arrive, or others do.
    pub fn relay(&mut self, bytes: u64) -> anyhow::Result<()> {
        let target = self.limit.get() + bytes;
        self.allow(target);
        let Self { chain, connections, received, .. } = self;
        chain.run_until("payload", PATIENCE, |_| {
            let received = received.borrow();
            received.len() == *connections && received.iter().all(|r| r.get().bytes >= target)
        })?;
        self.ensure_right()
    }

    /// Carries so many bytes more over all of them together; from now on each sends as fast as it
    /// can.
    ///
    /// # Errors
    /// As [`Flows::relay`].
    pub fn flood(&mut self, bytes: u64) -> anyhow::Result<()> {
        if self.limit.get() < u64::MAX {
            self.allow(u64::MAX);
        }
        let target = self.arrived() + bytes;
        let Self { chain, received, .. } = self;
        chain.run_until("payload", PATIENCE, |_| sum(&received.borrow()) >= target)?;
        self.ensure_right()
    }

    fn allow(&mut self, limit: u64) {
        self.limit.set(limit);
        let sender = if self.upload { &mut self.chain.client } else { &mut self.chain.server };
        // Either end numbers its connections from 0 on.
        for number in 0..self.connections {
            sender.nudge(number);
        }
    }

    fn ensure_right(&self) -> anyhow::Result<()> {
        let wrong = self.received.borrow().iter().any(|r| r.get().wrong);
        ensure!(!wrong, "bytes arrived that were not sent");
        Ok(())
    }
}

fn sum(received: &[Rc<Cell<Received>>]) -> u64 {
    received.iter().map(|r| r.get().bytes).sum()
}
