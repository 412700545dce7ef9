//! Ports, from found to started, as types.
//!
//! `Port<Unconfigured>` can be asked what it can do and configured; `Port<Configured>` can be
//! started, which hands out the queues; `Port<Started>` can be watched and stopped, once its queues
//! are dropped. A port that goes away in any state is stopped and closed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::eal::{Eal, text_of};
use crate::error::{DpdkError, errno};
use crate::offload::{RxOffloads, TxOffloads};
use crate::pool::MbufPool;
use crate::queue::{QueueToken, RxQueue, TxQueue};
use crate::rss::{RssConfig, RssTypes};
use crate::testing::Wire;

/// A port nobody has configured yet.
#[derive(Debug)]
pub struct Unconfigured;

/// Queues are set up; nothing flows.
#[derive(Debug)]
pub struct Configured {
    config: PortConfig,
}

/// Packets flow.
#[derive(Debug)]
pub struct Started {
    config: PortConfig,
    queues: Arc<QueueToken>,
}

/// An Ethernet port.
#[derive(Debug)]
pub struct Port<S> {
    // Before the port itself, so that a dropped Started gives its token back first.
    state: S,
    inner: Arc<PortInner>,
}

/// The open device; shared by the port and its queues.
#[derive(Debug)]
pub(crate) struct PortInner {
    pub(crate) id: u16,
    pub(crate) name: String,
    /// DPDK wants control calls on one port one at a time.
    state: Mutex<PortState>,
    eal: Eal,
}

#[derive(Debug, Default)]
struct PortState {
    opened: bool,
    started: bool,
    // Order: the wire returns its mbufs to the pools.
    wire: Option<Arc<Wire>>,
    pools: Vec<MbufPool>,
}

/// What a port is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    pub name: String,
    /// The poll mode driver: `net_af_packet`, `net_iavf`.
    pub driver: String,
    pub mac: Option<[u8; 6]>,
    pub max_rx_queues: u16,
    pub max_tx_queues: u16,
    pub min_mtu: u16,
    /// Largest MTU that may be configured. `net_af_packet` states 1500 whatever its frame size is:
    /// for more, leave [`PortConfig::mtu`] at `None` and give the device `framesz`.
    pub max_mtu: u16,
    pub rx_offloads: RxOffloads,
    pub tx_offloads: TxOffloads,
    /// Segments one sent packet may have; `None`: the driver states no limit.
    pub tx_segments_max: Option<u16>,
    /// Entries of the redirection table; 0: none that can be read or written.
    pub reta_size: u16,
    /// Bytes of the RSS key; 0: the driver does not say. Some of those take one of 40 bytes all the
    /// same: [`Port::set_rss`] tries it, and [`Port::rss`] tells what came of it.
    pub rss_key_len: u8,
    pub rss_types: RssTypes,
    /// Data room below which the driver refuses a receive pool, headroom included.
    pub min_rx_buffer: u32,
    pub numa: Option<u16>,
}

/// What to configure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive and send queues come in pairs, one per worker: both numbers are the same.
    pub rx_queues: u16,
    pub tx_queues: u16,
    /// Descriptors per queue; moved into the driver's range.
    pub rx_desc: u16,
    pub tx_desc: u16,
    /// `None` leaves the driver's.
    pub mtu: Option<u16>,
    pub rx_offloads: RxOffloads,
    pub tx_offloads: TxOffloads,
    /// `None`: no RSS, all packets arrive where the driver wants.
    pub rss: Option<RssConfig>,
    /// Receive frames for any MAC address.
    pub promiscuous: bool,
    /// Prepare [`RxInterrupts`](crate::idle::RxInterrupts).
    pub rx_interrupts: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: None,
            rx_offloads: RxOffloads::NONE,
            tx_offloads: TxOffloads::NONE,
            rss: None,
            promiscuous: false,
            rx_interrupts: false,
        }
    }
}

/// A port that could not be stopped; it is still running.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StopError {
    pub port: Port<Started>,
    #[source]
    pub error: DpdkError,
}

impl PortInner {
    fn lock(&self) -> std::sync::MutexGuard<'_, PortState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one control call under the port's lock.
    pub(crate) fn control<T>(&self, call: impl FnOnce(u16) -> T) -> T {
        let _one_at_a_time = self.lock();
        call(self.id)
    }
}

