//! What can be seen between the sites.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::lab::{Lab, Place, Process, eventually, run};
use crate::site::{Site, SiteOptions, VIP};
use crate::tlswire;
use crate::world::services;

const WITHIN: Duration = Duration::from_secs(20);
/// A capture that has not grown for this long has everything.
const SETTLED: Duration = Duration::from_millis(300);

/// tcpdump at both ends of the link between the sites; each sees what the other end sends.
#[derive(Debug)]
pub struct Capture {
    processes: Vec<Process>,
    files: Vec<PathBuf>,
}

impl Capture {
    pub fn start(lab: &Lab) -> Self {
        let mut capture = Self { processes: Vec::new(), files: Vec::new() };
        for (name, place) in [("wan-a", Place::SiteA), ("wan-b", Place::SiteB)] {
            let file = lab.dir.path().join(format!("{name}.pcap"));
            let path = file.display().to_string();
            let command = ["tcpdump", "-i", "wan0", "-Q", "in", "-s", "0", "-B", "65536", "-U"];
            // Immediately: frames that wait in the kernel are lost when tcpdump ends.
            let command = [&command[..], &["--immediate-mode"]].concat();
            let command = [&command[..], &["-n", "-w", &path]].concat();
            let mut process = lab.spawn(&format!("tcpdump-{name}"), place, &command);
            process.wait_for("listening", WITHIN);
            capture.processes.push(process);
            capture.files.push(file);
        }
        capture
    }

    pub fn stop(mut self) -> Self {
        let sizes = || -> Vec<u64> {
            self.files.iter().map(|file| fs::metadata(file).unwrap().len()).collect()
        };
        let mut last = sizes();
        eventually("end of what the captures write", WITHIN, || {
            thread::sleep(SETTLED);
            let before = std::mem::replace(&mut last, sizes());
            (before == last).then_some(())
        });
        for process in &mut self.processes {
            process.signal("INT");
            process.wait(WITHIN);
        }
        self
    }

    /// How many frames match tcpdump's filter.
    pub fn frames(&self, filter: &[&str]) -> usize {
        let count = |file: &PathBuf| {
            let path = file.display().to_string();
            run("tcpdump", &[&["-n", "-r", &path][..], filter].concat()).lines().count()
        };
        self.files.iter().map(count).sum()
    }
}

#[test]
fn between_the_sites_there_is_only_tls_13() {
    let lab = Lab::new();
    let (_echo, _greet) = services(&lab);
    let site_a = Site::importer(lab.dir.path(), &SiteOptions::a());
    let site_b = Site::exporter(lab.dir.path(), &SiteOptions::b());
    let capture = Capture::start(&lab);
    let a = Gateway::start(&lab, "gateway-a", Place::SiteA, &site_a);
    let b = Gateway::start(&lab, "gateway-b", Place::SiteB, &site_b);
    lab.client(&format!("greeted {VIP}:7001"), WITHIN);
    lab.client(&format!("echo {VIP}:7000 20 50000 91"), WITHIN);
    lab.client(&format!("upload {VIP}:7000 5000000 92"), WITHIN);
    a.stop();
    b.stop();
    let capture = capture.stop();
    let contents: Vec<Vec<u8>> = capture.files.iter().map(|f| fs::read(f).unwrap()).collect();
    let captures: Vec<(&str, &[u8])> =
        ["wan-a", "wan-b"].into_iter().zip(contents.iter().map(Vec::as_slice)).collect();
    let report = tlswire::examine(&captures, 4443).unwrap();
    assert!(report.servers > 0, "{report}");
    // 20 x 50,000 bytes there and back, and the upload.
    assert!(report.application_bytes > 7_000_000, "{report}");
    assert_eq!(report.unverified, 0, "{report}");
    for (name, content) in captures {
        for plain in [&b"220 the server speaks"[..], b"demo/echo", b"site-a", b"site-b"] {
            let seen = content.windows(plain.len()).any(|w| w == plain);
            // The server's name is in the ClientHello (RFC 6066, section 3), and it alone.
            let expected = plain == b"site-b" && name == "wan-b";
            assert_eq!(seen, expected, "{name}: {}", String::from_utf8_lossy(plain));
        }
    }
}

#[test]
fn the_proof_itself_finds_plaintext() {
    let header = [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[0; 16], &1_u32.to_le_bytes()].concat();
    // Two frames of a connection to port 4443: the SYN, then `payload` with the next number.
    let capture = |payload: &[u8]| {
        let mut capture = header.clone();
        for (flags, seq, payload) in [(2_u8, 100_u32, &b""[..]), (16, 101, payload)] {
            let mut frame = vec![0; 12];
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((40 + payload.len() as u16).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
            frame.extend(50_000_u16.to_be_bytes());
            frame.extend(4_443_u16.to_be_bytes());
            frame.extend(seq.to_be_bytes());
            frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
            frame.extend(payload);
            let length = (frame.len() as u32).to_le_bytes();
            capture.extend([&[0; 8][..], &length, &length, &frame].concat());
        }
        capture
    };
    let client_hello = [22, 3, 1, 0, 4, 1, 0, 0, 0];
    let good = capture(&client_hello);
    let report = tlswire::examine(&[("good", &good)], 4443).unwrap();
    assert_eq!((report.frames, report.streams, report.handshake_records), (2, 1, 1));
    let wrong_port = tlswire::examine(&[("good", &good)], 4444).unwrap_err();
    assert!(wrong_port.contains("frame 1") && wrong_port.contains("4443"), "{wrong_port}");
    let plain = capture(b"GET / HTTP/1.1\r\n");
    let error = tlswire::examine(&[("plain", &plain)], 4443).unwrap_err();
    assert!(error.contains("plain, frame 2") && error.contains("no TLS record"), "{error}");
    let behind = capture(&[&client_hello[..], b"GET / HTTP/1.1\r\n"].concat());
    assert!(tlswire::examine(&[("behind", &behind)], 4443).is_err());
}
