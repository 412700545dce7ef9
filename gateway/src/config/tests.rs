//! Whole files: good ones, every error at once, and anything at all.

use std::path::Path;

use clgw_policy::Diagnostic;
use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../../configs/gateway.yaml");
const SITE_A: &str = include_str!("../../../configs/demo/site-a/gateway.yaml");
const SITE_B: &str = include_str!("../../../configs/demo/site-b/gateway.yaml");

/// Only what has no default.
const MINIMAL: &str = r#"
peer: {name: site-a}
tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
ports:
  - {name: p0, device: "0000:01:10.0", side: both, addresses: [10.1.0.1/24]}
"#;

fn host() -> Host {
    Host { cpus: vec![0, 1, 2, 3] }
}

fn load_text(text: &str) -> Loaded {
    parse(Path::new("dir/gateway.yaml"), text, &host())
}

fn good(text: &str) -> GatewayConfig {
    let loaded = load_text(text);
    assert_eq!(loaded.diagnostics, Vec::<Diagnostic>::new());
    loaded.config.unwrap()
}

/// `line:column field: message | hint` for every finding.
fn findings(text: &str) -> Vec<String> {
    let loaded = load_text(text);
    assert_eq!(loaded.config.is_none(), !loaded.diagnostics.is_empty());
    loaded
        .diagnostics
        .iter()
        .map(|d| {
            assert_eq!(d.file, "dir/gateway.yaml");
            format!("{}:{} {}: {} | {}", d.line, d.column, d.field, d.message, d.hint)
        })
        .collect()
}

