//! Packets of several segments: chained, sent, received, copied out, linearized.

use std::time::{Duration, Instant};

use dpdk_bindings::testing::{RingPairConfig, config};
use dpdk_bindings::{
    Device, Eal, EalConfig, MbufError, MbufPool, PoolConfig, PortConfig, RxOffloads, TxOffloads,
};

mod common;
use common::{Burst, POOL, cable, expected, fill, queue_of};

#[test]
fn packets_of_several_segments() {
    let socket = std::env::temp_dir().join(format!("clgw-memif-{}.sock", std::process::id()));
    let memif = |number: u8, role: &str| {
        let socket = socket.display();
        Device::Vdev(format!(
            "net_memif{number},role={role},id=7,bsize=2048,rsize=8,socket={socket},\
             socket-abstract=no,mac=02:00:00:00:00:0{number}"
        ))
    };
    let devices = vec![memif(0, "server"), memif(1, "client")];
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    let pool = MbufPool::new(&eal, "segments", POOL).unwrap();
    let chain_of = |lengths: &[usize]| {
        let whole = expected(9, lengths.iter().sum());
        let mut at = 0;
        let mut parts = lengths.iter().map(|&len| {
            let mut part = pool.alloc().unwrap();
            part.extend_from_slice(&whole[at..at + len]).unwrap();
            at += len;
            part
        });
        let mut head = parts.next().unwrap();
        parts.for_each(|part| head.chain(part).unwrap());
        (head, whole)
    };

    // A cable of rings hands the chain over as it is.
    let (mut a, mut b) = cable(&eal, "chain", RingPairConfig::default(), &pool);
    let mut got = Burst::new();
    for lengths in [&[100usize, 200, 300][..], &[14, 1], &[2048, 2048, 2048], &[700, 700]] {
        let (mut mbuf, mut whole) = chain_of(lengths);
        // Edits of the first segment must reach the device's copy, too.
        mbuf.trim_front(3).unwrap();
        mbuf.prepend(2).unwrap().copy_from_slice(&[0xaa, 0xbb]);
        whole.splice(..3, [0xaa, 0xbb]);
        assert_eq!(mbuf.len(), whole.len());
        assert_eq!(a.tx().burst(&mut queue_of([mbuf])), 1);
        assert_eq!(b.rx().burst(&mut got), 1);
        let mut mbuf = got.pop().unwrap();
        assert_eq!(usize::from(mbuf.segment_count()), lengths.len());
        assert_eq!(mbuf.len(), whole.len());
        assert_eq!(mbuf.segments().map(<[u8]>::len).sum::<usize>(), whole.len());
        assert_eq!(mbuf.segments().flatten().copied().collect::<Vec<u8>>(), whole);
        let mut copy = vec![0; whole.len()];
        assert_eq!(mbuf.copy_to(&mut copy), Ok(whole.len()));
        assert_eq!(copy, whole);
        let short = copy.len() - 1;
        assert!(matches!(mbuf.copy_to(&mut copy[..short]), Err(MbufError::NoRoom { .. })));
        // One-segment edits are refused on a chain.
        assert!(matches!(
            mbuf.append(1),
            Err(MbufError::MultiSegment { .. } | MbufError::NoRoom { .. })
        ));
        assert!(matches!(mbuf.set_len(20), Err(MbufError::MultiSegment { .. })));
        assert!(matches!(mbuf.trim_back(1), Err(MbufError::MultiSegment { .. })));
        let fits = whole.len() <= mbuf.capacity();
        let outcome = mbuf.linearize();
        assert_eq!(outcome.is_ok(), fits, "{lengths:?}: {outcome:?}");
        if fits {
            assert_eq!(mbuf.segment_count(), 1);
            assert_eq!(mbuf.data(), whole);
            assert_eq!(mbuf.linearize(), Ok(()));
            assert_eq!(pool.in_use(), 1, "the other segments are back");
            // And it can be sent like any other.
            assert_eq!(a.tx().burst(&mut queue_of([mbuf])), 1);
            assert_eq!(b.rx().burst(&mut got), 1);
            assert_eq!(got[0].data(), whole);
            got.clear();
        } else {
            assert_eq!(mbuf.segments().flatten().copied().collect::<Vec<u8>>(), whole);
        }
    }
    assert_eq!(pool.in_use(), 0);
    drop((a, b));

    // A driver that scatters by itself: jumbo frames over shared memory, into 2 KiB mbufs.
    let jumbo = PoolConfig { count: 255, cache: 0, data_room: 9216, numa: None };
    let jumbo = MbufPool::new(&eal, "jumbo", jumbo).unwrap();
    let start = |name: &str| {
        let port = eal.port_by_name(name).unwrap();
        let info = port.info().unwrap();
        let config = PortConfig {
            rx_desc: 256,
            tx_desc: 256,
            tx_offloads: TxOffloads::MULTI_SEGS & info.tx_offloads,
            rx_offloads: RxOffloads::SCATTER & info.rx_offloads,
            ..PortConfig::default()
        };
        port.configure(config, std::slice::from_ref(&pool)).unwrap().start().unwrap()
    };
    let (server, mut server_queues) = start("net_memif0");
    let (client, mut client_queues) = start("net_memif1");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !(server.link().unwrap().up && client.link().unwrap().up) {
        assert!(Instant::now() < deadline, "the memif pair did not connect in 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    for (number, len) in [(1, 60usize), (2, 2048), (3, 2049), (4, 9000)] {
        let mut mbuf = jumbo.alloc().unwrap();
        fill(mbuf.append(len).unwrap(), number);
        assert_eq!(client_queues[0].1.burst(&mut queue_of([mbuf])), 1);
        let deadline = Instant::now() + Duration::from_secs(5);
        while server_queues[0].0.burst(&mut got) == 0 {
            assert!(Instant::now() < deadline, "frame of {len} bytes lost");
        }
        let mbuf = got.pop().unwrap();
        assert_eq!(mbuf.len(), len);
        assert_eq!(usize::from(mbuf.segment_count()), len.div_ceil(2048));
        assert_eq!(mbuf.segments().flatten().copied().collect::<Vec<u8>>(), expected(number, len));
    }
    let stats = server.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.rx_bytes), (4, 60 + 2048 + 2049 + 9000));
    let _ = std::fs::remove_file(&socket);
}
