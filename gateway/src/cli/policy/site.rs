//! SITE arguments: a directory of objects, or a gateway.yaml that names one.

use std::path::{Path, PathBuf};

use clgw_policy::connection::Site;
use clgw_policy::names;
use clgw_policy::yaml::nearest;
use clgw_policy::{Diagnostic, Fabric, Labels, LocalPeer, ObjectName, PeerLabels, Severity};

use crate::cli::output;
use crate::config::{self, Host};
use crate::control;
use crate::lifecycle::ExitCode;

/// CPUs of the machine that a gateway.yaml is for, which need not be this one: as many as Linux
/// knows (NR_CPUS of x86-64).
const ANY_CPUS: usize = 8_192;

/// Whose objects a directory has.
#[derive(Debug, Default, clap::Args)]
pub(super) struct PeerArgs {
    /// Name of the peer whose objects these are, where SITE is a directory of objects.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A label of that peer; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(Box<str>, Box<str>)>,
}

impl PeerArgs {
    /// Refuses the flags where all of `sites` are gateway.yaml files and have both themselves.
    pub fn check(&self, sites: &[&LoadedSite]) -> Result<(), Refused> {
        let given = self.name.is_some() || !self.labels.is_empty();
        match sites.first() {
            Some(site) if given && sites.iter().all(|site| site.configured) => {
                Err(Refused::Usage(format!(
                    "--name and --label are for a directory of objects; {} names its peer and \
                     labels itself, change them there",
                    site.path.display()
                )))
            }
            _ => Ok(()),
        }
    }

    fn peer(&self) -> (Option<&str>, Labels) {
        (self.name.as_deref(), self.labels.iter().cloned().collect())
    }
}

/// Why a command ends without an answer.
#[derive(Debug)]
pub(super) enum Refused {
    /// The command line is wrong.
    Usage(String),
    /// The findings have errors.
    Invalid,
    /// A defect of this program.
    Defect(String),
}

impl Refused {
    /// Reports it, with what was found in the files so far.
    pub fn report(&self, findings: &[Diagnostic], json: bool) -> ExitCode {
        match self {
            Self::Invalid if json => {
                output::json(&output::findings_json(findings).into());
                ExitCode::Configuration
            }
            Self::Invalid => {
                output::diagnostics(findings);
                ExitCode::Configuration
            }
            Self::Usage(text) => {
                output::error(text);
                ExitCode::Usage
            }
            Self::Defect(text) => {
                output::error(text);
                // 1 would read as a denial.
                ExitCode::Configuration
            }
        }
    }
}

/// One site, read.
#[derive(Debug)]
pub(super) struct LoadedSite {
    pub site: Site,
    pub path: PathBuf,
    /// Whether somebody said what its peer is called.
    pub named: bool,
    /// Whether that was a gateway.yaml.
    pub configured: bool,
}

/// Reads a SITE; findings are appended. None if there is any error in it.
pub(super) fn load(
    path: &Path,
    args: &PeerArgs,
    findings: &mut Vec<Diagnostic>,
) -> Option<LoadedSite> {
    let (name, labels) = args.peer();
    load_as(path, name, labels, findings)
}

/// As [`load`]; `name` and `labels` are of the peer where `path` is a directory of objects.
pub(super) fn load_as(
    path: &Path,
    name: Option<&str>,
    labels: Labels,
    findings: &mut Vec<Diagnostic>,
) -> Option<LoadedSite> {
    // A directory of objects has no gateway.yaml, it would be refused there.
    let beside = path.join("gateway.yaml");
    let file = if beside.is_file() { beside } else { path.to_owned() };
    if !file.exists() {
        findings.push(Diagnostic {
            severity: Severity::Error,
            file: path.display().to_string(),
            line: 0,
            column: 0,
            field: String::new(),
            message: "there is no such file or directory".to_owned(),
            hint: "name a directory of objects, or a gateway.yaml".to_owned(),
        });
        return None;
    }
    if file.is_dir() {
        let fabric = control::objects(path, findings)?;
        let local = LocalPeer { name: name.unwrap_or(UNNAMED).into(), labels };
        let site = Site { local, fabric };
        return Some(LoadedSite {
            site,
            path: path.to_owned(),
            named: name.is_some(),
            configured: false,
        });
    }
    let read = config::load(&file, &Host { cpus: (0..ANY_CPUS).collect() });
    findings.extend(read.diagnostics);
    // Both files' errors in one go.
    let fabric = read.objects.as_deref().and_then(|d| control::objects(d, findings));
    let (config, fabric) = (read.config?, fabric?);
    let site = Site { local: config.peer.local(), fabric };
    Some(LoadedSite { site, path: file, named: true, configured: true })
}

/// Stands for the name of a peer where no policy asks for it. No certificate can be for it.
const UNNAMED: &str = "<this peer>";

