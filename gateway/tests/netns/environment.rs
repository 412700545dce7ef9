//! Machines and files that are not as they should be: a precise message, the right exit code, and
//! nothing left behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::lab::{Lab, Place};
use crate::site::{Site, SiteOptions, VIP};
use crate::world::World;

const WITHIN: Duration = Duration::from_secs(20);
const CONFIGURATION: i32 = 3;
const ENVIRONMENT: i32 = 4;

/// Starts a gateway that must fail, and returns what it wrote.
fn failing(lab: &Lab, site: &Site, code: i32) -> String {
    let mut gateway = Gateway::launch(lab, "failing", Place::SiteA, site);
    let got = gateway.exit_code(WITHIN);
    let text = gateway.text();
    assert_eq!(got, code, "{text}");
    assert!(!text.contains(" ready ") && !text.contains("panicked"), "{text}");
    text
}

fn site_alone(edit: impl FnOnce(&Site)) -> (Lab, Site) {
    let lab = Lab::new();
    let root: &Path = lab.dir.path();
    let site = Site::importer(root, &SiteOptions::a());
    edit(&site);
    (lab, site)
}

#[test]
fn an_interface_that_does_not_exist() {
    let (lab, site) = site_alone(|site| site.edit_config("iface=svc0", "iface=nosuch0"));
    let text = failing(&lab, &site, ENVIRONMENT);
    assert!(text.contains("service0") && text.contains("nosuch0"), "{text}");
    // The interfaces that do exist are as they were.
    let links = lab.ip(Place::SiteA, &["-br", "link"]);
    assert!(links.contains("svc0") && links.contains("wan0"), "{links}");
    assert!(!links.contains("PROMISC"), "{links}");
}

#[test]
fn a_key_that_cannot_be_read() {
    let (lab, site) = site_alone(|site| {
        // Root may read any file, but no file is a directory.
        fs::remove_file(site.dir.join("key.pem")).unwrap();
        fs::create_dir(site.dir.join("key.pem")).unwrap();
    });
    let text = failing(&lab, &site, CONFIGURATION);
    assert!(text.contains("key.pem"), "{text}");
    fs::remove_dir(site.dir.join("key.pem")).unwrap();
    let text = failing(&lab, &site, CONFIGURATION);
    assert!(text.contains("key.pem"), "{text}");
}

#[test]
fn a_key_of_another_certificate() {
    let (lab, site) = site_alone(|_| {});
    let other = Site::exporter(lab.dir.path(), &SiteOptions::b());
    fs::copy(other.dir.join("key.pem"), site.dir.join("key.pem")).unwrap();
    let text = failing(&lab, &site, CONFIGURATION);
    assert!(text.contains("key.pem") && text.contains("does not belong"), "{text}");
}

#[test]
fn more_hugepages_than_the_machine_has() {
    let (lab, site) = site_alone(|site| {
        site.edit_config("hugepages: auto", "hugepages: on, memory_mib: 1000000");
    });
    let text = failing(&lab, &site, ENVIRONMENT);
    assert!(text.contains("nr_hugepages") && text.contains("hugepages: off"), "{text}");
}

#[test]
fn more_workers_than_the_device_has_queues() {
    let (lab, site) = site_alone(|site| {
        site.edit_config("idle: sleep", "idle: sleep\n  count: 2\n  cpus: [0, 1]");
    });
    let text = failing(&lab, &site, ENVIRONMENT);
    assert!(text.contains("1 queue") && text.contains("workers"), "{text}");
}

#[test]
fn gateways_with_the_same_file_prefix_do_not_meet() {
    // With EAL's memory in no file there is nothing that the prefix could name.
    let mut a = SiteOptions::a();
    a.file_prefix = "same".into();
    let mut b = SiteOptions::b();
    b.file_prefix = "same".into();
    let world = World::with(&a, &b);
    world.lab.client(&format!("echo {VIP}:7000 10 50000 81"), WITHIN);
    world.stop();
}

#[test]
fn normal_pages_do_as_well() {
    let mut a = SiteOptions::a();
    a.hugepages = "off";
    let mut b = SiteOptions::b();
    b.hugepages = "off";
    let world = World::with(&a, &b);
    world.lab.client(&format!("echo {VIP}:7000 10 50000 82"), WITHIN);
    let (a, b) = world.stop();
    assert!(a.contains("hugepages=false") && b.contains("hugepages=false"), "{a}");
}
