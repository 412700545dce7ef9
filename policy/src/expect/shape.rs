//! The table as it stands in YAML. Every field is optional here; a missing one is reported with its
//! place and beside all other errors.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub sites: Option<BTreeMap<String, SiteSpec>>,
    pub tests: Option<Vec<TestSpec>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteSpec {
    pub objects: Option<String>,
    pub config: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestSpec {
    pub name: Option<String>,
    pub site: Option<String>,
    pub import: Option<String>,
    pub export: Option<String>,
    pub client: Option<ClientSpec>,
    pub peer: Option<String>,
    pub expect: Option<String>,
    pub by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientMapping {
    pub namespace: Option<String>,
    pub service_account: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub peer: Option<String>,
    pub peer_labels: Option<BTreeMap<String, String>>,
}

/// A text, or a mapping of attributes.
#[derive(Debug)]
pub(super) enum ClientSpec {
    Text(String),
    Mapping(ClientMapping),
}

impl<'de> Deserialize<'de> for ClientSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ClientSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address, unknown, or a mapping of attributes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ClientSpec, E> {
                Ok(ClientSpec::Text(text.to_owned()))
            }

            // serde's own untagged enums would forget which field was wrong.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ClientSpec, A::Error> {
                ClientMapping::deserialize(MapAccessDeserializer::new(map)).map(ClientSpec::Mapping)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