/// Refuses sites without a name where a policy looks at peers: the answer would be a guess.
pub(super) fn require_names(sites: &[&LoadedSite]) -> Result<(), Refused> {
    let Some(unnamed) = sites.iter().find(|site| !site.named) else { return Ok(()) };
    let asks = |fabric: &Fabric| {
        fabric.policies().find_map(|policy| {
            let selectors = policy.from.iter().chain(&policy.to);
            let mut keys = selectors.flat_map(|s| s.requirements()).map(|r| r.key());
            keys.any(|key| key.starts_with("peer.clusterlink.net/"))
                .then(|| policy.name.to_string())
        })
    };
    match sites.iter().find_map(|site| asks(&site.site.fabric)) {
        Some(policy) => Err(Refused::Usage(format!(
            "policy `{policy}` looks at peers, and {} does not say whose objects it has; give \
             --name NAME, and --label KEY=VALUE for its labels, or name the gateway.yaml instead",
            unnamed.path.display(),
        ))),
        None => Ok(()),
    }
}

/// `[NAME=]SITE`: another site.
#[derive(Debug, Clone)]
pub(super) struct OtherSite {
    name: Option<String>,
    path: PathBuf,
}

pub(super) fn other_site(text: &str) -> Result<OtherSite, String> {
    if text.is_empty() {
        return Err("name a directory of objects or a gateway.yaml".to_owned());
    }
    Ok(match text.split_once('=') {
        Some((name, path)) if names::dns_name(name).is_ok() => {
            OtherSite { name: Some(name.to_owned()), path: path.into() }
        }
        _ => OtherSite { name: None, path: text.into() },
    })
}

/// Reads other sites. A directory's labels are those that `peer_labels` has for its name.
pub(super) fn load_others(
    others: &[OtherSite],
    peer_labels: &PeerLabels,
    findings: &mut Vec<Diagnostic>,
) -> Result<Vec<LoadedSite>, Refused> {
    let mut sites: Vec<LoadedSite> = Vec::new();
    let mut complete = true;
    for other in others {
        let name = other.name.as_deref();
        let labels = name.and_then(|name| peer_labels.get(name)).cloned().unwrap_or_default();
        let Some(site) = load_as(&other.path, name, labels, findings) else {
            complete = false;
            continue;
        };
        let own = &site.site.local.name;
        if let Some(name) = name
            && **own != *name
        {
            return Err(Refused::Usage(format!(
                "{} is the gateway.yaml of peer {own}, not of {name}; leave out `{name}=`",
                site.path.display()
            )));
        }
        if !site.named {
            return Err(Refused::Usage(format!(
                "{} does not say which peer it is; write NAME={0}, or name its gateway.yaml",
                other.path.display()
            )));
        }
        if sites.iter().any(|known| known.site.local.name == *own) {
            return Err(Refused::Usage(format!("peer {own} is given twice; keep one of the two")));
        }
        sites.push(site);
    }
    if complete { Ok(sites) } else { Err(Refused::Invalid) }
}

/// `KEY=VALUE`.
pub(super) fn label(text: &str) -> Result<(Box<str>, Box<str>), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE, as in region=eu")?;
    names::label_key(key).map_err(|why| format!("the key `{key}` {why}"))?;
    names::label_value(value).map_err(|why| format!("the value `{value}` {why}"))?;
    Ok((key.into(), value.into()))
}

/// A label of another peer.
#[derive(Debug, Clone)]
pub(super) struct PeerLabel {
    peer: Box<str>,
    key: Box<str>,
    value: Box<str>,
}

/// `PEER:KEY=VALUE`.
pub(super) fn peer_label(text: &str) -> Result<PeerLabel, String> {
    let (peer, rest) =
        text.split_once(':').ok_or("write it as PEER:KEY=VALUE, as in site-b:region=eu")?;
    names::dns_name(peer).map_err(|why| format!("the peer `{peer}` {why}"))?;
    let (key, value) = label(rest)?;
    Ok(PeerLabel { peer: peer.into(), key, value })
}

pub(super) fn peer_labels(given: &[PeerLabel]) -> PeerLabels {
    let mut labels = PeerLabels::new();
    for label in given {
        labels
            .entry(label.peer.clone())
            .or_default()
            .insert(label.key.clone(), label.value.clone());
    }
    labels
}

/// `NAMESPACE/NAME`.
pub(super) fn object_name(text: &str) -> Result<ObjectName, String> {
    clgw_policy::expect::object_name(text)
        .ok_or_else(|| "write it as NAMESPACE/NAME, as in shop/db".to_owned())
}

/// "there is no ...", with the nearest name or what there is.
pub(super) fn no_such(
    kind: &str,
    name: &str,
    place: &str,
    known: impl Iterator<Item = String>,
) -> Refused {
    /// More would not be read.
    const SHOWN: usize = 8;
    let known: Vec<String> = known.collect();
    let words: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = match nearest(name, &words) {
        Some(near) => format!("did you mean `{near}`?"),
        None if words.is_empty() => format!("it has no {kind}s"),
        None if words.len() > SHOWN => {
            format!("it has {} and {} more", words[..SHOWN].join(", "), words.len() - SHOWN)
        }
        None => format!("it has {}", words.join(", ")),
    };
    Refused::Usage(format!("there is no {kind} `{name}` in {place}; {hint}"))
}