impl<S> Port<S> {
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// # Errors
    /// The device is gone (hot unplug).
    pub fn info(&self) -> Result<PortInfo, DpdkError> {
        // SAFETY: all fields are integers and byte arrays, for which zero is a value.
        let mut raw: dpdk_sys::clgw_port_info = unsafe { std::mem::zeroed() };
        // SAFETY: the port is open as long as self exists; room for the answer.
        let code = self.control(|id| unsafe { dpdk_sys::clgw_port_info(id, &mut raw) });
        self.checked("read capabilities of port", code, "Check that the device is still there")?;
        Ok(PortInfo {
            name: self.inner.name.clone(),
            driver: text_of(&raw.driver),
            mac: (raw.has_mac != 0).then_some(raw.mac),
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            min_mtu: raw.min_mtu,
            max_mtu: raw.max_mtu,
            rx_offloads: RxOffloads::from_bits(raw.rx_offloads),
            tx_offloads: TxOffloads::from_bits(raw.tx_offloads),
            tx_segments_max: (raw.tx_segs_max != 0).then_some(raw.tx_segs_max),
            reta_size: raw.reta_size,
            rss_key_len: raw.rss_key_len,
            rss_types: RssTypes::from_bits(raw.rss_types),
            min_rx_buffer: raw.min_rx_buf,
            numa: u16::try_from(raw.numa).ok(),
        })
    }

    /// # Errors
    /// The driver does not tell.
    pub fn mac(&self) -> Result<[u8; 6], DpdkError> {
        self.info()?.mac.ok_or_else(|| {
            DpdkError::refused(
                "read MAC address of port",
                self.name(),
                errno::ENOTSUP,
                "The driver has none; configure one in the gateway",
            )
        })
    }

    /// The MTU in force, bytes of IP packet.
    ///
    /// # Errors
    /// The driver does not tell.
    pub fn mtu(&self) -> Result<u16, DpdkError> {
        let mut mtu = 0u16;
        // SAFETY: an open port; room for the answer.
        let code = self.control(|id| unsafe { dpdk_sys::clgw_port_mtu(id, &mut mtu) });
        self.checked("read MTU of port", code, "Check that the device is still there")?;
        Ok(mtu)
    }

    pub(crate) fn control<T>(&self, call: impl FnOnce(u16) -> T) -> T {
        self.inner.control(call)
    }

    /// A negative return value as an error about this port, others as they are.
    pub(crate) fn checked(
        &self,
        op: &'static str,
        code: i32,
        hint: &str,
    ) -> Result<u32, DpdkError> {
        u32::try_from(code).map_err(|_| DpdkError::from_code(op, self.name(), code, hint))
    }
}

impl Port<Unconfigured> {
    /// For a port id that `eal` has marked as claimed.
    pub(crate) fn claimed(eal: Eal, id: u16, name: String) -> Self {
        let inner = PortInner { id, name, state: Mutex::default(), eal };
        Self { state: Unconfigured, inner: Arc::new(inner) }
    }

    pub(crate) fn with_wire(self, wire: Arc<Wire>) -> Self {
        let mut state = self.inner.lock();
        state.wire = Some(wire);
        // Must be closed before the rings it points to are freed, configured or not.
        state.opened = true;
        drop(state);
        self
    }

    /// Configures the port and sets up its queues. `pools` has one pool per receive queue, or one
    /// for all.
    ///
    /// # Errors
    /// What the device cannot do, named; the port is closed then.
    pub fn configure(
        self,
        mut config: PortConfig,
        pools: &[MbufPool],
    ) -> Result<Port<Configured>, DpdkError> {
        let op = "configure port";
        let info = self.info()?;
        check(&config, &info, pools)
            .map_err(|hint| DpdkError::refused(op, self.name(), errno::EINVAL, hint))?;
        let mut raw = dpdk_sys::clgw_port_conf {
            rx_queues: config.rx_queues,
            tx_queues: config.tx_queues,
            rx_desc: config.rx_desc,
            tx_desc: config.tx_desc,
            mtu: config.mtu.unwrap_or(0),
            rx_interrupts: u8::from(config.rx_interrupts),
            rss_key_len: 0,
            rss_types: 0,
            reserved: 0,
            rx_offloads: config.rx_offloads.bits(),
            tx_offloads: config.tx_offloads.bits(),
            rss_key: [0; dpdk_sys::CLGW_RSS_KEY_MAX],
        };
        if let Some(rss) = &config.rss {
            raw.rss_types = (rss.types & info.rss_types).bits();
            if let Some(key) = &rss.key {
                let key = key.resized(usize::from(info.rss_key_len))?;
                raw.rss_key[..key.as_bytes().len()].copy_from_slice(key.as_bytes());
                raw.rss_key_len = info.rss_key_len;
            }
        }
        {
            let mut state = self.inner.lock();
            state.opened = true;
            // Before the driver learns of the pools.
            state.pools.extend(pools.iter().cloned());
            if let Some(wire) = &state.wire {
                wire.keep_pools(pools);
            }
        }
        // SAFETY: an open, claimed port that is not started; the struct is read and written back.
        let code = self.control(|id| unsafe { dpdk_sys::clgw_port_configure(id, &mut raw) });
        self.checked(op, code, "See PortInfo for what the device can do")?;
        (config.rx_desc, config.tx_desc) = (raw.rx_desc, raw.tx_desc);
        for queue in 0..config.rx_queues {
            let pool = &pools[usize::from(queue) % pools.len()];
            // SAFETY: a configured port; the port's state keeps the pool until the port is closed.
            let code = self.control(|id| unsafe {
                dpdk_sys::clgw_rx_queue_setup(
                    id,
                    queue,
                    raw.rx_desc,
                    pool.as_ptr(),
                    raw.rx_offloads,
                )
            });
            self.checked(
                "set up receive queue of port",
                code,
                "The pool's data room may be too small for the device (PortInfo::min_rx_buffer), or \
                 the pool has fewer mbufs than the queues hold",
            )?;
            // SAFETY: a configured port.
            let code = self.control(|id| unsafe {
                dpdk_sys::clgw_tx_queue_setup(id, queue, raw.tx_desc, raw.tx_offloads)
            });
            self.checked("set up send queue of port", code, "Try fewer descriptors")?;
        }
        Ok(Port { state: Configured { config }, inner: self.inner })
    }
}

