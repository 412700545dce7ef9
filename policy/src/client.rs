//! A client as somebody asks about it: by address, by attributes, or one that nobody knows.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::attributes::{
    self, Attributes, CLIENT_LABEL, CLIENT_NAMESPACE, CLIENT_SERVICE_ACCOUNT, PEER_LABEL, PEER_NAME,
};
use crate::fabric::{Fabric, Labels, LocalPeer, ObjectName, Workload};
use crate::names;
use crate::validate::{DEFAULT_NAMESPACE, DEFAULT_SERVICE_ACCOUNT};

/// Of whom a question asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// No workload; it has no attributes at all.
    Unknown,
    /// Whoever owns this address among the workloads of the importer.
    Address(IpAddr),
    /// A workload that need not exist.
    Described(Description),
}

/// A workload by what policies see of it. Namespace and service account are `default` where they
/// are not given, as in a `Workload`: no client is without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub namespace: Box<str>,
    pub service_account: Box<str>,
    pub labels: Labels,
    /// The importing peer, where the exporter is asked.
    pub peer: Option<Box<str>>,
    pub peer_labels: Labels,
}

impl Default for Description {
    fn default() -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.into(),
            service_account: DEFAULT_SERVICE_ACCOUNT.into(),
            labels: Labels::new(),
            peer: None,
            peer_labels: Labels::new(),
        }
    }
}

/// Why a text does not describe a client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    #[error(
        "`{0}` is neither an IP address nor key=value; write 10.1.2.3, unknown, or attributes as \
         in namespace=shop,service-account=till,labels.app=web"
    )]
    NoPair(String),
    #[error("no client has the attribute `{key}`; {hint}")]
    UnknownKey { key: String, hint: String },
    #[error("the attribute `{0}` is given twice; keep one of the two")]
    Twice(String),
    #[error("`{value}` for the attribute `{key}` {why}")]
    Value { key: String, value: String, why: String },
    #[error("the label key `{key}` {why}")]
    LabelKey { key: String, why: String },
}

/// The short names of attributes and what they stand for.
const SHORT: [(&str, &str); 5] = [
    ("namespace", CLIENT_NAMESPACE),
    ("service-account", CLIENT_SERVICE_ACCOUNT),
    ("serviceAccount", CLIENT_SERVICE_ACCOUNT),
    ("peer", PEER_NAME),
    ("sa", CLIENT_SERVICE_ACCOUNT),
];

/// `namespace` to its full key, `labels.app` too; a full key stays as it is.
fn full_key(key: &str) -> String {
    if let Some((_, full)) = SHORT.iter().find(|(short, _)| *short == key) {
        return (*full).to_owned();
    }
    for (short, full) in [("labels.", CLIENT_LABEL), ("peer-labels.", PEER_LABEL)] {
        if let Some(label) = key.strip_prefix(short) {
            return format!("{full}{label}");
        }
    }
    key.to_owned()
}

impl Client {
    /// Reads `unknown`, an IP address, or `key=value` pairs with commas between them. Keys are full
    /// ones (`client.clusterlink.net/labels.app`) or short: `namespace`, `service-account` (`sa`),
    /// `labels.app`, `peer`, `peer-labels.region`.
    ///
    /// # Errors
    /// Says which part is wrong and what can be written.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        if text == "unknown" {
            return Ok(Self::Unknown);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Address(ip.to_canonical()));
        }
        let mut description = Description::default();
        let mut seen: Vec<String> = Vec::new();
        for part in text.split(',') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(ClientError::NoPair(part.to_owned()));
            };
            let (full, value) = (full_key(key.trim()), value.trim());
            if seen.contains(&full) {
                return Err(ClientError::Twice(key.to_owned()));
            }
            description.set(&full, key, value)?;
            seen.push(full);
        }
        Ok(Self::Described(description))
    }
}

