//! Several workers in each gateway, on devices that spread frames well, otherwise and badly.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use clgw::limits::{INBOX_MESSAGES, RX_BURST};
use clgw::net::{FlowKey, Steering};
use clgw::sim::{End, Spread, World};
use clgw::telemetry::DropReason;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, checksum};

use crate::flood::{IMPORT, Target, ack};
use crate::sites::*;

const SPREADS: [Spread; 3] = [Spread::Rss, Spread::OwnHash, Spread::Random];

/// Forty connections; returns how many segments of either gateway reported gaps.
fn forty_connections(world: &mut World) -> u64 {
    let gaps = Rc::new(Cell::new(0));
    let seen = Rc::clone(&gaps);
    world.set_tap(Box::new(move |_, from, frame| {
        let Some((_, tcp)) = segment(frame) else { return };
        if matches!(from, End::Gateway(..))
            && tcp.selective_ack_ranges().is_ok_and(|r| r[0].is_some())
        {
            seen.set(seen.get() + 1);
        }
    }));
    let (client, server) = (Script::new(20_000, 200_000), Script::new(200_000, 20_000));
    let _served = serve(world, server);
    let watches: Vec<_> = (0..40).map(|_| connect(world, WEB, client.clone())).collect();
    run(world, 120, |_| watches.iter().all(|w| w.borrow().complete(&client)));
    gaps.get()
}

/// Addresses and the TCP segment of an IPv4 frame.
fn segment(frame: &[u8]) -> Option<(Ipv4Repr, TcpPacket<&[u8]>)> {
    let ip = Ipv4Packet::new_checked(frame.get(14..)?).ok()?;
    let header = Ipv4Repr::parse(&ip, &ChecksumCapabilities::ignored()).ok()?;
    (header.next_header == IpProtocol::Tcp).then_some(())?;
    Some((header, TcpPacket::new_checked(frame.get(34..34 + header.payload_len)?).ok()?))
}

#[test]
fn every_worker_has_its_share_whatever_queue_a_frame_arrives_on() {
    for workers in [2, 4] {
        for spread in SPREADS {
            let mut world = Sites { workers, spread, ..Sites::default() }.build();
            let gaps = forty_connections(&mut world);
            for g in [A, B] {
                let shares: Vec<u64> = world.gateways[g]
                    .workers
                    .iter()
                    .map(|w| w.counters().clients_accepted + w.counters().services_connected)
                    .collect();
                assert!(shares.iter().all(|n| *n > 4), "{spread:?}: gateway {g}: {shares:?}");
                let c = world.gateways[g].counters();
                assert_eq!(c.strays > 0, spread != Spread::Rss, "{}", describe(&world));
                assert_eq!(c.drops(DropReason::InboxFull), 0, "{}", describe(&world));
            }
            // Handing over keeps the order of a connection's frames that came by one queue.
            assert_eq!(gaps > 0, spread == Spread::Random, "{spread:?}: {gaps} gaps");
        }
    }
}

/// A worker has tunnels of its own, and the worker of the same number at the other end has theirs.
#[test]
fn tunnels_have_the_same_worker_at_both_ends() {
    for v6 in [false, true] {
        let mut world = Sites { workers: 4, v6, ..Sites::default() }.build();
        world.run_for(Duration::from_secs(1));
        for worker in 0..4 {
            let [a, b] = [A, B].map(|g| world.gateways[g].workers[worker].counters());
            assert_eq!((a.tunnels_opened, b.tunnels_accepted), (2, 2), "worker {worker}");
        }
        assert_eq!(world.gateways[A].counters().strays + world.gateways[B].counters().strays, 0);
    }
}

/// From behind: "fragmentation needed", `mtu` bytes fit, about the packet in `frame`.
fn too_long(frame: &[u8], mtu: u16) -> Vec<u8> {
    let (quoted, _) = segment(frame).expect("a segment");
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&frame[14..14 + 28]);
    let sum = !checksum::data(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = Ipv4Repr {
        src_addr: quoted.dst_addr,
        dst_addr: quoted.src_addr,
        next_header: IpProtocol::Icmp,
        payload_len: message.len(),
        hop_limit: 64,
    };
    let mut report = [&frame[6..12], &frame[..6], &[8, 0]].concat();
    report.resize(14 + ip.buffer_len(), 0);
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut report[14..]), &ChecksumCapabilities::default());
    report.extend(message);
    report
}

