//! Every edit of an mbuf stays inside its buffer, and what is sent is what was edited.

use std::num::NonZeroU16;

use arrayvec::ArrayVec;
use dpdk_bindings::mbuf::free_bulk;
use dpdk_bindings::testing::{RingPairConfig, eal};
use dpdk_bindings::{Checksum, IpVersion, MbufError, MbufPool, RxFlags, TxOffload};

mod common;
use common::{Burst, POOL, cable, frame, queue_of};

const TCP4: TxOffload = TxOffload {
    ip: IpVersion::V4,
    l2_len: 14,
    l3_len: 20,
    l4_len: 20,
    ip_cksum: true,
    tcp_cksum: true,
    tso_segsz: None,
};

#[test]
fn edits_stay_inside_the_buffer() {
    let eal = eal().unwrap();
    let pool = MbufPool::new(&eal, "edits", POOL).unwrap();
    let mut mbuf = pool.alloc().unwrap();
    let (head, room) = (mbuf.headroom(), usize::from(POOL.data_room));
    assert_eq!((mbuf.len(), mbuf.capacity(), mbuf.tailroom()), (0, room, room));
    assert!(mbuf.is_empty() && mbuf.data().is_empty());
    assert_eq!(mbuf.rx_flags(), RxFlags::default());
    assert_eq!(mbuf.rx_flags().ip_cksum, Checksum::Unknown);

    // To the brim and one further, at both ends.
    assert_eq!(mbuf.append(room + 1).unwrap_err(), MbufError::NoRoom { wanted: room + 1, room });
    mbuf.append(room).unwrap().fill(1);
    assert_eq!(mbuf.append(1).unwrap_err(), MbufError::NoRoom { wanted: 1, room: 0 });
    let too_far = head + 1;
    assert_eq!(
        mbuf.prepend(too_far).unwrap_err(),
        MbufError::NoRoom { wanted: too_far, room: head }
    );
    mbuf.prepend(head).unwrap().fill(2);
    assert_eq!((mbuf.headroom(), mbuf.len()), (0, head + room));
    assert_eq!(mbuf.data()[..head], vec![2; head]);
    assert_eq!(mbuf.data()[head..], vec![1; room]);
    for wanted in [usize::MAX, 1 << 16, 1 << 32] {
        assert!(matches!(mbuf.set_len(wanted), Err(MbufError::NoRoom { .. })));
        assert!(matches!(mbuf.append(wanted), Err(MbufError::NoRoom { .. })));
        assert!(matches!(mbuf.prepend(wanted), Err(MbufError::NoRoom { .. })));
        assert!(matches!(mbuf.trim_front(wanted), Err(MbufError::TooShort { .. })));
        assert!(matches!(mbuf.trim_back(wanted), Err(MbufError::TooShort { .. })));
    }
    let len = mbuf.len();
    assert_eq!(mbuf.trim_front(len + 1), Err(MbufError::TooShort { wanted: len + 1, len }));
    mbuf.trim_front(len).unwrap();
    assert_eq!((mbuf.len(), mbuf.headroom(), mbuf.capacity()), (0, head + room, 0));
    mbuf.prepend(10).unwrap();
    mbuf.trim_back(10).unwrap();
    assert_eq!((mbuf.len(), mbuf.capacity()), (0, 10));
    mbuf.set_len(10).unwrap();
    assert!(mbuf.extend_from_slice(&[0]).is_err());
    drop(mbuf);
    let fresh = pool.alloc().unwrap();
    assert_eq!((fresh.headroom(), fresh.len()), (head, 0), "edits do not outlive the mbuf");
    drop(fresh);

    // The receiver sees the edited packet.
    let (mut a, mut b) = cable(&eal, "edits", RingPairConfig::default(), &pool);
    let mut mbuf = frame(&pool, 1, 100);
    mbuf.trim_front(14).unwrap();
    mbuf.trim_back(6).unwrap();
    mbuf.prepend(4).unwrap().copy_from_slice(b"head");
    mbuf.extend_from_slice(b"tail").unwrap();
    let sent = mbuf.data().to_vec();
    assert_eq!(sent.len(), 88);
    assert_eq!(a.tx().burst(&mut queue_of([mbuf])), 1);
    let mut got = Burst::new();
    assert_eq!(b.rx().burst(&mut got), 1);
    assert_eq!(got[0].data(), sent);
    assert_eq!(got[0].headroom(), head + 10);
    got.clear();

    // Offload requests that contradict themselves or the packet.
    let mut mbuf = frame(&pool, 1, 60);
    assert_eq!(mbuf.set_tx_offload(TCP4), Ok(()));
    let bad = |change: fn(&mut TxOffload)| {
        let mut offload = TCP4;
        change(&mut offload);
        offload
    };
    for offload in [
        bad(|o| o.l2_len = 128),
        bad(|o| o.l3_len = 512),
        bad(|o| o.ip = IpVersion::V6),
        bad(|o| (o.tso_segsz, o.tcp_cksum) = (NonZeroU16::new(1460), false)),
        bad(|o| (o.tso_segsz, o.l4_len) = (NonZeroU16::new(1460), 0)),
    ] {
        assert!(matches!(mbuf.set_tx_offload(offload), Err(MbufError::Offload(_))), "{offload:?}");
    }
    let long = bad(|o| o.l4_len = 60);
    assert_eq!(mbuf.set_tx_offload(long), Err(MbufError::TooShort { wanted: 94, len: 60 }));

    // A port without the offload drops it; the same packet without the request passes.
    assert_eq!(a.tx().burst(&mut queue_of([mbuf])), 0);
    assert_eq!(a.tx().rejected(), 1);
    let mut mbuf = frame(&pool, 1, 60);
    mbuf.set_tx_offload(TCP4).unwrap();
    mbuf.clear_flags();
    assert_eq!(a.tx().burst(&mut queue_of([mbuf])), 1);
    assert_eq!(b.rx().burst(&mut got), 1);
    got.clear();

    // Freeing by the burst, more than one burst's worth.
    let mut many = ArrayVec::<_, 200>::new();
    assert_eq!(pool.alloc_bulk(&mut many), 200);
    assert_eq!(pool.in_use(), 200);
    free_bulk(many);
    assert_eq!(pool.in_use(), 0);
    assert!(!format!("{:?}", frame(&pool, 1, 60)).is_empty());
}