/// The one finding of [`MINIMAL`] with `more` behind it.
fn finding(more: &str) -> String {
    let found = findings(&format!("{MINIMAL}{more}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

/// Without the positions, which differ when lines are removed.
fn without_places(mut config: GatewayConfig) -> GatewayConfig {
    config.peer.name_at = Place::default();
    for vip in &mut config.vips {
        vip.at = Place::default();
    }
    config
}

#[test]
fn a_minimal_file_has_every_default() {
    let config = without_places(good(MINIMAL));
    let wanted = GatewayConfig {
        file: "dir/gateway.yaml".into(),
        peer: PeerConfig {
            name: "site-a".to_owned(),
            name_at: Place::default(),
            labels: BTreeMap::new(),
        },
        tls: TlsConfig {
            ca: "dir/ca.pem".into(),
            cert: "dir/cert.pem".into(),
            key: "dir/key.pem".into(),
            crypto: Crypto::Ring,
        },
        objects: "dir/objects/".into(),
        workers: WorkersConfig { cpus: vec![3], idle: IdlePolicy::Poll, handshake_threads: 1 },
        eal: EalSettings {
            hugepages: Hugepages::Auto,
            memory_mib: 256,
            file_prefix: "clgw-site-a".to_owned(),
            extra: Vec::new(),
        },
        ports: vec![PortConfig {
            name: "p0".to_owned(),
            device: Device::Pci("0000:01:10.0".to_owned()),
            side: Side::Both,
            mtu: 1_500,
            addresses: vec!["10.1.0.1/24".parse().unwrap()],
            routes: Vec::new(),
        }],
        tunnel: TunnelConfig { port: 4443, warm: 2, max_idle: 16 },
        vips: Vec::new(),
        buffers: BufferSizes { service: 64 << 10, peer: 256 << 10, worker: 512 << 20 },
        congestion: Controllers { service: Congestion::Cubic, peer: Congestion::Bbr },
        drain: DrainConfig { deadline: Duration::from_secs(30) },
        log: LogConfig { level: LogLevel::Info, format: LogFormat::Text },
    };
    assert_eq!(config, wanted);
}

#[test]
fn the_commented_example_says_the_truth_about_defaults() {
    let whole = without_places(good(EXAMPLE));
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let defaults: Vec<usize> =
        (0..lines.len()).filter(|i| lines[*i].trim_end().ends_with("# default")).collect();
    assert_eq!(defaults.len(), 22, "a default was added or removed: change this number too");
    for skip in &defaults {
        let without: Vec<&str> =
            lines.iter().enumerate().filter(|(i, _)| i != skip).map(|(_, l)| *l).collect();
        let config = without_places(good(&without.join("\n")));
        assert_eq!(config, whole, "not the default: {}", lines[*skip]);
    }
    let bare: Vec<&str> =
        lines.iter().enumerate().filter(|(i, _)| !defaults.contains(i)).map(|(_, l)| *l).collect();
    assert_eq!(without_places(good(&bare.join("\n"))), whole);
}

#[test]
fn every_key_is_in_the_commented_example() {
    // An unknown key makes the reader list the known ones: the list of each section is compared
    // with what the example shows.
    for (section, probe) in [
        ("", "zzzzzzzz: 1\n".to_owned()),
        ("peer", "peer: {zzzzzzzz: 1}\n".to_owned()),
        ("tls", "tls: {zzzzzzzz: 1}\n".to_owned()),
        ("workers", "workers: {zzzzzzzz: 1}\n".to_owned()),
        ("eal", "eal: {zzzzzzzz: 1}\n".to_owned()),
        ("ports", "ports: [{zzzzzzzz: 1}]\n".to_owned()),
        ("tunnel", "tunnel: {zzzzzzzz: 1}\n".to_owned()),
        ("vips", "vips: [{zzzzzzzz: 1}]\n".to_owned()),
        ("buffers", "buffers: {zzzzzzzz: 1}\n".to_owned()),
        ("congestion", "congestion: {zzzzzzzz: 1}\n".to_owned()),
        ("drain", "drain: {zzzzzzzz: 1}\n".to_owned()),
        ("log", "log: {zzzzzzzz: 1}\n".to_owned()),
    ] {
        let found = findings(&probe);
        let known = found
            .iter()
            .find_map(|f| f.split_once("known here: ").map(|(_, keys)| keys.to_owned()))
            .unwrap_or_else(|| panic!("{section}: {found:#?}"));
        for key in known.split(", ") {
            let shown = EXAMPLE.lines().any(|line| {
                let line = line.trim_start_matches([' ', '-', '#']);
                line.starts_with(&format!("{key}:"))
                    || line.contains(&format!("{{ {key}:"))
                    || line.contains(&format!(", {key}:"))
            });
            assert!(shown, "{section}.{key} is missing in configs/gateway.yaml");
        }
    }
}

#[test]
fn the_demo_sites_load() {
    let a = good(SITE_A);
    assert_eq!(a.workers.idle, IdlePolicy::Sleep);
    assert_eq!(a.ports[0].device.argument("iface"), Some("svc0"));
    assert_eq!(a.ports[0].device.name(), "net_af_packet0");
    assert_eq!(a.vips.len(), 3);
    assert_eq!(a.tls.ca, Path::new("dir/../cert.pem"));
    let b = good(SITE_B);
    assert_eq!(b.peer.name, "site-b");
    assert_ne!(a.eal.file_prefix, b.eal.file_prefix);
}

#[test]
fn workers_are_idle_as_they_are_told() {
    use IdlePolicy::{Interrupt, Poll, Sleep};
    for (text, wanted) in [("poll", Poll), ("sleep", Sleep), ("interrupt", Interrupt)] {
        let config = good(&format!("{MINIMAL}workers: {{idle: {text}}}\n"));
        assert_eq!(config.workers.idle, wanted);
    }
}

#[test]
fn all_errors_come_at_once_with_their_places() {
    let text = r#"peer:
  name: Site_A
  labels: {env: true, "a/b": 1}
tls: {ca: ca.pem, cert: "", crypto: openssl}
objects: [a]
workers:
  count: 2
  cpus: [1, 1, 9, x]
  idle: snooze
eal:
  hugepages: "yes"
  memory_mib: 1
  file_prefix: a/b
  extra: ["--lcores=1", "-m512", "--log-level", 7]
ports:
  - name: p0
    device: eth0
    side: left
    mtu: 900
    addresses: [10.1.0.1, 10.1.0.0/24, 224.0.0.1/24, nonsense]
    routes: [{to: 10.9.0.1/8, via: 10.1.0.9}, {to: 10.0.0.0/8}]
  - name: p0
    device: net_af_packet0
    speed: 10
    side: peer
    addresses: []
  - 5
tunnel: {port: 0, warm: 20, max_idle: 10, prot: 1}
vips:
  - {import: db, address: 10.1.0.100/24}
  - {import: shop/db, address: 127.0.0.1}
buffers: {service_kib: 7, peer_kib: 31, worker_mib: 15}
buffers: {}
congestion: {service: reno, peer: 1}
drain: {deadline: 30}
log: {level: loud, format: xml, colour: yes}
extra: 1
"#;
    let wanted = include_str!("tests/errors.txt");
    assert_eq!(findings(text).join("\n") + "\n", wanted);
}

#[test]
fn rules_between_fields_have_their_places() {
    let text = r#"peer: {name: site-a}
tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
workers: {count: 5}
ports:
  - name: a
    device: net_af_packet0,iface=x
    side: service
    mtu: 9000
    addresses: [10.1.0.1/24, 10.1.0.2/24]
    routes:
      - {to: 0.0.0.0/0, via: 10.2.0.1}
      - {to: 0.0.0.0/0, via: 10.1.0.1}
      - {to: "::/0", via: 10.1.0.254}
  - name: a
    device: net_af_packet0,iface=y
    side: service
    addresses: [10.1.0.1/24, 10.1.0.3/24]
  - name: c
    device: 01:10.0
    side: peer
    addresses: [192.0.2.1/24]
    routes: [{to: 198.51.100.0/24, via: 192.0.2.9}]
  - {name: d, device: "0000:01:10.0", side: peer, addresses: [192.0.3.1/24]}
tunnel: {warm: 20}
vips:
  - {import: shop/db, address: 10.1.0.1}
  - {import: shop/db, address: 10.1.0.100}
  - {import: shop/db, address: 10.1.0.100}
  - {import: shop/web, address: 10.1.0.100}
  - {import: shop/web, address: 192.0.2.77}
  - {import: shop/web, address: 192.0.2.9}
  - {import: shop/web, address: 10.1.0.255}
  - {import: shop/web, address: 172.16.0.1}
"#;
    let wanted = include_str!("tests/rules.txt");
    assert_eq!(findings(text).join("\n") + "\n", wanted);
}

/// Who reads a gateway.yaml of another build learns what to do.
#[test]
fn a_library_that_was_not_built_is_no_unknown_word() {
    let with = |word| MINIMAL.replace("key.pem}", &format!("key.pem, crypto: {word}}}"));
    for crypto in Crypto::ALL {
        assert_eq!(good(&with(crypto.name())).tls.crypto, *crypto);
    }
    if !cfg!(feature = "aws-lc") {
        let found = findings(&with("aws-lc"));
        assert_eq!(
            found,
            [
                "3:57 tls.crypto: this clgw was built without aws-lc | write ring, or build one that \
              has it: cargo build --locked --release -p clgw --features aws-lc"
            ]
        );
    }
}

#[test]
fn both_sides_are_needed() {
    let text = MINIMAL.replace("both", "service");
    let found = findings(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("no port is on the peer side"), "{found:?}");
    let found = findings(&text.replace("service", "peer"));
    assert!(found[0].contains("no port is on the service side"), "{found:?}");
}

#[test]
fn broken_files_are_one_error_each() {
    for (text, message) in [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("peer: [", "not readable as YAML"),
        ("peer: a\n---\npeer: b\n", "not readable as YAML"),
        ("a: *b\n", "not readable as YAML"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "not readable as YAML"),
    ] {
        let found = findings(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:#?}");
        assert!(found[0].contains(message), "{text:?}: {found:#?}");
    }
    assert!(findings("- a\n")[0].contains("expected a mapping, found a list"));
}

#[test]
fn a_yaml_bomb_is_refused_quickly() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let alias = format!("*a{}, ", i - 1).repeat(10);
        text.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
    }
    assert!(findings(&text)[0].contains("not readable as YAML"));
    let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(findings(&deep)[0].contains("not readable as YAML"));
}

/// Also where nothing is read: below an unknown key, and in a place of the wrong type.
#[test]
fn repeated_keys_are_refused_everywhere() {
    let found = findings(&format!("{MINIMAL}extra: {{a: 1, a: 2}}\nobjects: {{b: 1, b: 2}}\n"));
    let places: Vec<_> = found.iter().map(|f| f.split(" | ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "6:1 extra: unknown key \"extra\"",
            "6:15 extra.a: the key is already set in line 6",
            "7:10 objects: expected text, found a mapping",
            "7:17 objects.b: the key is already set in line 7",
        ]
    );
}

#[test]
fn a_text_beyond_the_limit_is_not_read() {
    let long = "#".repeat(1 + limits::MAX_CONFIG_FILE as usize);
    let found = findings(&long);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("0:0 : the file has 16777217 bytes"), "{}", found[0]);
}

/// Swapped letters are the commonest slip.
#[test]
fn a_key_with_swapped_letters_is_recognised() {
    assert!(finding("tunnel: {wram: 1}").ends_with("did you mean `warm`?"));
    assert!(finding("log: {LEVEL: info}").ends_with("did you mean `level`?"));
}

#[test]
fn hugepage_words_are_words_and_no_booleans() {
    for (word, wanted) in
        [("on", Hugepages::On), ("off", Hugepages::Off), ("auto", Hugepages::Auto)]
    {
        assert_eq!(good(&format!("{MINIMAL}eal: {{hugepages: {word}}}\n")).eal.hugepages, wanted);
    }
    assert!(finding("eal: {hugepages: true}").contains("allowed: auto, on, off"));
}

#[test]
fn workers_get_cpus() {
    let cpus = |more: &str| good(&format!("{MINIMAL}workers: {more}\n")).workers.cpus;
    assert_eq!(cpus("{count: 2}"), [2, 3]);
    assert_eq!(cpus("{cpus: [1, 0]}"), [1, 0]);
    assert_eq!(cpus("{count: 1, cpus: [2]}"), [2]);
    assert!(finding("workers: {cpus: [7]}").contains("it may use: 0, 1, 2, 3"));
    assert!(finding("workers: {count: 65}").contains("allowed: 1 to 64"));
}

#[test]
fn durations_have_units() {
    let deadline = |text: &str| good(&format!("{MINIMAL}drain: {{deadline: {text}}}\n")).drain;
    for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
        assert_eq!(deadline(text).deadline, Duration::from_millis(millis));
    }
    assert_eq!(deadline("0s").deadline, Duration::ZERO);
    for bad in ["61m", "1d", "s", "1.5s", "\"1 s\"", "-1s", "99999999999999999999s"] {
        let found = findings(&format!("{MINIMAL}drain: {{deadline: {bad}}}\n"));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
    }
}

