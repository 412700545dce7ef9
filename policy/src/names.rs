//! The syntax of names: Kubernetes object names, label keys and values, hosts.
//!
//! Each check returns why a text is refused, in words that fit behind "`text` ...".

use std::net::IpAddr;

use crate::attributes;
use crate::fabric::Host;
use crate::limits::{MAX_DNS_LABEL, MAX_DNS_NAME};

/// A DNS-1123 label, as Kubernetes asks of namespaces and services.
///
/// # Errors
/// Says which rule the text breaks.
pub fn dns_label(text: &str) -> Result<(), String> {
    label_up_to(text, MAX_DNS_LABEL)
}

fn label_up_to(text: &str, longest: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > longest {
        return Err(format!("has {} characters, more than {longest}", text.len()));
    }
    if let Some(bad) =
        text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
    {
        return Err(format!("contains {bad:?}; allowed are a-z, 0-9 and '-'"));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("begins or ends with '-'".to_owned());
    }
    Ok(())
}

/// A DNS-1123 subdomain as Kubernetes asks of most object names: labels joined by dots, of which
/// only the sum of the lengths is bounded.
///
/// # Errors
/// Says which rule the text breaks.
pub fn dns_subdomain(text: &str) -> Result<(), String> {
    labels_up_to(text, MAX_DNS_NAME)
}

/// A name that DNS can carry, as of a host or a peer: a subdomain with every label within
/// [`MAX_DNS_LABEL`].
///
/// # Errors
/// Says which rule the text breaks.
pub fn dns_name(text: &str) -> Result<(), String> {
    labels_up_to(text, MAX_DNS_LABEL)
}

fn labels_up_to(text: &str, longest: usize) -> Result<(), String> {
    if text.len() > MAX_DNS_NAME {
        return Err(format!("has {} characters, more than {MAX_DNS_NAME}", text.len()));
    }
    if text.split('.').any(str::is_empty) {
        return Err(if text.is_empty() {
            "is empty".to_owned()
        } else {
            "has an empty part between its dots".to_owned()
        });
    }
    text.split('.').try_for_each(|label| label_up_to(label, longest))
}

/// The part of a label key behind the slash, and a label value: letters, digits, `-_.`, with a
/// letter or digit at both ends.
fn qualified_part(text: &str, longest: usize) -> Result<(), String> {
    if text.len() > longest {
        return Err(format!("has {} characters, more than {longest}", text.len()));
    }
    if let Some(bad) =
        text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        return Err(format!("contains {bad:?}; allowed are letters, digits, '-', '_' and '.'"));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| !c.is_ascii_alphanumeric());
    if edge(text.chars().next()) || edge(text.chars().next_back()) {
        return Err("does not begin and end with a letter or digit".to_owned());
    }
    Ok(())
}

/// A Kubernetes label key: `[prefix/]name`.
///
/// # Errors
/// Says which rule the text breaks.
pub fn label_key(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|why| format!("has a prefix before '/' that {why}"))?;
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    qualified_part(name, MAX_DNS_LABEL)
}

/// A Kubernetes label value: empty, or up to 63 characters.
///
/// # Errors
/// Says which rule the text breaks.
pub fn label_value(text: &str) -> Result<(), String> {
    qualified_part(text, MAX_DNS_LABEL)
}

/// The key of a selector requirement. Unlike Kubernetes' own selectors, the label key behind one
/// of the `*.clusterlink.net/labels.` prefixes may have a prefix of its own.
///
/// # Errors
/// Says which rule the text breaks.
pub fn attribute_key(text: &str) -> Result<(), String> {
    match attributes::LABEL_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        Some(label) => label_key(label),
        None => label_key(text),
    }
}

/// A value in a selector: a label value, or as long as a DNS name because peer and export names
/// are attributes too.
///
/// # Errors
/// Says which rule the text breaks.
pub fn attribute_value(text: &str) -> Result<(), String> {
    qualified_part(text, MAX_DNS_NAME)
}

/// An IP address, or a DNS name in lower case without the final dot.
///
/// # Errors
/// Says which rule the text breaks.
pub fn host(text: &str) -> Result<Host, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Host::Ip(ip.to_canonical()));
    }
    if text.contains(':') {
        return Err(
            "is neither an IP address nor a DNS name; the port has a field of its own".to_owned()
        );
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    dns_name(&name)?;
    // RFC 1123, section 2.1: the last label of a host name is never a number, which is what tells
    // it from an address.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("is not a valid IP address, and a DNS name cannot end in a number".to_owned());
    }
    Ok(Host::Dns(name.into()))
}
