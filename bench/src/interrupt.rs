//! SIGINT and SIGTERM: a flag that every wait looks at, so that what was set up is taken down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};

#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// # Errors
    /// The signals cannot be handled.
    pub fn install() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
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