#[test]
fn devices_are_read_and_sized() {
    let device = |text: &str| {
        good(&MINIMAL.replace("\"0000:01:10.0\"", &format!("\"{text}\""))).ports[0].device.clone()
    };
    assert_eq!(device("0A:1f.7"), Device::Pci("0000:0a:1f.7".to_owned()));
    assert_eq!(device("0000:01:10.0,a=b"), Device::Pci("0000:01:10.0,a=b".to_owned()));
    let vdev = device("net_af_packet0,iface=x,framesz=9216");
    assert_eq!((vdev.name(), vdev.max_mtu()), ("net_af_packet0", Some(9_136)));
    assert_eq!(device("net_memif0,role=server").max_mtu(), None);
    let jumbo = MINIMAL
        .replace("\"0000:01:10.0\"", "\"net_af_packet0,iface=x,framesz=9216,blocksz=147456\"")
        .replace("side:", "mtu: 9000, side:");
    assert_eq!(good(&jumbo).ports[0].mtu, 9_000);
}

#[test]
fn point_to_point_links_may_use_both_addresses() {
    let config = good(&MINIMAL.replace("10.1.0.1/24", "10.1.0.0/31, \"fd00::/127\""));
    assert_eq!(config.ports[0].addresses.len(), 2);
}

#[test]
fn the_certificate_must_be_this_peers() {
    let config = good(MINIMAL);
    assert!(config.check_peer_name("site-a").is_ok());
    let error = config.check_peer_name("site-b").unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (2, "peer.name"));
    assert!(error.message.contains("site-a") && error.message.contains("site-b"));
}

