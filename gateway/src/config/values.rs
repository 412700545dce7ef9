//! Text of one field to its value.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Refusal;
use super::{Crypto, Device, ImportRef};
use crate::fabric::name::NameError;

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

/// A library of cryptography. One that this build lacks is no unknown word.
pub(super) fn crypto(text: &str) -> Result<Crypto, Refusal> {
    match Crypto::named(text) {
        Some(crypto) => Ok(crypto),
        None if text == "aws-lc" => Err(Refusal::new(
            "this clgw was built without aws-lc",
            "write ring, or build one that has it: \
             cargo build --locked --release -p clgw --features aws-lc",
        )),
        None => Err(Refusal::new(format!("unknown value {text:?}"), "allowed: ring, aws-lc")),
    }
}

/// `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let wrong = || {
        Refusal::new(
            format!("{text:?} is not a duration"),
            "write a whole number and a unit: 500ms, 30s, 5m or 1h",
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// An interface address: host address and prefix length.
pub(super) fn interface_address(text: &str) -> Result<IpNet, Refusal> {
    let net: IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) if text.parse::<IpAddr>().is_ok() => {
            return Err(Refusal::new(
                format!("{text} has no prefix length"),
                format!("write the subnet's: {text}/{}", if text.contains(':') { 64 } else { 24 }),
            ));
        }
        Err(_) => {
            return Err(Refusal::new(
                format!("{text:?} is not an address with prefix length"),
                "write it like 10.1.0.1/24 or \"fd00:1::1/64\"",
            ));
        }
    };
    usable(net.addr())?;
    // RFC 3021 (/31) and RFC 6164 (/127) links use both addresses of their subnet.
    let has_reserved = net.prefix_len() + 1 < net.max_prefix_len();
    if has_reserved && net.addr() == net.network() {
        return Err(Refusal::new(
            format!("{text} is the subnet itself, not a host in it"),
            "use a host address of the subnet",
        ));
    }
    if has_reserved && net.addr().is_ipv4() && net.addr() == net.broadcast() {
        return Err(Refusal::new(
            format!("{text} is the broadcast address of its subnet"),
            "use a host address of the subnet",
        ));
    }
    Ok(net)
}

/// A destination prefix of a route.
pub(super) fn prefix(text: &str) -> Result<IpNet, Refusal> {
    let net: IpNet = text.parse().map_err(|_| {
        Refusal::new(
            format!("{text:?} is not a prefix"),
            "write it like 10.0.0.0/8, 0.0.0.0/0 or \"::/0\"",
        )
    })?;
    if net.addr() != net.network() {
        return Err(Refusal::new(
            format!("{text} has bits set behind its prefix"),
            format!("write {}", net.trunc()),
        ));
    }
    Ok(net)
}

/// An address of a host: unicast, neither loopback nor unspecified.
pub(super) fn host_address(text: &str) -> Result<IpAddr, Refusal> {
    let address: IpAddr = text.parse().map_err(|_| {
        let hint = if text.contains('/') {
            "write the address without a prefix length"
        } else {
            "write it like 10.1.0.100 or \"fd00:1::100\""
        };
        Refusal::new(format!("{text:?} is not an IP address"), hint)
    })?;
    usable(address)?;
    Ok(address)
}

fn usable(address: IpAddr) -> Result<(), Refusal> {
    let kind = match address {
        _ if address.is_unspecified() => "unspecified",
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
        _ => return Ok(()),
    };
    Err(Refusal::new(format!("{address} is {kind}"), "use a unicast address of the subnet"))
}

