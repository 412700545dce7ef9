//! Receive interrupts of a real device: virtio-user, whose other end is net_vhost in a process of its
//! own, since one of them waits for the other while EAL starts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dpdk_bindings::testing::config;
use dpdk_bindings::{
    Device, Eal, EalConfig, MbufPool, Port, PortConfig, RxInterrupts, RxQueue, Started, TxQueue,
    Wake,
};

mod common;
use common::{Burst, POOL, expected, frame, queue_of};

/// Set in the process of the other end.
const SOCKET: &str = "CLGW_TEST_VHOST_SOCKET";
const LENGTH: usize = 100;
/// Longer than the machine ever takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for an interrupt that should not come.
const A_WHILE: Duration = Duration::from_millis(100);

fn start(
    device: &str,
    arguments: &str,
    rx_interrupts: bool,
) -> (MbufPool, Port<Started>, RxQueue, TxQueue) {
    let devices = vec![Device::Vdev(format!("{device},queues=1,{arguments}"))];
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    let pool = MbufPool::new(&eal, "interrupts", POOL).unwrap();
    let wanted = PortConfig { rx_interrupts, ..PortConfig::default() };
    let port = eal.port_by_name(device).unwrap();
    let (port, mut queues) =
        port.configure(wanted, std::slice::from_ref(&pool)).unwrap().start().unwrap();
    let (rx, tx) = queues.remove(0);
    (pool, port, rx, tx)
}

/// The other end: a frame for every line of its input.
fn far_end(socket: &str) {
    let (pool, _port, _rx, mut tx) = start("net_vhost0", &format!("iface={socket}"), false);
    println!("\nup");
    for (number, _) in std::io::stdin().lines().enumerate() {
        let mut queue = queue_of([frame(&pool, number as u32, LENGTH)]);
        let until = Instant::now() + PATIENCE;
        // Nothing is taken before the other side has given its buffers.
        while tx.burst(&mut queue) == 0 {
            assert!(Instant::now() < until, "nobody takes frames");
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("\nsent");
    }
}

/// The process of the other end.
struct FarEnd {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl FarEnd {
    fn start(socket: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_frame_ends_the_wait", "--nocapture"])
            .env(SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut this = Self { process, said };
        this.wait_for("up");
        this
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "ended without {word:?}");
        }
    }

    fn send(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[test]
fn a_frame_ends_the_wait() {
    if let Ok(socket) = std::env::var(SOCKET) {
        return far_end(&socket);
    }
    let socket = std::env::temp_dir().join(format!("clgw-vhost-{}", std::process::id()));
    let mut far = FarEnd::start(&socket);
    let path = format!("path={}", socket.display());
    let (pool, port, mut rx, tx) = start("net_virtio_user0", &path, true);
    let mut interrupts = RxInterrupts::new().unwrap();
    interrupts.watch(&mut rx).unwrap();
    let mut got = Burst::new();

    // Nothing comes: the whole time, also where that is no whole millisecond.
    for timeout in [A_WHILE, Duration::from_micros(300)] {
        rx.arm().unwrap();
        let begin = Instant::now();
        assert_eq!(interrupts.wait(timeout), Wake::Timeout);
        assert!(begin.elapsed() >= timeout, "{:?}", begin.elapsed());
    }

    // An armed queue ends it, every time.
    for number in 0..3 {
        rx.arm().unwrap();
        assert_eq!(rx.burst(&mut got), 0);
        far.send();
        assert_eq!(interrupts.wait(PATIENCE), Wake::Interrupt);
        assert_eq!(rx.burst(&mut got), 1);
        assert_eq!(got.pop().unwrap().data(), expected(number, LENGTH));
        rx.disarm();
        far.wait_for("sent");
    }

    // Why to poll once more: what came before the queue was armed raises nothing.
    far.send();
    far.wait_for("sent");
    rx.arm().unwrap();
    assert_eq!(interrupts.wait(A_WHILE), Wake::Timeout);
    assert_eq!(rx.burst(&mut got), 1);

    // Disarmed, the device is silent.
    rx.disarm();
    far.send();
    far.wait_for("sent");
    assert_eq!(interrupts.wait(A_WHILE), Wake::Timeout);
    assert_eq!(rx.burst(&mut got), 1);

    // What is watched keeps its port running.
    got.clear();
    drop((rx, tx));
    let error = port.stop().unwrap_err();
    assert!(error.error.hint.contains("handles still exist"), "{error}");
    drop(interrupts);
    error.port.stop().unwrap();
    assert_eq!(pool.in_use(), 0);
    drop(far);
    let _ = std::fs::remove_file(&socket);
}