impl Port<Configured> {
    /// The configuration in force: descriptor numbers are what the device took.
    pub fn config(&self) -> &PortConfig {
        &self.state.config
    }

    /// Starts the port and hands out its queues, pair k for worker k.
    ///
    /// # Errors
    /// The device does not start, or refuses the RETA or promiscuous mode; the port is closed then.
    #[allow(clippy::type_complexity)]
    pub fn start(self) -> Result<(Port<Started>, Vec<(RxQueue, TxQueue)>), DpdkError> {
        let config = self.state.config.clone();
        let code = {
            let mut state = self.inner.lock();
            // SAFETY: a configured port that is not started; its pools are kept in its state.
            let code = unsafe { dpdk_sys::clgw_port_start(self.inner.id) };
            state.started = code == 0;
            code
        };
        self.checked(
            "start port",
            code,
            "Is the interface up, and in no other process's hands? Virtual devices on kernel \
             interfaces need CAP_NET_ADMIN",
        )?;
        let queues = Arc::new(QueueToken);
        let port = Port { state: Started { config, queues }, inner: self.inner };
        let config = &port.state.config;
        if config.promiscuous {
            // SAFETY: an open port.
            let code = port.control(|id| unsafe { dpdk_sys::clgw_port_promiscuous(id, 1) });
            let hint = "Set promiscuous to false; virtual devices deliver every frame anyway";
            port.checked("enable promiscuous mode of port", code, hint)?;
        }
        if let Some(reta) = config.rss.as_ref().and_then(|rss| rss.reta.as_ref()) {
            port.set_reta(reta)?;
        }
        let segments_max = port.info()?.tx_segments_max.unwrap_or(0);
        let pairs = (0..config.rx_queues).map(|queue| {
            let token = || Arc::clone(&port.state.queues);
            let rx = RxQueue::new(token(), Arc::clone(&port.inner), queue);
            let inner = Arc::clone(&port.inner);
            (rx, TxQueue::new(token(), inner, queue, config.tx_offloads, segments_max))
        });
        let pairs = pairs.collect();
        Ok((port, pairs))
    }
}

impl Port<Started> {
    /// The configuration in force.
    pub fn config(&self) -> &PortConfig {
        &self.state.config
    }

    /// How many queue pairs the port has.
    pub fn queues(&self) -> u16 {
        self.state.config.rx_queues
    }

    /// Stops the port. All queues must have been dropped: a driver that stops under a running burst
    /// frees what the burst works on.
    ///
    /// # Errors
    /// Queues still exist, or the driver failed; the port comes back and runs.
    // The port is handed back inside the error; stopping happens once, so its size does not matter.
    #[allow(clippy::result_large_err)]
    pub fn stop(mut self) -> Result<Port<Configured>, StopError> {
        // get_mut, not the count: it also waits for what the dropped handles did last.
        if Arc::get_mut(&mut self.state.queues).is_none() {
            let others = Arc::strong_count(&self.state.queues) - 1;
            let hint = format!("{others} of its queue handles still exist; drop them first");
            let error = DpdkError::refused("stop port", self.name(), errno::EBUSY, hint);
            return Err(StopError { port: self, error });
        }
        let code = {
            let mut state = self.inner.lock();
            // SAFETY: a started port without queue handles, so no burst runs and none can begin.
            let code = unsafe { dpdk_sys::clgw_port_stop(self.inner.id) };
            state.started = code != 0;
            code
        };
        match self.checked("stop port", code, "Drop the port to close it") {
            Ok(_) => {
                Ok(Port { state: Configured { config: self.state.config }, inner: self.inner })
            }
            Err(error) => Err(StopError { port: self, error }),
        }
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.opened {
            // SAFETY: the port and all its queues are gone, so nothing else uses the device.
            let code = unsafe {
                if state.started {
                    dpdk_sys::clgw_port_stop(self.id);
                }
                dpdk_sys::clgw_port_close(self.id)
            };
            if code != 0 {
                // The driver may still hold mbufs and rings: they stay, and so does the claim.
                std::mem::forget(std::mem::take(state));
                self.eal.mark_leaked();
                return;
            }
        }
        self.eal.release(self.id);
    }
}

