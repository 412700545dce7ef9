//! Who is refused, where, and what the logs say about it; policies that change while running.

use std::time::Duration;

use crate::site::VIP;
use crate::world::World;

/// The log is written a few times a second.
const LOGGED: Duration = Duration::from_secs(5);
/// A refusal comes at once; this only catches a client that is left waiting.
const PROMPT_MS: u64 = 2_000;

fn assert_refused(world: &World, address: &str) {
    let (outcome, ms) = world.lab.attempt(address);
    assert!(matches!(outcome.as_str(), "reset" | "refused"), "{address}: {outcome} after {ms} ms");
    assert!(ms < PROMPT_MS, "{address}: {outcome} only after {ms} ms");
}

fn assert_served(world: &World, address: &str) {
    let (outcome, ms) = world.lab.attempt(address);
    assert_eq!(outcome, "served", "{address} after {ms} ms");
}

#[test]
fn the_importer_refuses_and_names_its_policy() {
    let mut world = World::new();
    let echo = format!("{VIP}:7000");
    assert_served(&world, &echo);
    world.lab.client_is("10.1.0.3");
    assert_refused(&world, &echo);
    let words = ["connection refused", "10.1.0.3", "demo/stranger", "demo/echo", "policy_denied"];
    let line = world.a.wait_for_all(&words, LOGGED);
    assert!(line.contains("policy=\"no-strangers\""), "{line}");
    world.lab.client_is("10.1.0.2");
    assert_served(&world, &echo);
    let (_, b) = world.stop();
    assert!(!b.contains("refused"), "the exporter was asked: {b}");
}

#[test]
fn the_exporter_refuses_and_both_logs_name_its_policy() {
    let mut world = World::new();
    assert_refused(&world, &format!("{VIP}:7010"));
    let words = ["stream of a peer refused", "demo/secret", "policy_denied"];
    let line = world.b.wait_for_all(&words, LOGGED);
    assert!(line.contains("policy=\"demo/no-secret\""), "{line}");
    let words = ["connection refused", "demo/client", "demo/secret", "peer_policy_denied"];
    let line = world.a.wait_for_all(&words, LOGGED);
    assert!(line.contains("peer_policy=\"demo/no-secret\""), "{line}");
    assert_served(&world, &format!("{VIP}:7000"));
    world.stop();
}

#[test]
fn sighup_adds_and_removes_policies_and_a_broken_file_changes_nothing() {
    let mut world = World::new();
    let (echo, greet) = (format!("{VIP}:7000"), format!("{VIP}:7001"));
    let reload = |world: &mut World, generation: u32| {
        world.a.signal("HUP");
        world.a.wait_for_all(&["reloaded", &format!("generation={generation}")], LOGGED);
    };
    assert_served(&world, &echo);

    world.site_a.deny_export("no-echo", "echo");
    reload(&mut world, 2);
    assert_refused(&world, &echo);
    world.a.wait_for_all(&["connection refused", "policy=\"demo/no-echo\""], LOGGED);
    world.lab.client(&format!("greeted {greet}"), Duration::from_secs(10));

    // Broken, and with the denial gone: nothing of it may take effect.
    world.site_a.remove_object("no-echo.yaml");
    world.site_a.object(
        "broken.yaml",
        "kind: AccessPolicy\nmetadata: { name: x }\nspec: { actoin: allow }\n",
    );
    world.a.signal("HUP");
    let line = world.a.wait_for("reload refused", LOGGED);
    assert!(line.contains("the running generation stays"), "{line}");
    let finding = world.a.wait_for_all(&["broken.yaml:", "actoin"], LOGGED);
    assert!(finding.contains("error"), "{finding}");
    assert_refused(&world, &echo);
    world.lab.client(&format!("greeted {greet}"), Duration::from_secs(10));

    world.site_a.remove_object("broken.yaml");
    reload(&mut world, 3);
    assert_served(&world, &echo);
    world.stop();
}

#[test]
fn a_policy_on_trial_is_named_in_the_log_and_refuses_nobody() {
    let mut world = World::new();
    world.site_a.object(
        "trial.yaml",
        "kind: PrivilegedAccessPolicy\nmetadata: { name: trial }\nspec:\n  action: deny\n  \
         dryRun: true\n  from: [{ workloadSelector: {} }]\n  to: [{ workloadSelector: {} }]\n",
    );
    world.a.signal("HUP");
    world.a.wait_for_all(&["reloaded", "generation=2"], LOGGED);
    let echo = format!("{VIP}:7000");
    for _ in 0..3 {
        assert_served(&world, &echo);
    }
    let words = ["dry-run policy would decide otherwise", "policy=\"trial\"", "would=\"deny\""];
    let line = world.a.wait_for_all(&words, LOGGED);
    assert!(line.contains("import demo/echo") && line.contains("connections=1"), "{line}");
    // What was held back comes when the gateway stops.
    let (a, _) = world.stop();
    assert!(a.contains("connections=2"), "{a}");
}
