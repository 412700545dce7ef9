//! SIGINT, SIGTERM, SIGQUIT and SIGHUP, which a terminal sends that is closed: a flag that every
//! wait looks at, so that what was set up is taken down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// # Errors
    /// The signals cannot be handled.
    pub fn install() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGQUIT, SIGHUP] {
            // nohup is for runs that outlive the terminal.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .with_context(|| format!("signal {signal} cannot be handled"))?;
        }
        Ok(Self(flag))
    }

    /// For loops that look at it between bursts.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The user wants it to end.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.is_set(), "interrupted; namespaces and processes are taken away");
        Ok(())
    }
}

/// Whoever started this program wants it to ignore the signal (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
