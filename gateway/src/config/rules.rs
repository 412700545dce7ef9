//! Rules between the fields of a gateway.yaml.

use std::collections::HashMap;
use std::net::IpAddr;

use clgw_policy::yaml::Mark;
use ipnet::IpNet;

use super::reader::{At, Findings, Refusal};
use super::{Device, Host, ImportRef, Place, PortConfig, RouteConfig, Side, VipConfig, defaults};
use crate::limits;

/// Ports and VIPs as far as they could be read.
#[derive(Debug)]
pub(super) struct Draft {
    pub ports: Vec<DraftPort>,
    pub vips: Vec<DraftVip>,
}

#[derive(Debug)]
pub(super) struct DraftPort {
    pub path: String,
    pub mark: Mark,
    pub name: Option<At<String>>,
    pub device: Option<At<Device>>,
    pub side: Option<Side>,
    pub mtu: At<usize>,
    pub addresses: Vec<At<IpNet>>,
    /// The list is there and has nothing in it. Refused elements are something else.
    pub no_addresses: bool,
    pub routes: Vec<(At<IpNet>, At<IpAddr>)>,
}

#[derive(Debug)]
pub(super) struct DraftVip {
    pub import: At<ImportRef>,
    pub address: At<IpAddr>,
    pub at: Place,
}

