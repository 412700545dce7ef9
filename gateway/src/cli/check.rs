//! `clgw check`: everything `clgw run` reads, without starting anything.

use std::path::PathBuf;

use clgw_policy::{Fabric, Severity};
use time::OffsetDateTime;

use super::output;
use crate::config::{self, GatewayConfig, Host};
use crate::control;
use crate::lifecycle::ExitCode;
use crate::tls::Identity;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gateway.yaml to check.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON document with every finding instead.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = config::load(&args.config, &Host::read());
    let mut findings = loaded.diagnostics;
    // A wrong gateway.yaml does not keep the other files from being checked: all errors in one go.
    let fabric = loaded.objects.as_deref().and_then(|d| control::objects(d, &mut findings));
    let identity = loaded.tls.as_ref().and_then(|t| control::identity(t, &mut findings));
    if let Some(config) = &loaded.config {
        control::check_together(config, fabric.as_ref(), identity.as_ref(), &mut findings);
    }
    if args.json {
        let complete = loaded.config.is_some() && fabric.is_some() && identity.is_some();
        let mut document = output::findings_json(&findings);
        let valid = complete && output::counts(&findings).0 == 0;
        document.insert("valid".to_owned(), valid.into());
        output::json(&document.into());
        return if valid { ExitCode::Ok } else { ExitCode::Configuration };
    }
    output::diagnostics(&findings);
    match (loaded.config, fabric, identity) {
        (Some(config), Some(fabric), Some(identity))
            if findings.iter().all(|d| d.severity != Severity::Error) =>
        {
            summary(&config, &fabric, &identity);
            ExitCode::Ok
        }
        _ => ExitCode::Configuration,
    }
}

fn summary(config: &GatewayConfig, fabric: &Fabric, identity: &Identity) {
    let until = OffsetDateTime::from_unix_timestamp(identity.not_after())
        .map_or_else(|_| "an unknown date".to_owned(), |t| t.date().to_string());
    output::line(format_args!("{}: good", config.file.display()));
    output::line(format_args!("  peer     {}, certificate valid until {until}", config.peer.name));
    for port in &config.ports {
        let addresses: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
        output::line(format_args!(
            "  port     {} ({} side, MTU {}): {} on {}",
            port.name,
            port.side,
            port.mtu,
            addresses.join(", "),
            port.device
        ));
    }
    let cpus: Vec<String> = config.workers.cpus.iter().map(ToString::to_string).collect();
    output::line(format_args!("  workers  {} on CPU {}", config.workers.count(), cpus.join(", ")));
    for vip in &config.vips {
        output::line(format_args!("  vip      {} for {}", vip.address, vip.import));
    }
    output::line(format_args!(
        "  objects  {} peers, {} exports, {} imports, {} policies, {} workloads in {}",
        fabric.peers().len(),
        fabric.exports().len(),
        fabric.imports().len(),
        fabric.policies().len(),
        fabric.workloads().len(),
        config.objects.display()
    ));
}
