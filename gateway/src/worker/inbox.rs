//! Messages between workers: frames that RSS took to the wrong one, and neighbours that only one
//! of them heard of.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::limits::INBOX_MESSAGES;
use crate::net::MacAddr;

#[derive(Debug)]
pub enum Message<F> {
    /// A frame received on `port` that belongs to the receiver of the message.
    Frame {
        port: u8,
        frame: F,
    },
    Neighbour {
        port: u8,
        ip: IpAddr,
        mac: MacAddr,
    },
}

/// The inboxes of all workers of a gateway.
#[derive(Debug)]
pub struct Inboxes<F>(Arc<[ArrayQueue<Message<F>>]>);

impl<F> Clone for Inboxes<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> Inboxes<F> {
    pub fn new(workers: u16) -> Self {
        Self((0..workers).map(|_| ArrayQueue::new(INBOX_MESSAGES)).collect())
    }

    /// # Errors
    /// The message, if the inbox is full or there is no such worker.
    pub fn give(&self, worker: u16, message: Message<F>) -> Result<(), Message<F>> {
        match self.0.get(usize::from(worker)) {
            Some(inbox) => inbox.push(message),
            None => Err(message),
        }
    }

    pub fn take(&self, worker: u16) -> Option<Message<F>> {
        self.0.get(usize::from(worker))?.pop()
    }

    /// Tells every worker but `from` about a neighbour; returns how many could not be told.
    pub fn tell_others(&self, from: u16, port: u8, ip: IpAddr, mac: MacAddr) -> usize {
        self.0
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != usize::from(from))
            .filter(|(_, inbox)| inbox.push(Message::Neighbour { port, ip, mac }).is_err())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_inboxes_say_so() {
        let inboxes: Inboxes<u32> = Inboxes::new(2);
        for n in 0..INBOX_MESSAGES as u32 {
            inboxes.give(1, Message::Frame { port: 0, frame: n }).unwrap();
        }
        assert!(inboxes.give(1, Message::Frame { port: 0, frame: 0 }).is_err());
        assert!(inboxes.give(2, Message::Frame { port: 0, frame: 0 }).is_err(), "no such worker");
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        assert_eq!(inboxes.tell_others(0, 0, "10.0.0.1".parse().unwrap(), mac), 1);
        assert_eq!(inboxes.tell_others(1, 0, "10.0.0.1".parse().unwrap(), mac), 0);
        assert!(matches!(inboxes.take(1), Some(Message::Frame { frame: 0, .. })));
        assert!(matches!(inboxes.take(0), Some(Message::Neighbour { .. })));
        assert!(inboxes.take(0).is_none());
    }
}