impl Draft {
    /// The finished ports and VIPs; None if a port lacks something.
    pub fn finish(self) -> Option<(Vec<PortConfig>, Vec<VipConfig>)> {
        let ports = self
            .ports
            .into_iter()
            .map(|port| {
                Some(PortConfig {
                    name: port.name?.value,
                    device: port.device?.value,
                    side: port.side?,
                    mtu: port.mtu.value,
                    addresses: port.addresses.into_iter().map(|a| a.value).collect(),
                    routes: port
                        .routes
                        .into_iter()
                        .map(|(to, via)| RouteConfig { to: to.value, via: via.value })
                        .collect(),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let vips = self
            .vips
            .into_iter()
            .map(|vip| VipConfig {
                import: vip.import.value,
                address: vip.address.value,
                at: vip.at,
            })
            .collect();
        Some((ports, vips))
    }
}

/// All rules. `ports_at` is where errors about the list as a whole point, None if it is missing
/// and that has been said already.
pub(super) fn check(draft: &Draft, ports_at: Option<Mark>, f: &mut Findings) {
    if let Some(mark) = ports_at {
        sides(draft, mark, f);
    }
    unique(draft.ports.iter().filter_map(|p| p.name.as_ref()), |n| n.clone(), "port name", f);
    unique(
        draft.ports.iter().filter_map(|p| p.device.as_ref()),
        |d| d.name().to_owned(),
        "device",
        f,
    );
    for port in &draft.ports {
        mtu(port, f);
        if port.no_addresses {
            f.error(
                port.mark,
                format!("{}.addresses", port.path),
                "the port has no address",
                "give it at least one, as in [10.1.0.1/24]",
            );
        }
        routes(port, f);
    }
    addresses(draft, f);
    subnets(draft, f);
    vips(draft, f);
}

fn sides(draft: &Draft, mark: Mark, f: &mut Findings) {
    // A side that could not be read may be the missing one.
    if draft.ports.iter().any(|p| p.side.is_none()) {
        return;
    }
    let has = |wanted: fn(Side) -> bool| draft.ports.iter().any(|p| p.side.is_some_and(wanted));
    for (wanted, there) in [("service", has(Side::is_service)), ("peer", has(Side::is_peer))] {
        if !there {
            f.error(
                mark,
                "ports",
                format!("no port is on the {wanted} side"),
                format!("give one port `side: {wanted}`, or `side: both`"),
            );
        }
    }
    if draft.ports.len() > defaults::MAX_PORTS {
        f.error(
            mark,
            "ports",
            format!("{} ports are more than a gateway can have", draft.ports.len()),
            format!("use at most {}", defaults::MAX_PORTS),
        );
    }
}

fn unique<'a, T: 'a>(
    values: impl Iterator<Item = &'a At<T>>,
    key: impl Fn(&T) -> String,
    what: &str,
    f: &mut Findings,
) {
    let mut seen: HashMap<String, Mark> = HashMap::new();
    for at in values {
        let key = key(&at.value);
        if let Some(first) = seen.get(&key) {
            at.refuse(
                f,
                format!("the {what} {key:?} is already used in line {}", first.line),
                "every port needs its own",
            );
        } else {
            seen.insert(key, at.mark);
        }
    }
}

fn mtu(port: &DraftPort, f: &mut Findings) {
    let Some(max) = port.device.as_ref().and_then(|d| d.value.max_mtu()) else { return };
    if port.mtu.value > max {
        port.mtu.refuse(
            f,
            format!(
                "{} does not fit the device's frame size: longer frames would be cut, the limit \
                 is {max}",
                port.mtu.value
            ),
            "raise framesz in `device` (9216 with blocksz=147456 for jumbo frames), or lower mtu",
        );
    }
}

fn routes(port: &DraftPort, f: &mut Findings) {
    if port.routes.len() > limits::MAX_ROUTES {
        f.error(
            port.mark,
            format!("{}.routes", port.path),
            format!("{} routes are more than a port can have", port.routes.len()),
            format!("use at most {}", limits::MAX_ROUTES),
        );
    }
    let mut seen: HashMap<IpNet, Mark> = HashMap::new();
    for (to, via) in &port.routes {
        if let Some(first) = seen.get(&to.value) {
            to.refuse(
                f,
                format!("{} already has a route in line {}", to.value, first.line),
                "keep one route for each prefix of a port",
            );
        } else {
            seen.insert(to.value, to.mark);
        }
        if to.value.addr().is_ipv4() != via.value.is_ipv4() {
            via.refuse(
                f,
                format!("{} cannot be the way to {}: one is IPv4, one IPv6", via.value, to.value),
                "use a router address of the same family",
            );
            continue;
        }
        if port.addresses.iter().any(|a| a.value.addr() == via.value) {
            via.refuse(f, format!("{} is the port's own address", via.value), "name the router");
        } else if !port.addresses.iter().any(|a| a.value.contains(&via.value)) {
            via.refuse(
                f,
                format!("{} is in no subnet of this port", via.value),
                "a router must be reachable directly: correct it, or add an address of its subnet",
            );
        }
    }
}

fn addresses(draft: &Draft, f: &mut Findings) {
    let mut seen: HashMap<IpAddr, Mark> = HashMap::new();
    for at in draft.ports.iter().flat_map(|p| &p.addresses) {
        if let Some(first) = seen.get(&at.value.addr()) {
            at.refuse(
                f,
                format!("{} is already used in line {}", at.value.addr(), first.line),
                "every address belongs to one port",
            );
        } else {
            seen.insert(at.value.addr(), at.mark);
        }
    }
    let total = seen.len() + draft.vips.len();
    if total > limits::MAX_LOCAL_ADDRESSES
        && let Some(port) = draft.ports.first()
    {
        f.error(
            port.mark,
            "ports",
            format!("{total} addresses and VIPs are more than a gateway can have"),
            format!("use at most {}", limits::MAX_LOCAL_ADDRESSES),
        );
    }
}

/// Two ports of the same side in one subnet: which of them a packet leaves by would be chance.
fn subnets(draft: &Draft, f: &mut Findings) {
    for (i, port) in draft.ports.iter().enumerate() {
        let Some(side) = port.side else { continue };
        for other in &draft.ports[..i] {
            let Some(other_side) = other.side else { continue };
            let shared = (side.is_service() && other_side.is_service())
                || (side.is_peer() && other_side.is_peer());
            if !shared {
                continue;
            }
            let mut said: Vec<IpNet> = Vec::new();
            for at in &port.addresses {
                let subnet = at.value.trunc();
                let equal = other.addresses.iter().any(|o| o.value.addr() == at.value.addr());
                let twin = other.addresses.iter().find(|o| o.value.trunc() == subnet);
                // One complaint for each subnet, and an address on both ports has had its own.
                if let Some(twin) = twin
                    && !equal
                    && !said.contains(&subnet)
                {
                    said.push(subnet);
                    at.refuse(
                        f,
                        format!(
                            "the subnet {subnet} is already on another port of this side, in line {}",
                            twin.mark.line
                        ),
                        "put both addresses on one port, or use different subnets",
                    );
                }
            }
        }
    }
}

fn vips(draft: &Draft, f: &mut Findings) {
    if draft.vips.len() > defaults::MAX_VIPS
        && let Some(vip) = draft.vips.get(defaults::MAX_VIPS)
    {
        vip.import.refuse(
            f,
            format!("{} VIPs are more than a gateway can have", draft.vips.len()),
            format!("use at most {}", defaults::MAX_VIPS),
        );
    }
    let mut seen: HashMap<(&ImportRef, IpAddr), Mark> = HashMap::new();
    for vip in &draft.vips {
        let address = vip.address.value;
        if let Some(first) = seen.get(&(&vip.import.value, address)) {
            vip.address.refuse(
                f,
                format!(
                    "{} already has the VIP {address} in line {}",
                    vip.import.value, first.line
                ),
                "remove one of the two",
            );
        } else {
            seen.insert((&vip.import.value, address), vip.address.mark);
        }
        vip_address(draft, &vip.address, f);
    }
}

/// What a VIP cannot be; the first reason is enough.
fn vip_address(draft: &Draft, vip: &At<IpAddr>, f: &mut Findings) {
    let address = vip.value;
    let own = || draft.ports.iter().flat_map(|p| &p.addresses);
    if let Some(at) = own().find(|a| a.value.addr() == address) {
        vip.refuse(
            f,
            format!("{address} is the gateway's own address, in line {}", at.mark.line),
            "use a free address; an import without a VIP is reached at the gateway's own ones",
        );
        return;
    }
    if let Some(at) = own().find(|a| a.value.contains(&address) && reserved(&a.value, address)) {
        vip.refuse(
            f,
            format!("{address} is no host address of the subnet {}", at.value.trunc()),
            "use a host address",
        );
        return;
    }
    let router = draft.ports.iter().flat_map(|p| &p.routes).find(|(_, v)| v.value == address);
    if let Some((_, via)) = router {
        vip.refuse(
            f,
            format!("{address} is a router of this gateway, in line {}", via.mark.line),
            "use a free address",
        );
        return;
    }
    let on = |wanted: fn(Side) -> bool| {
        draft.ports.iter().any(|p| {
            p.side.is_some_and(wanted) && p.addresses.iter().any(|a| a.value.contains(&address))
        })
    };
    if on(Side::is_peer) && !on(Side::is_service) {
        vip.refuse(
            f,
            format!("{address} is in a subnet of the peer side, where no clients are"),
            "use an address of a service-side subnet, or one that is routed to the gateway",
        );
    }
}

fn reserved(subnet: &IpNet, address: IpAddr) -> bool {
    subnet.prefix_len() + 1 < subnet.max_prefix_len()
        && (address == subnet.network() || (address.is_ipv4() && address == subnet.broadcast()))
}

/// CPUs of the workers, one each. `listed` counts also those that could not be read.
pub(super) fn worker_cpus(
    count: &At<usize>,
    listed: usize,
    cpus: Vec<At<usize>>,
    host: &Host,
    f: &mut Findings,
) -> Vec<usize> {
    let list = || host.cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if listed == 0 {
        if count.value > host.cpus.len() {
            count.refuse(
                f,
                format!(
                    "{} workers need {0} CPUs, and this process may use {}",
                    count.value,
                    host.cpus.len()
                ),
                "lower count, or give the process more CPUs",
            );
        }
        return host.cpus.iter().rev().take(count.value).rev().copied().collect();
    }
    if listed != count.value {
        count.refuse(
            f,
            format!("{} workers cannot have {listed} CPUs", count.value),
            "list one CPU for each worker, or leave out count or cpus",
        );
    }
    for (i, cpu) in cpus.iter().enumerate() {
        if cpus[..i].iter().any(|c| c.value == cpu.value) {
            cpu.refuse(
                f,
                format!("CPU {} is listed twice", cpu.value),
                "two workers on one CPU would only take turns: give each its own",
            );
        }
        if !host.cpus.contains(&cpu.value) {
            cpu.refuse(
                f,
                format!("this process cannot run on CPU {}", cpu.value),
                format!("it may use: {}", list()),
            );
        }
    }
    cpus.into_iter().map(|c| c.value).collect()
}

/// A peer label as it can appear in an attribute that other gateways accept.
pub(super) fn label(key: &str, value: &str) -> Result<(), Refusal> {
    const PREFIX: usize = "peer.clusterlink.net/labels.".len();
    if key.trim().is_empty() || key.chars().chain(value.chars()).any(char::is_control) {
        return Err(Refusal::new(
            "a label needs a name, and no control characters",
            "write it like env: prod",
        ));
    }
    if PREFIX + key.len() > limits::TUNNEL_MAX_ATTRIBUTE_LEN
        || value.len() > limits::TUNNEL_MAX_ATTRIBUTE_LEN
    {
        return Err(Refusal::new(
            "the label is too long for other gateways",
            format!(
                "use at most {} bytes for the name and {} for the value",
                limits::TUNNEL_MAX_ATTRIBUTE_LEN - PREFIX,
                limits::TUNNEL_MAX_ATTRIBUTE_LEN
            ),
        ));
    }
    Ok(())
}