impl Description {
    fn set(&mut self, full: &str, given: &str, value: &str) -> Result<(), ClientError> {
        let checked = |check: Result<(), String>| {
            check.map_err(|why| ClientError::Value {
                key: given.to_owned(),
                value: value.to_owned(),
                why,
            })
        };
        let label = |key: &str| {
            names::label_key(key)
                .map_err(|why| ClientError::LabelKey { key: key.to_owned(), why })?;
            checked(names::label_value(value))
        };
        match full {
            CLIENT_NAMESPACE => {
                checked(names::dns_label(value))?;
                self.namespace = value.into();
            }
            CLIENT_SERVICE_ACCOUNT => {
                checked(names::dns_subdomain(value))?;
                self.service_account = value.into();
            }
            PEER_NAME => {
                checked(names::dns_name(value))?;
                self.peer = Some(value.into());
            }
            _ => {
                let (labels, key) = if let Some(key) = full.strip_prefix(CLIENT_LABEL) {
                    (&mut self.labels, key)
                } else if let Some(key) = full.strip_prefix(PEER_LABEL) {
                    (&mut self.peer_labels, key)
                } else {
                    let known =
                        ["namespace", "service-account", "labels.KEY", "peer", "peer-labels.KEY"];
                    let hint = match crate::yaml::nearest(given, &known) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => format!("known are {} and their full keys", known.join(", ")),
                    };
                    return Err(ClientError::UnknownKey { key: given.to_owned(), hint });
                };
                label(key)?;
                labels.insert(key.into(), value.into());
            }
        }
        Ok(())
    }

    /// Adds the workload to a fabric, without an address: it takes none from anybody. The name
    /// cannot stand in a file, and equal descriptions have the same.
    pub fn enlist(&self, fabric: &mut Fabric) -> ObjectName {
        let name = self.workload_name();
        fabric.put_workload(Workload {
            name: name.clone(),
            labels: self.labels.clone(),
            service_account: self.service_account.clone(),
            addresses: Vec::new(),
        });
        name
    }

    /// The name under which [`Self::enlist`] adds it.
    #[must_use]
    pub fn workload_name(&self) -> ObjectName {
        ObjectName::new(self.namespace.clone(), format!("<{self}>"))
    }

    /// What its peer would send about it. None when no peer is named.
    #[must_use]
    pub fn attributes(&self) -> Option<Attributes> {
        let peer = LocalPeer { name: self.peer.clone()?, labels: self.peer_labels.clone() };
        let workload = Workload {
            name: ObjectName::new(self.namespace.clone(), "described"),
            labels: self.labels.clone(),
            service_account: self.service_account.clone(),
            addresses: Vec::new(),
        };
        Some(attributes::source(&peer, &workload))
    }
}

impl fmt::Display for Description {
    /// As [`Client::parse`] reads it, the peer left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "namespace={},service-account={}", self.namespace, self.service_account)?;
        self.labels.iter().try_for_each(|(key, value)| write!(f, ",labels.{key}={value}"))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Address(ip) => ip.fmt(f),
            Self::Described(description) => description.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_keys_say_the_same() {
        let short = "namespace=shop,service-account=till,labels.app=web,labels.a.b/c=1";
        let full = "client.clusterlink.net/namespace=shop, \
                    client.clusterlink.net/service-account=till,\
                    client.clusterlink.net/labels.app=web,client.clusterlink.net/labels.a.b/c=1";
        assert_eq!(Client::parse(short), Client::parse(full));
        let Ok(Client::Described(described)) = Client::parse(short) else { panic!() };
        assert_eq!(described.labels.len(), 2);
        assert_eq!(Client::parse(&described.to_string()), Ok(Client::Described(described)));
        assert_eq!(Client::parse("unknown"), Ok(Client::Unknown));
        assert_eq!(
            Client::parse("::ffff:10.0.0.1"),
            Ok(Client::Address("10.0.0.1".parse().unwrap()))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text| Client::parse(text).unwrap_err().to_string();
        assert!(error("").contains("neither an IP address"));
        assert!(error("10.0.0.256").contains("neither an IP address"));
        assert!(error("namespce=shop").contains("did you mean `namespace`?"));
        assert!(error("namespace=a,namespace=b").contains("twice"));
        assert!(error("namespace=Shop").contains("'S'"));
        assert!(error("labels.=x").contains("has no name"));
        assert!(error("export.clusterlink.net/name=x").contains("no client has"));
    }
}
