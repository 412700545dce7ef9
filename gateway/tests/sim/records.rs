//! How long the records of a stream are on the wire, and where they end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use clgw::sim::{End, LinkConfig, World};
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use crate::sites::*;

/// Payload of a full segment at MTU 1500, with the time stamp option.
const SEGMENT: usize = 1_448;
const RECORD_HEADER: usize = 5;

/// What a gateway has sent over one tunnel.
#[derive(Default)]
struct Sent {
    next: Option<u32>,
    bytes: Vec<u8>,
    /// Where segments end.
    ends: Vec<usize>,
}

/// By the ports of the tunnel.
type Wire = Rc<RefCell<HashMap<(u16, u16), Sent>>>;

/// Sees what `from` sends to the other gateway from now on, which is the beginning of a record.
fn watch(world: &mut World, from: usize) -> Wire {
    let wire = Wire::default();
    let seen = Rc::clone(&wire);
    world.set_tap(Box::new(move |_, end, frame| {
        let Some(Ok(ip)) = frame.get(14..).map(Ipv4Packet::new_checked) else { return };
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return };
        if end != End::Gateway(from, 1) || tcp.payload().is_empty() {
            return;
        }
        let mut all = seen.borrow_mut();
        let sent = all.entry((tcp.src_port(), tcp.dst_port())).or_default();
        let seq = tcp.seq_number().0 as u32;
        // Whatever is sent twice is known.
        if sent.next.is_none_or(|next| next == seq) {
            sent.next = Some(seq.wrapping_add(tcp.payload().len() as u32));
            sent.bytes.extend_from_slice(tcp.payload());
            sent.ends.push(sent.bytes.len());
        }
    }));
    wire
}

/// Where a record begins and ends, and whether segments do at its end and nowhere within.
#[derive(Clone, Copy, Debug)]
struct Record {
    begin: usize,
    end: usize,
    ends_a_segment: bool,
    in_one_segment: bool,
}

/// Of the tunnel that carried most.
fn records(wire: &Wire) -> Vec<Record> {
    let all = wire.borrow();
    let sent = all.values().max_by_key(|sent| sent.bytes.len()).unwrap();
    let mut records = Vec::new();
    let mut begin = 0;
    while let Some([23, 3, 3, high, low]) = sent.bytes.get(begin..begin + RECORD_HEADER) {
        let end = begin + RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low]));
        let ends_a_segment = sent.ends.contains(&end);
        let in_one_segment = !sent.ends.iter().any(|at| (begin + 1..end).contains(at));
        records.push(Record { begin, end, ends_a_segment, in_one_segment });
        begin = end;
    }
    assert_eq!(begin, sent.bytes.len(), "no record at the end");
    records
}

/// A line on which more than one record is on its way.
fn far() -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::CLEAN }
}

#[test]
fn records_are_a_segment_long_at_first_and_after_a_pause() {
    const BEFORE: u64 = 2_000_000;
    const AFTER: u64 = 200_000;
    let mut world = Sites { wan: far(), ..Sites::default() }.build();
    world.run_for(Duration::from_secs(1));
    let wire = watch(&mut world, B);
    let gate = Rc::new(Cell::new(BEFORE));
    let opened = Rc::clone(&gate);
    world.hosts[SERVER].listen(
        8080,
        Box::new(move |_| {
            let (mut app, _) = Scripted::new(Script::new(BEFORE + AFTER, 0));
            app.send_gate = Some(Rc::clone(&opened));
            Box::new(app)
        }),
    );
    let client = connect(&mut world, WEB, Script::new(0, BEFORE + AFTER));
    run(&mut world, 60, |_| client.borrow().received == BEFORE);
    world.run_for(Duration::from_secs(2));
    let before = records(&wire).len();
    gate.set(BEFORE + AFTER);
    world.hosts[SERVER].nudge_all();
    run(&mut world, 60, |_| client.borrow().received == BEFORE + AFTER);
    assert!(!client.borrow().wrong);

    let all = records(&wire);
    for stream in [&all[..before], &all[before..]] {
        let begin = stream[0].begin;
        let split = stream.iter().position(|r| r.end - begin > 60_000).unwrap();
        let (first, bulk) = stream.split_at(split);
        for record in first {
            assert!(record.in_one_segment, "{record:?}");
        }
        assert!(first.len() < 60_000 / (SEGMENT / 2), "{} records", first.len());
        // What follows takes more for each record, and ends with segments but where a ring does.
        let whole = bulk.iter().filter(|r| r.ends_a_segment).count();
        let length = (bulk.last().unwrap().end - bulk[0].begin) / bulk.len();
        assert!(length > 3 * SEGMENT, "{length} bytes a record");
        assert!(4 * whole >= 3 * bulk.len(), "{whole} of {} end with a segment", bulk.len());
    }
}

/// Also those that a client sends ahead of its answer.
#[test]
fn early_bytes_come_in_records_of_a_segment() {
    let mut world = Sites { wan: far(), ..Sites::default() }.build();
    world.run_for(Duration::from_secs(1));
    let wire = watch(&mut world, A);
    let _served = serve(&mut world, Script::new(0, 12_000));
    let client = connect(&mut world, WEB, Script::new(12_000, 0));
    run(&mut world, 10, |_| client.borrow().finished);
    let all = records(&wire);
    assert!(all.iter().all(|record| record.in_one_segment), "{all:#?}");
    assert!(all.len() >= 12_000 / SEGMENT, "{} records", all.len());
}
