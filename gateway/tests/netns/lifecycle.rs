//! How a gateway ends while connections are open.

use std::time::Duration;

use crate::lab::Place;
use crate::site::{SiteOptions, VIP};
use crate::world::World;

const MIB: u64 = 1 << 20;
const WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_drain_lets_an_open_transfer_finish() {
    let mut world = World::new();
    // A reader that takes two seconds at least: 64 KiB every 5 ms at the most.
    let role = format!("slowly {VIP}:7000 {} 71 5", 25 * MIB);
    let mut transfer = world.lab.endpoint("transfer", Place::Client, &role);
    transfer.wait_for("under way", WITHIN);
    world.a.signal("TERM");
    world.a.wait_for("draining", WITHIN);
    // New connections are not for this gateway any more.
    let (outcome, _) = world.lab.attempt(&format!("{VIP}:7000"));
    assert!(matches!(outcome.as_str(), "reset" | "refused"), "{outcome}");
    assert!(transfer.is_running(), "too quick to show anything");
    let status = transfer.wait(WITHIN);
    assert!(status.success(), "{}", transfer.text());
    assert_eq!(world.a.exit_code(WITHIN), 0);
    let text = world.a.text();
    assert!(text.contains(" 0 cut"), "{text}");
}

#[test]
fn the_exporter_drains_too() {
    let mut world = World::new();
    let role = format!("slowly {VIP}:7000 {} 72 5", 25 * MIB);
    let mut transfer = world.lab.endpoint("transfer", Place::Client, &role);
    transfer.wait_for("under way", WITHIN);
    world.b.signal("TERM");
    let status = transfer.wait(WITHIN);
    assert!(status.success(), "{}", transfer.text());
    assert_eq!(world.b.exit_code(WITHIN), 0);
}

#[test]
fn the_drain_deadline_cuts_what_is_left() {
    let mut a = SiteOptions::a();
    a.drain = "1s".into();
    let mut world = World::with(&a, &SiteOptions::b());
    let mut held = world.lab.endpoint("held", Place::Client, &format!("hold {VIP}:7000"));
    held.wait_for("holding", WITHIN);
    world.a.signal("TERM");
    assert_eq!(world.a.exit_code(Duration::from_secs(5)), 5);
    assert!(world.a.text().contains(" 1 cut"), "{}", world.a.text());
    // Cut, not forgotten: the client hears of it.
    held.wait_for("ended with ConnectionReset", Duration::from_secs(5));
}

#[test]
fn a_second_signal_does_not_wait_for_the_deadline() {
    let mut world = World::new();
    let mut held = world.lab.endpoint("held", Place::Client, &format!("hold {VIP}:7000"));
    held.wait_for("holding", WITHIN);
    world.a.signal("TERM");
    world.a.wait_for("draining", WITHIN);
    world.a.signal("INT");
    assert_eq!(world.a.exit_code(Duration::from_secs(5)), 5);
}
