//! Ends of one direction while the other goes on.

use std::time::Duration;

use crate::pattern::Digest;
use crate::site::VIP;
use crate::world::World;

const WITHIN: Duration = Duration::from_secs(40);

#[test]
fn the_client_ends_first_and_still_receives() {
    let world = World::new();
    for (up, down) in [(3_000_000, 5_000_000), (0, 100), (10, 1), (100_000, 0)] {
        world.lab.client(&format!("late {VIP}:7000 {up} {down} 5"), WITHIN);
    }
    world.stop();
}

#[test]
fn the_server_ends_first_and_still_receives() {
    let mut world = World::new();
    // Lengths differ, so that every line in the server's log is from its own round.
    for (down, up) in [(3_000_000, 5_000_000), (100, 1), (1, 2_000), (0, 100_000)] {
        world.lab.client(&format!("first {VIP}:7000 {down} {up} 6"), WITHIN);
        let wanted = format!("received after own end: {}", Digest::of(6, up));
        world.echo.wait_for(&wanted, Duration::from_secs(10));
    }
    world.stop();
}

#[test]
fn the_server_speaks_first() {
    let world = World::new();
    world.lab.client(&format!("greeted {VIP}:7001"), WITHIN);
    // Again over the tunnel that the first one gave back.
    world.lab.client(&format!("greeted {VIP}:7001"), WITHIN);
    world.stop();
}
