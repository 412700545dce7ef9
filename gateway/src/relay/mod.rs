//! Joins a service leg and a tunnel: bytes both ways, back-pressure by TCP's own windows, and
//! each direction ended on its own (half-close).
//!
//! Nothing is buffered here. A byte is either in the receive ring of the leg it came from or,
//! copied once, in the send ring of the leg it goes to; what a service sends in bulk goes there at
//! once while there is room. When the far ring is full the near one fills, its window closes, and
//! the sender waits.

mod permit;

pub use permit::{Denial, Permit};

use crate::limits::RELAY_BUDGET;
use crate::tcp::{Memory, TcpConn};
use crate::telemetry::Counters;
use crate::tunnel::{Scratch, Tunnel, TunnelError};

/// Moves bytes of the service into the tunnel, and its FIN once they are all in. Returns whether
/// the budget ended the turn with more to do.
///
/// # Errors
/// The tunnel's record layer failed; the tunnel is lost.
pub fn service_to_tunnel(
    _permit: &Permit,
    service: &mut TcpConn,
    tunnel: &mut Tunnel,
    tunnel_tcp: &mut TcpConn,
    memory: &mut Memory,
    scratch: &mut Scratch,
    counters: &mut Counters,
) -> Result<bool, TunnelError> {
    let moved = tunnel.seal_from(tunnel_tcp, service, memory, scratch, RELAY_BUDGET)?;
    counters.bytes_to_peer += moved as u64;
    if service.recv_finished() && tunnel.session().may_send() {
        tunnel.finish();
    }
    tunnel.flush(tunnel_tcp, memory, scratch)?;
    Ok(moved >= RELAY_BUDGET)
}

/// Takes payload of the service that has just arrived, and that nothing waits in front of, into the
/// tunnel; returns how much. The rest goes through the service's receive ring, and with it all that
/// comes behind it until [`service_to_tunnel`] has emptied that.
///
/// # Errors
/// The tunnel's record layer failed; the tunnel is lost.
pub fn arrived_to_tunnel(
    _permit: &Permit,
    payload: &[u8],
    tunnel: &mut Tunnel,
    tunnel_tcp: &mut TcpConn,
    memory: &mut Memory,
    scratch: &mut Scratch,
    counters: &mut Counters,
) -> Result<usize, TunnelError> {
    let moved = tunnel.seal_arrived(tunnel_tcp, memory, scratch, payload)?;
    counters.bytes_to_peer += moved as u64;
    Ok(moved)
}

/// Takes decrypted bytes for the service. The caller has made sure that they fit
/// ([`service_takes`]).
pub fn tunnel_to_service(
    _permit: &Permit,
    service: &mut TcpConn,
    data: &[u8],
    counters: &mut Counters,
) {
    let taken = service.send_slice(data);
    debug_assert!(taken == data.len() || !service.may_send());
    counters.bytes_from_peer += taken as u64;
}

/// Whether [`tunnel_to_service`] can take `n` bytes. A service that accepts nothing any more takes
/// everything: its bytes are thrown away until the tunnel learns of it.
pub fn service_takes(service: &mut TcpConn, memory: &mut Memory, n: usize) -> bool {
    !service.may_send() || service.reserve(memory, n)
}
