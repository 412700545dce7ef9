//! What several test files need. Each file is a process of its own with one EAL.

#![allow(dead_code)]

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use dpdk_bindings::testing::{RingPairConfig, ring_pair};
use dpdk_bindings::{
    Eal, Mbuf, MbufPool, PoolConfig, Port, PortConfig, RxQueue, Started, TxOffloads, TxQueue,
};

pub type Burst = ArrayVec<Mbuf, 64>;

pub const POOL: PoolConfig = PoolConfig { count: 1023, cache: 64, data_room: 2048, numa: None };

pub struct End {
    pub port: Port<Started>,
    pub queues: Vec<(RxQueue, TxQueue)>,
}

impl End {
    pub fn rx(&mut self) -> &mut RxQueue {
        &mut self.queues[0].0
    }

    pub fn tx(&mut self) -> &mut TxQueue {
        &mut self.queues[0].1
    }
}

/// Both ends of a cable, started, able to send several segments.
pub fn cable(eal: &Eal, name: &str, shape: RingPairConfig, pool: &MbufPool) -> (End, End) {
    let config = PortConfig {
        rx_queues: shape.queues,
        tx_queues: shape.queues,
        tx_offloads: TxOffloads::MULTI_SEGS,
        ..PortConfig::default()
    };
    let (a, b) = ring_pair(eal, name, shape).unwrap();
    let start = |port: Port<_>| {
        let (port, queues) =
            port.configure(config.clone(), std::slice::from_ref(pool)).unwrap().start().unwrap();
        End { port, queues }
    };
    (start(a), start(b))
}

/// A frame of `len` bytes that says which one it is.
pub fn frame(pool: &MbufPool, number: u32, len: usize) -> Mbuf {
    let mut mbuf = pool.alloc().expect("the pool has mbufs left");
    mbuf.append(len).unwrap();
    fill(mbuf.data_mut(), number);
    mbuf
}

pub fn fill(data: &mut [u8], number: u32) {
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = (at as u32).wrapping_mul(31).wrapping_add(number) as u8;
    }
    data[..4].copy_from_slice(&number.to_be_bytes());
}

pub fn expected(number: u32, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    fill(&mut data, number);
    data
}

pub fn queue_of(frames: impl IntoIterator<Item = Mbuf>) -> VecDeque<Mbuf> {
    frames.into_iter().collect()
}