/// What DPDK would refuse without saying why, or not refuse at all.
fn check(config: &PortConfig, info: &PortInfo, pools: &[MbufPool]) -> Result<(), String> {
    let queues = config.rx_queues;
    if queues == 0 || queues != config.tx_queues {
        return Err(format!(
            "rx_queues={queues} and tx_queues={} must be the same number, at least 1",
            config.tx_queues
        ));
    }
    let most = info.max_rx_queues.min(info.max_tx_queues);
    if queues > most {
        return Err(format!("{queues} queues are wanted and {} has {most}", info.driver));
    }
    if pools.len() != 1 && pools.len() != usize::from(queues) {
        return Err(format!(
            "{} pools were given for {queues} queues: one each, or one",
            pools.len()
        ));
    }
    if config.rx_desc == 0 || config.tx_desc == 0 {
        return Err("rx_desc and tx_desc must be above 0".into());
    }
    let missing = config.rx_offloads.without(info.rx_offloads);
    if !missing.is_empty() {
        return Err(format!(
            "{} cannot do the receive offloads {missing}; it has: {}",
            info.driver, info.rx_offloads
        ));
    }
    let missing = config.tx_offloads.without(info.tx_offloads);
    if !missing.is_empty() {
        return Err(format!(
            "{} cannot do the send offloads {missing}; it has: {}",
            info.driver, info.tx_offloads
        ));
    }
    if let Some(mtu) = config.mtu {
        check_mtu(mtu, config, info, pools)?;
    }
    if let Some(rss) = &config.rss {
        check_rss(rss, config, info)?;
    }
    Ok(())
}

fn check_mtu(
    mtu: u16,
    config: &PortConfig,
    info: &PortInfo,
    pools: &[MbufPool],
) -> Result<(), String> {
    if mtu < info.min_mtu || mtu > info.max_mtu {
        let recipe = if info.driver.contains("af_packet") {
            ". Jumbo frames on net_af_packet: leave the port's MTU unset, give the device \
             framesz=9216,blocksz=147456,framecnt=1024 and the pool a data room of 9216"
        } else {
            ""
        };
        return Err(format!(
            "mtu={mtu} is outside {}..={} of {}{recipe}",
            info.min_mtu, info.max_mtu, info.driver
        ));
    }
    // Ethernet header, one VLAN tag.
    let frame = u32::from(mtu) + 18;
    for pool in pools {
        if frame > u32::from(pool.data_room()) && !config.rx_offloads.contains(RxOffloads::SCATTER)
        {
            return Err(format!(
                "mtu={mtu} needs a data room of {frame} bytes and pool `{}` has {}: enlarge it, or \
                 receive in several segments with the offload `scatter`",
                pool.name(),
                pool.data_room()
            ));
        }
    }
    Ok(())
}

fn check_rss(rss: &RssConfig, config: &PortConfig, info: &PortInfo) -> Result<(), String> {
    if (rss.types & info.rss_types).is_empty() {
        return Err(format!(
            "{} hashes none of {} (it hashes: {}); leave rss unset and hand packets over between \
             workers in software",
            info.driver, rss.types, info.rss_types
        ));
    }
    if rss.key.is_some() && info.rss_key_len == 0 {
        return Err(format!(
            "{} does not say what RSS key it takes; leave the key unset and try Port::set_rss",
            info.driver
        ));
    }
    if let Some(reta) = &rss.reta {
        if reta.len() != usize::from(info.reta_size) {
            return Err(format!(
                "{} RETA entries were given and {} has {}",
                reta.len(),
                info.driver,
                info.reta_size
            ));
        }
        if let Some(bad) = reta.iter().find(|&&queue| queue >= config.rx_queues) {
            return Err(format!("The RETA names queue {bad} of {}", config.rx_queues));
        }
    }
    Ok(())
}
