//! Which cipher suite two gateways agree on.

use rustls::time_provider::DefaultTimeProvider;

use super::pki::{CRYPTO, Files};
use super::*;
use crate::tls::Suite;

pub(super) fn with_suites(files: &Files, suites: &[Suite]) -> Arc<Identity> {
    let time = Arc::new(DefaultTimeProvider);
    Arc::new(Identity::with_suites(&files.pem(), time, CRYPTO, suites).unwrap())
}

/// It is the server's machine whose cost the order is about.
#[test]
fn the_server_has_its_way() {
    let pki = Pki::new();
    let (west, east) = (pki.gateway("west"), pki.gateway("east"));
    for (aes, best) in [(true, Suite::Aes128Gcm), (false, Suite::ChaCha20Poly1305)] {
        let server = with_suites(&east, &Suite::order(aes));
        for client_aes in [true, false] {
            let client = with_suites(&west, &Suite::order(client_aes));
            let (c, s) = both_ours(&client, &server);
            assert_eq!([c.records.suite(), s.records.suite()], [best; 2], "client: {client_aes}");
        }
    }
}

#[test]
fn an_order_leaves_none_out() {
    for aes in [true, false] {
        let order = Suite::order(aes);
        assert!(Suite::ALL.iter().all(|suite| order.contains(suite)), "{order:?}");
    }
}

/// The kernel says what the CPU can do.
#[cfg(target_arch = "x86_64")]
#[test]
fn aes_is_first_where_the_cpu_has_it() {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = info.lines().find(|line| line.starts_with("flags")).unwrap();
    let has = |flag| flags.split_whitespace().any(|f| f == flag);
    assert_eq!(Suite::by_cost(), Suite::order(has("aes") && has("pclmulqdq")));
}
