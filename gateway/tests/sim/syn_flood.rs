//! Floods of SYNs, and those who connect all the same.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use clgw::limits::{
    MAX_HALF_OPEN, MAX_TLS_PENDING_PER_SOURCE, SYN_COOKIE_LIFETIME, TCP_HANDSHAKE_TIMEOUT,
};
use clgw::sim::{End, Spread, World};
use clgw::telemetry::DropReason;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use crate::flood::*;
use crate::sites::*;

const MARK: u32 = MAX_HALF_OPEN as u32;

/// SYNs whose senders never answer.
#[test]
fn half_open_connections_are_bounded_and_expire() {
    let mut world = Sites::default().build();
    world.run_for(Duration::from_millis(10));
    let _served = serve(&mut world, Script::new(10, 10));
    IMPORT.flood(&mut world, 0..6_000);
    world.run_for(Duration::from_millis(10));
    let a = world.gateways[A].counters();
    assert!(a.syn_cookies_sent >= 1_900, "{}", describe(&world));
    assert!(world.gateways[A].workers[0].connections() <= MAX_HALF_OPEN + 8);
    world.run_for(TCP_HANDSHAKE_TIMEOUT + Duration::from_secs(1));
    assert!(world.gateways[A].workers[0].connections() <= 8, "{}", describe(&world));
    let sent = world.gateways[A].counters().syn_cookies_sent;
    let client = Script::new(10, 10);
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 10, |_| watch.borrow().complete(&client));
    assert_eq!(world.gateways[A].counters().syn_cookies_sent, sent, "there is room again");
}

#[test]
fn clients_connect_through_a_flood_and_memory_stays_flat() {
    for (workers, spread) in [(1, Spread::Rss), (2, Spread::Random)] {
        let mut world = Sites { workers, spread, ..Sites::default() }.build();
        world.run_for(Duration::from_millis(100));
        let _served = serve(&mut world, Script::new(20_000, 20_000));
        let mut next = 3 * MARK * workers as u32;
        IMPORT.flood(&mut world, 0..next);
        let held = |w: &World| -> (usize, usize) {
            let workers = &w.gateways[A].workers;
            let timers = workers.iter().map(|w| w.timers()).sum();
            (workers.iter().map(|w| w.connections()).sum(), timers)
        };
        let before = held(&world);
        assert!(before.0 >= MAX_HALF_OPEN * workers, "{before:?}");
        let client = Script::new(20_000, 20_000);
        let watches: Vec<_> = (0..30).map(|_| connect(&mut world, WEB, client.clone())).collect();
        let complete = || watches.iter().all(|w| w.borrow().complete(&client));
        while !complete() {
            IMPORT.flood(&mut world, next..next + 64);
            next += 64;
            assert!(next < 200_000, "{watches:?} {}", describe(&world));
        }
        let a = world.gateways[A].counters();
        assert_eq!(a.syn_cookies_accepted, 30, "{}", describe(&world));
        // Between two workers, data may overtake the acknowledgement.
        assert!(workers > 1 || a.syn_cookies_bad == 0, "{}", describe(&world));
        assert!(a.syn_cookies_sent > u64::from(MARK), "{}", describe(&world));
        // What the clients' connections need, and no more.
        let after = held(&world);
        assert!(after.0 <= before.0 + 80, "{before:?} {after:?}");
        assert!(after.1 <= before.1 + 500, "{before:?} {after:?}");
    }
}

/// Neither a flood of the tunnel port nor one from the forged address of the peer keeps it out.
#[test]
fn tunnels_come_up_through_a_flood() {
    for forged in [false, true] {
        let mut world = Sites::default().build();
        world.cut(WAN, true);
        world.run_for(Duration::from_millis(1));
        if !forged {
            TUNNEL.flood(&mut world, 0..2 * MARK);
        }
        for n in 0..3_000 {
            TUNNEL.send(&mut world, (Ipv4Addr::new(192, 0, 2, 1), 1_000 + n as u16), &syn(n));
            if n % 64 == 63 {
                world.run_for(Duration::from_micros(20));
            }
        }
        let b = world.gateways[B].counters();
        assert!(b.syn_cookies_sent > 800, "{}", describe(&world));
        let _served = serve(&mut world, Script::new(1_000, 1_000));
        world.cut(WAN, false);
        let client = Script::new(1_000, 1_000);
        let watch = connect(&mut world, WEB, client.clone());
        run(&mut world, 8, |_| watch.borrow().complete(&client));
        let accepted = world.gateways[B].counters().syn_cookies_accepted;
        assert!(forged || accepted > 0, "{}", describe(&world));
    }
}

/// Sequence numbers of the SYN|ACKs to each source.
type Answers = Rc<RefCell<HashMap<(Ipv4Addr, u16), u32>>>;