/// `namespace/name` of an Import.
pub(super) fn import_ref(text: &str) -> Result<ImportRef, Refusal> {
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    match text.split_once('/') {
        Some((namespace, name)) if label(namespace) && label(name) => {
            Ok(ImportRef { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(Refusal::new(
            format!("{text:?} does not name an Import"),
            "write namespace/name, as in shop/db",
        )),
    }
}

/// A DPDK device: PCI address or virtual device string.
pub(super) fn device(text: &str) -> Result<Device, Refusal> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Refusal::new(
            format!("{text:?} contains white space"),
            "device arguments are separated by commas only",
        ));
    }
    let (name, arguments) = match text.split_once(',') {
        Some((name, arguments)) => (name, arguments),
        None => (text, ""),
    };
    if let Some(address) = pci_address(name) {
        let separator = if arguments.is_empty() { "" } else { "," };
        return Ok(Device::Pci(format!("{address}{separator}{arguments}")));
    }
    let vdev = name.len() > 4
        && name.len() < 64
        && name.starts_with("net_")
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !vdev {
        return Err(Refusal::new(
            format!("{name:?} is neither a PCI address nor a DPDK network device"),
            "write a PCI address like 0000:01:10.0, or a virtual device like \
             net_af_packet0,iface=eth0",
        ));
    }
    let device = Device::Vdev(text.to_owned());
    if name.starts_with("net_af_packet") && device.argument("iface").is_none_or(str::is_empty) {
        return Err(Refusal::new(
            format!("{name} does not say which interface to use"),
            format!("add it: {name},iface=eth0"),
        ));
    }
    Ok(device)
}

/// `domain:bus:device.function` in hexadecimal; the domain may be left out. Returned in full and
/// in lower case, as EAL prints it.
fn pci_address(text: &str) -> Option<String> {
    let hex = |part: &str, len: usize| {
        (part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| part.to_ascii_lowercase())
    };
    let (address, function) = text.split_once('.')?;
    let parts: Vec<&str> = address.split(':').collect();
    let (domain, bus, slot) = match parts.as_slice() {
        [domain, bus, slot] => (hex(domain, 4)?, hex(bus, 2)?, hex(slot, 2)?),
        [bus, slot] => ("0000".to_owned(), hex(bus, 2)?, hex(slot, 2)?),
        _ => return None,
    };
    matches!(function, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7")
        .then(|| format!("{domain}:{bus}:{slot}.{function}"))
}

/// Prefix of the files EAL makes for one process.
pub(super) fn file_prefix(text: &str) -> Result<String, Refusal> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if plain && text.len() <= 64 && !text.starts_with(['.', '-']) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        format!("{text:?} cannot be part of a file name"),
        "use at most 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
    ))
}

/// One word of `eal.extra`. What has a key of its own in gateway.yaml is refused: EAL would take
/// the last one or fail, and the configuration would say something else than what runs.
pub(super) fn eal_argument(text: &str) -> Result<String, Refusal> {
    const OWNED: &[(&str, &str)] = &[
        ("-l", "workers.cpus"),
        ("-c", "workers.cpus"),
        ("--lcores", "workers.cpus"),
        ("--main-lcore", "workers.cpus"),
        ("-m", "eal.memory_mib"),
        ("--socket-mem", "eal.memory_mib"),
        ("--no-huge", "eal.hugepages"),
        ("--in-memory", "eal.hugepages"),
        ("--file-prefix", "eal.file_prefix"),
        ("-a", "ports[].device"),
        ("--allow", "ports[].device"),
        ("-b", "ports[].device"),
        ("--block", "ports[].device"),
        ("--vdev", "ports[].device"),
        ("--no-pci", "ports[].device"),
        ("--proc-type", "nothing: a gateway is always a primary process"),
    ];
    if text.chars().any(|c| c.is_control()) {
        return Err(Refusal::new(format!("{text:?} contains control characters"), "remove them"));
    }
    let option = text.split('=').next().unwrap_or(text);
    for (name, key) in OWNED {
        // Short options may carry their value in the same word, as in -m512.
        let short = name.len() == 2 && !option.starts_with("--") && option.starts_with(name);
        if option == *name || short {
            return Err(Refusal::new(
                format!("{text:?} is set by the gateway itself"),
                format!("use {key} instead"),
            ));
        }
    }
    Ok(text.to_owned())
}