fn import(name: &'static str, port: u16, target_port: u16) -> ImportPort<'static> {
    ImportPort { namespace: "shop", name, port, target_port }
}

#[test]
fn vips_and_imports_must_agree() {
    let config = good(&format!(
        "{MINIMAL}vips:\n- {{import: shop/db, address: 10.1.0.9}}\n\
         - {{import: shop/web, address: 10.1.0.9}}\n- {{import: shop/no, address: 10.1.0.8}}\n"
    ));
    let check = |imports: &[ImportPort<'static>]| -> Vec<String> {
        check_listeners(&config, imports.iter().copied())
            .into_iter()
            .map(|d| format!("{}: {}", d.line, d.message))
            .collect()
    };
    assert_eq!(
        check(&[import("db", 80, 80), import("web", 80, 81)]),
        [
            "8: 10.1.0.9 port 80 already belongs to the VIP in line 7",
            "9: there is no Import shop/no"
        ]
    );
    let all = [
        import("db", 80, 80),
        import("web", 81, 81),
        import("no", 82, 4443),
        import("x", 83, 4443),
        import("y", 84, 85),
        import("z", 85, 85),
    ];
    assert_eq!(
        check(&all),
        [
            "0: port 4443 takes tunnels, and Import shop/x listens there too",
            "0: the Imports shop/y and shop/z both listen on port 85 of the gateway's own addresses"
        ]
    );
    assert_eq!(check(&all[..3]), Vec::<String>::new());
}

#[test]
fn unreadable_files_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| load(path, &host()).diagnostics.remove(0);
    assert!(load(&dir.path().join("no.yaml")).hint.contains("check the path"));
    assert!(load(dir.path()).hint.contains("not its directory"));
    let latin = dir.path().join("latin.yaml");
    std::fs::write(&latin, b"peer:\n  name: \xe4\n").unwrap();
    let diagnostic = load(&latin);
    assert_eq!((diagnostic.line, diagnostic.hint.as_str()), (2, "save the file as UTF-8"));
    let large = dir.path().join("large.yaml");
    std::fs::File::create(&large).unwrap().set_len(limits::MAX_CONFIG_FILE + 1).unwrap();
    assert!(load(&large).message.contains("larger than"));
}

