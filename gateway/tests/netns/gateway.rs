//! A running `clgw` in a namespace.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::lab::{Lab, Place, Process, eventually};
use crate::site::Site;

/// EAL takes a quarter of a second on an idle machine.
const READY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Gateway(Process);

impl Gateway {
    /// Starts without waiting.
    pub fn launch(lab: &Lab, name: &str, place: Place, site: &Site) -> Self {
        let config = site.config().display().to_string();
        Self(lab.spawn(name, place, &[env!("CARGO_BIN_EXE_clgw"), "run", "--config", &config]))
    }

    /// Starts and waits until it is ready.
    pub fn start(lab: &Lab, name: &str, place: Place, site: &Site) -> Self {
        let mut gateway = Self::launch(lab, name, place, site);
        gateway.wait_ready();
        gateway
    }

    pub fn wait_ready(&mut self) {
        self.0.wait_for(" ready ", READY);
    }

    /// What each of its workers has counted.
    pub fn counters(&mut self, workers: usize) -> Vec<serde_json::Value> {
        let all = |text: &str| -> Vec<serde_json::Value> {
            // A line that is not yet written to its end does not count.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            let stats = whole.lines().filter_map(|line| line.split_once(" counters={"));
            stats.map(|(_, rest)| serde_json::from_str(&format!("{{{rest}")).unwrap()).collect()
        };
        let before = all(&self.0.text()).len();
        self.0.signal("USR1");
        eventually("counters", READY, || {
            let mut all = all(&self.0.text());
            (all.len() == before + workers).then(|| all.split_off(before))
        })
    }

    /// Exit code of a gateway that ends by itself or was told to.
    pub fn exit_code(&mut self, within: Duration) -> i32 {
        self.0.wait(within).code().expect("ended by a signal")
    }

    /// Drains and ends; the whole log. Panics if it does not end with 0.
    pub fn stop(mut self) -> String {
        self.0.signal("TERM");
        let code = self.exit_code(Duration::from_secs(30));
        let text = self.0.text();
        assert_eq!(code, 0, "exit code of a drained gateway");
        // The log of a good end has no complaint of the shut-down itself.
        for complaint in ["were not given back", "does not stop", "panicked"] {
            assert!(!text.contains(complaint), "{complaint}:\n{text}");
        }
        text
    }
}

impl Deref for Gateway {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}
