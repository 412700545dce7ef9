//! The usual scenery: both gateways and the server's services.

use std::path::Path;

use crate::gateway::Gateway;
use crate::lab::{Lab, Place, Process};
use crate::site::{Site, SiteOptions};

/// Fields are dropped in order: processes before the namespaces they are in.
#[derive(Debug)]
pub struct World {
    pub a: Gateway,
    pub b: Gateway,
    /// Speaks [`crate::endpoint`]'s little language, at port 7000.
    pub echo: Process,
    pub greet: Process,
    pub site_a: Site,
    pub site_b: Site,
    pub lab: Lab,
}

impl World {
    pub fn new() -> Self {
        Self::with(&SiteOptions::a(), &SiteOptions::b())
    }

    pub fn with(a: &SiteOptions, b: &SiteOptions) -> Self {
        Self::within(Lab::new(), a, b)
    }

    pub fn within(lab: Lab, a: &SiteOptions, b: &SiteOptions) -> Self {
        let (echo, greet) = services(&lab);
        let root: &Path = lab.dir.path();
        let site_a = Site::importer(root, a);
        let site_b = Site::exporter(root, b);
        let mut gateway_a = Gateway::launch(&lab, "gateway-a", Place::SiteA, &site_a);
        let mut gateway_b = Gateway::launch(&lab, "gateway-b", Place::SiteB, &site_b);
        gateway_a.wait_ready();
        gateway_b.wait_ready();
        Self { a: gateway_a, b: gateway_b, echo, greet, site_a, site_b, lab }
    }

    /// Both gateways drain and end well. Their logs, A's first.
    pub fn stop(self) -> (String, String) {
        let Self { a, b, echo, greet, lab, .. } = self;
        let logs = (a.stop(), b.stop());
        drop((echo, greet, lab));
        logs
    }
}

/// The services that are processes of the whole test.
pub fn services(lab: &Lab) -> (Process, Process) {
    (lab.server("echo", "serve [::]:7000"), lab.server("greet", "greet [::]:7001"))
}