/// Reports of routers are no TCP: RSS takes them anywhere.
#[test]
fn a_report_of_a_router_reaches_the_worker_of_the_connection() {
    let steering = Steering::software(2);
    for owner in [0, 1] {
        let mut world = Sites { workers: 2, ..Sites::default() }.build();
        // The last full segment to each port of the client whose connection this worker has.
        let long: Rc<RefCell<BTreeMap<u16, Vec<u8>>>> = Rc::default();
        let (seen, steering) = (Rc::clone(&long), steering.clone());
        world.set_tap(Box::new(move |_, from, frame| {
            if from != End::Gateway(A, 0) || frame.len() < 1_200 {
                return;
            }
            let Some((ip, tcp)) = segment(frame) else { return };
            let local = (ip.src_addr, tcp.src_port()).into();
            let remote = (ip.dst_addr, tcp.dst_port()).into();
            if steering.owner(&FlowKey::new(local, remote)) == owner {
                seen.borrow_mut().insert(tcp.dst_port(), frame.to_vec());
            }
        }));
        let _served = serve(&mut world, Script::new(2_000_000, 0));
        let client = Script::new(0, 2_000_000);
        let watches: Vec<_> = (0..8).map(|_| connect(&mut world, WEB, client.clone())).collect();
        run(&mut world, 5, |_| !long.borrow().is_empty());
        let (port, frame) = long.borrow_mut().pop_first().expect("one");
        let report = world.gateways[A].pool().copy(&too_long(&frame, 1_000)).unwrap();
        world.gateways[A].workers[0].ports_mut().next().unwrap().deliver(report);
        world.run_for(Duration::from_micros(50));
        long.borrow_mut().clear();
        run(&mut world, 60, |_| watches.iter().all(|w| w.borrow().complete(&client)));
        let long = long.borrow();
        assert!(!long.contains_key(&port), "worker {owner} did not hear of the report");
        assert!(owner == 0 || world.gateways[A].counters().strays > 0);
        assert!(!long.is_empty(), "a report is about one connection");
    }
}

/// A burst from each port of gateway A's first worker for each of its turns, of segments that belong
/// to no connection, but to the second worker.
fn bursts() -> impl FnMut(&mut World) -> u64 {
    const TUNNELS: Target = Target {
        gateway: A,
        port: 1,
        address: (Ipv4Addr::new(192, 0, 2, 1), 4_443),
        network: Ipv4Addr::new(192, 0, 2, 0),
    };
    let steering = Steering::software(2);
    let mut targets = [IMPORT, TUNNELS].map(|target| {
        let steering = steering.clone();
        let owner = move |n: &u32| {
            let key = FlowKey::new(target.address.into(), target.source(*n).into());
            steering.owner(&key)
        };
        (target, (0..).filter(move |n| owner(n) == 1))
    });
    move |world| {
        for (target, numbers) in &mut targets {
            for n in numbers.take(RX_BURST) {
                target.send(world, target.source(n), &ack(n, 1, b""));
            }
        }
        2 * RX_BURST as u64
    }
}

/// A device with one queue, or one that spreads nothing, gives one worker the frames of all.
#[test]
fn a_worker_keeps_up_with_what_others_hand_over() {
    let mut world = Sites { workers: 2, ..Sites::default() }.build();
    world.run_for(Duration::from_millis(100));
    let (mut burst, mut frames) = (bursts(), 0);
    while frames < 3 * INBOX_MESSAGES as u64 {
        frames += burst(&mut world);
        world.step(world.now + Duration::from_micros(1));
    }
    world.run_for(Duration::from_millis(1));
    let gateway = &world.gateways[A];
    assert_eq!(gateway.counters().strays, frames);
    assert_eq!(gateway.counters().drops(DropReason::InboxFull), 0, "{}", describe(&world));
    assert_eq!(gateway.workers[1].counters().drops(DropReason::NoFlow), frames);
}

/// One that stands still costs the others nothing but its own frames, and those are counted.
#[test]
fn a_worker_that_does_not_keep_up_loses_frames_and_no_buffers() {
    let mut world = Sites { workers: 2, ..Sites::default() }.build();
    world.run_for(Duration::from_millis(100));
    let (mut burst, mut frames) = (bursts(), 0);
    while frames < 3 * INBOX_MESSAGES as u64 {
        frames += burst(&mut world);
        let now = world.now;
        world.gateways[A].workers[0].poll(now);
    }
    let first = world.gateways[A].workers[0].counters();
    assert_eq!(first.strays, frames);
    assert_eq!(first.drops(DropReason::InboxFull), frames - INBOX_MESSAGES as u64);
    assert_at_rest(&mut world);
    let dropped = world.gateways[A].workers[1].counters().drops(DropReason::NoFlow);
    assert_eq!(dropped, INBOX_MESSAGES as u64);
}
