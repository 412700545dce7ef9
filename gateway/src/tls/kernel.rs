//! rustls' part in an established connection: it derives the next traffic secrets and stores
//! session tickets.

use std::fmt;

use rustls::ConnectionTrafficSecrets;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::TlsError;

pub(super) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Kernel {
    /// The next receive key, and the sequence number it starts with.
    pub(super) fn next_rx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), TlsError> {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
        .map_err(TlsError::KeySchedule)
    }

    /// The next send key, and the sequence number it starts with.
    pub(super) fn next_tx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), TlsError> {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
        .map_err(TlsError::KeySchedule)
    }
}

/// Session tickets on their way into rustls' session store. The store is behind a lock, so a
/// helper thread does it; rustls' part of the connection goes along and comes back.
pub struct TicketJob {
    kernel: Box<Kernel>,
    tickets: Vec<Vec<u8>>,
}

/// A [`TicketJob`] that was run.
pub struct TicketDone {
    kernel: Box<Kernel>,
    result: Result<(), TlsError>,
}

impl TicketJob {
    /// `tickets` are the bodies of NewSessionTicket messages.
    pub(super) fn new(kernel: Box<Kernel>, tickets: Vec<Vec<u8>>) -> Self {
        Self { kernel, tickets }
    }

    /// Stores the tickets. Takes a lock and allocates: not for a poll loop.
    pub fn run(mut self) -> TicketDone {
        let mut result = Ok(());
        if let Kernel::Client(kernel) = &mut *self.kernel {
            for ticket in &self.tickets {
                result =
                    result.and(kernel.handle_new_session_ticket(ticket).map_err(TlsError::Ticket));
            }
        }
        TicketDone { kernel: self.kernel, result }
    }
}

impl TicketDone {
    pub(super) fn into_parts(self) -> (Box<Kernel>, Result<(), TlsError>) {
        (self.kernel, self.result)
    }
}

impl fmt::Debug for TicketJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketJob").field("tickets", &self.tickets.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketDone").field("result", &self.result).finish_non_exhaustive()
    }
}