/// A line of the example replaced, removed, repeated or cut, some characters changed.
fn mutated() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), 0..4u8, "[ -~\\n]{0,12}");
    prop::collection::vec(change, 1..6).prop_map(|changes| {
        let mut text = EXAMPLE.to_owned();
        for (at, kind, insert) in changes {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.is_empty() {
                break;
            }
            let i = at.index(lines.len());
            match kind {
                0 => drop(lines.remove(i)),
                1 => lines.insert(i, lines[i].clone()),
                2 => lines[i] = format!("{insert}{}", lines[i]),
                _ => {
                    let middle = lines[i].len() / 2;
                    let head = lines[i].get(..middle).unwrap_or_default().to_owned();
                    lines[i] = head + &insert;
                }
            }
            text = lines.join("\n");
        }
        text
    })
}

/// Either a configuration or at least one error, and every error can be found in the file.
fn consistent(text: &str) {
    let loaded = load_text(text);
    assert_eq!(loaded.config.is_some(), loaded.diagnostics.is_empty(), "{text}");
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u64;
    for diagnostic in loaded.diagnostics {
        assert!(diagnostic.line <= lines + 1, "{diagnostic} in {text:?}");
        assert!(!diagnostic.message.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_examples_never_panic(text in mutated()) {
        consistent(&text);
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        consistent(&text);
    }

    #[test]
    fn random_yaml_never_panics(text in "([a-z]{1,6}:( [\\[\\]{}&*!|>'\"%@`,0-9a-z-]{0,8})?\n {0,4}){0,20}") {
        consistent(&text);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        consistent(&String::from_utf8_lossy(&bytes));
    }
}