fn watch_answers(world: &mut World, from: End) -> Answers {
    let answers = Answers::default();
    let seen = Rc::clone(&answers);
    world.set_tap(Box::new(move |_, end, frame| {
        let Some(Ok(ip)) = frame.get(14..).map(Ipv4Packet::new_checked) else { return };
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return };
        if end == from && tcp.syn() && tcp.ack() {
            let to = (ip.dst_addr(), tcp.dst_port());
            seen.borrow_mut().insert(to, tcp.seq_number().0 as u32);
        }
    }));
    answers
}

/// Whoever has finished the TCP handshake and none of TLS, with a cookie or without.
#[test]
fn tunnels_without_tls_are_bounded_per_source() {
    for flooded in [false, true] {
        let mut world = Sites::default().build();
        world.run_for(Duration::from_millis(100));
        if flooded {
            TUNNEL.flood(&mut world, 0..MARK + 100);
        }
        let answers = watch_answers(&mut world, End::Gateway(B, 1));
        let before = world.gateways[B].workers[0].connections();
        let most = MAX_TLS_PENDING_PER_SOURCE;
        for n in 0..most as u32 + 100 {
            let from = (Ipv4Addr::new(192, 0, 2, 99), 10_000 + n as u16);
            TUNNEL.send(&mut world, from, &syn(n));
            world.run_for(Duration::from_micros(20));
            let theirs = answers.borrow()[&from];
            TUNNEL.send(&mut world, from, &ack(n, theirs.wrapping_add(1), b""));
            world.run_for(Duration::from_micros(20));
        }
        let b = world.gateways[B].counters();
        assert_eq!(b.drops(DropReason::SourceLimit), 100, "{}", describe(&world));
        assert_eq!(b.syn_cookies_accepted, if flooded { most as u64 } else { 0 });
        let connections = world.gateways[B].workers[0].connections();
        assert_eq!(connections, before + most, "{}", describe(&world));
        world.run_for(2 * TCP_HANDSHAKE_TIMEOUT);
        let connections = world.gateways[B].workers[0].connections();
        assert!(connections <= 8, "{connections}: {}", describe(&world));
    }
}

/// What acknowledges no cookie opens nothing, and strays are reset as ever.
#[test]
fn strays_are_looked_at_only_while_cookies_are_out() {
    let mut world = Sites::default().build();
    world.run_for(Duration::from_millis(100));
    let stray = |world: &mut World, n: u32, payload| {
        let before = world.gateways[A].counters();
        let source = IMPORT.source(50_000 + n);
        IMPORT.send(world, source, &ack(n, 77, payload));
        world.run_for(Duration::from_millis(1));
        let after = world.gateways[A].counters();
        let bad = after.syn_cookies_bad - before.syn_cookies_bad;
        assert_eq!(after.drops(DropReason::NoFlow), before.drops(DropReason::NoFlow) + 1);
        (bad, after.resets_sent - before.resets_sent)
    };
    assert_eq!([stray(&mut world, 0, b""), stray(&mut world, 1, b"data")], [(0, 1), (0, 1)]);
    IMPORT.flood(&mut world, 0..MARK + 1);
    assert_eq!(world.gateways[A].counters().syn_cookies_sent, 1);
    // Data may have overtaken the segment that opens its connection.
    assert_eq!([stray(&mut world, 2, b""), stray(&mut world, 3, b"data")], [(1, 1), (1, 0)]);
    world.run_for(2 * SYN_COOKIE_LIFETIME);
    assert_eq!([stray(&mut world, 4, b""), stray(&mut world, 5, b"data")], [(0, 1), (0, 1)]);
    assert_eq!(world.gateways[A].counters().syn_cookies_accepted, 0);
}

/// Bytes come with the acknowledgement, or instead of it, or ahead of it.
#[test]
fn the_first_bytes_open_a_connection_as_well() {
    let mut world = Sites::default().build();
    world.run_for(Duration::from_millis(100));
    IMPORT.flood(&mut world, 0..MARK);
    let answers = watch_answers(&mut world, End::Gateway(A, 0));
    let served = serve(&mut world, Script::new(0, 10));
    // An address that the policy allows, and a port that the host itself does not use.
    let from = (Ipv4Addr::new(10, 1, 0, 2), 900);
    IMPORT.send(&mut world, from, &syn(7));
    world.run_for(Duration::from_micros(50));
    let theirs = answers.borrow()[&from].wrapping_add(1);
    let mut second = ack(7, theirs, b"world");
    second.seq_number += 5;
    IMPORT.send(&mut world, from, &second);
    world.run_for(Duration::from_micros(50));
    assert!(served.borrow().is_empty());
    for segment in [ack(7, theirs, b"hello"), second] {
        IMPORT.send(&mut world, from, &segment);
    }
    run(&mut world, 5, |_| served.borrow().first().is_some_and(|w| w.borrow().received == 10));
    let a = world.gateways[A].counters();
    assert_eq!((a.syn_cookies_accepted, a.syn_cookies_bad, a.clients_accepted), (1, 1, 1));
}
