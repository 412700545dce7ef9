//! Data that arrives whole: HTTP, much of it, many connections, both IP versions, a bad line.

use std::fs;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Place, Process};
use crate::site::{SiteOptions, VIP, VIP6};
use crate::world::World;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// nginx in the server's namespace, out of the lab's directory only.
fn nginx(lab: &Lab, files: &[(&str, &[u8])]) -> Process {
    let dir = lab.dir.path().join("nginx");
    fs::create_dir_all(dir.join("www")).unwrap();
    for (name, content) in files {
        fs::write(dir.join("www").join(name), content).unwrap();
    }
    let at = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off;\nuser root;\npid {at}/pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\n{temporary}\
         server {{ listen 80; root {at}/www; keepalive_timeout 5; }}\n}}\n"
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let (prefix, file) = (at.to_string(), format!("{at}/nginx.conf"));
    let process = lab.spawn("nginx", Place::Server, &["nginx", "-p", &prefix, "-c", &file]);
    lab.run_in(
        Place::Server,
        &["curl", "-sf", "--retry", "50", "--retry-delay", "0", "--retry-connrefused", "-o"]
            .iter()
            .chain(&["/dev/null", "http://10.2.0.2/small"])
            .copied()
            .collect::<Vec<_>>(),
    );
    process
}

#[test]
fn http_by_curl_and_nginx() {
    let world = World::new();
    let mut large = vec![0; 5 * MIB as usize];
    crate::pattern::Pattern::new(11).fill(&mut large);
    let _nginx = nginx(&world.lab, &[("small", b"a small page\n"), ("large", &large)]);
    let curl = |args: &[&str]| {
        let always = ["curl", "-sS", "--fail", "--max-time", "30"];
        world.lab.run_in(Place::Client, &[&always[..], args].concat())
    };
    for host in [VIP.to_owned(), format!("[{VIP6}]")] {
        assert_eq!(curl(&[&format!("http://{host}/small")]), "a small page\n");
    }
    // Three requests over one connection.
    let url = format!("http://{VIP}/small");
    let count = curl(&["-w", "%{num_connects}\n", &url, &url, &url]);
    let connects: u32 = count.lines().filter_map(|l| l.trim().parse::<u32>().ok()).sum();
    assert_eq!(connects, 1, "{count}");
    let to = world.lab.dir.path().join("downloaded").display().to_string();
    curl(&["-o", &to, &format!("http://{VIP}/large")]);
    assert!(fs::read(&to).unwrap() == large, "the download differs");
    world.stop();
}

#[test]
fn a_thousand_connections_at_the_same_time() {
    let world = World::new();
    let role = format!("echo {VIP}:7000 1000 32768 21");
    world.lab.client(&role, Duration::from_secs(60));
    let (a, b) = world.stop();
    assert!(a.contains("1000 client connections"), "{a}");
    assert!(!a.contains("connection refused") && !b.contains("stream of a peer refused"));
}

#[test]
fn one_gibibyte_up() {
    let world = World::new();
    world.lab.client(&format!("upload {VIP}:7000 {GIB} 31"), Duration::from_secs(90));
    world.stop();
}

#[test]
fn one_gibibyte_down() {
    let world = World::new();
    world.lab.client(&format!("download {VIP}:7000 {GIB} 32"), Duration::from_secs(90));
    world.stop();
}

#[test]
fn ipv6_from_the_client_and_between_the_gateways() {
    let mut a = SiteOptions::a();
    a.other = "fd00:9::2".into();
    let mut b = SiteOptions::b();
    b.other = "fd00:9::1".into();
    let world = World::with(&a, &b);
    // Site B's gateway talks to the service over IPv6 too.
    world.site_b.object(
        "export-echo.yaml",
        "kind: Export\nmetadata: { name: echo, namespace: demo }\nspec: { host: \"fd00:2::2\", \
         port: 7000 }\n",
    );
    let mut world = world;
    world.b.signal("HUP");
    world.b.wait_for("reloaded", Duration::from_secs(5));
    let capture = crate::wire::Capture::start(&world.lab);
    let address = format!("[{VIP6}]:7000");
    world.lab.client(&format!("upload {address} {} 41", 20 * MIB), Duration::from_secs(30));
    world.lab.client(&format!("download {address} {} 42", 20 * MIB), Duration::from_secs(30));
    world.lab.client(&format!("echo {address} 50 20000 43"), Duration::from_secs(30));
    let filter = ["tcp", "and", "not", "ip6"];
    assert_eq!(capture.stop().frames(&filter), 0, "IPv4 between the gateways");
    world.stop();
}

#[test]
fn twenty_megabytes_over_a_line_with_delay_and_loss() {
    let lab = Lab::with_line();
    // 10 ms in either direction; 50 of 10,000 frames get lost.
    let mut line = lab.endpoint("line", Place::Line, "line 10 50 1");
    line.wait_for("listening", Duration::from_secs(20));
    let world = World::within(lab, &SiteOptions::a(), &SiteOptions::b());
    for (direction, bytes) in [("download", 20_000_000), ("upload", 2_000_000)] {
        let begun = Instant::now();
        let role = format!("{direction} {VIP}:7000 {bytes} 51");
        world.lab.client(&role, Duration::from_secs(150));
        let (outcome, ms) = world.lab.attempt(&format!("{VIP}:7000"));
        println!("{direction} in {:?}, a byte there and back in {ms} ms", begun.elapsed());
        assert_eq!(outcome, "served");
        assert!(ms >= 20, "no delay: {ms} ms");
    }
    let report = line.text().lines().rfind(|l| l.starts_with("lost ")).map(str::to_owned);
    let lost: u64 = report.as_deref().and_then(|r| r.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    assert!(lost > 50, "the line was too good: {report:?}");
    world.stop();
}
