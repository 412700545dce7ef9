//! What a port can do by itself, as typed bit sets.

/// Makes a bit set over the shim's stable constants, with the set operations and a readable text.
macro_rules! bit_set {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$item_doc:meta])* $item:ident = $bit:path, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
        pub struct $name($repr);

        impl $name {
            /// No bit.
            pub const NONE: Self = Self(0);
            $($(#[$item_doc])* pub const $item: Self = Self($bit);)*

            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The bits that are in `self` and not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            pub(crate) const fn bits(self) -> $repr {
                self.0
            }

            pub(crate) const fn from_bits(bits: $repr) -> Self {
                Self(bits)
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl std::ops::BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut names = Vec::new();
                $(if self.contains(Self::$item) { names.push($text); })*
                if names.is_empty() { f.write_str("none") } else { f.write_str(&names.join(", ")) }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}
pub(crate) use bit_set;

bit_set! {
    /// Receive offloads.
    RxOffloads: u64 {
        /// Verifies the IPv4 header checksum.
        IPV4_CKSUM = dpdk_sys::CLGW_RXO_IPV4_CKSUM, "ipv4-cksum";
        TCP_CKSUM = dpdk_sys::CLGW_RXO_TCP_CKSUM, "tcp-cksum";
        UDP_CKSUM = dpdk_sys::CLGW_RXO_UDP_CKSUM, "udp-cksum";
        /// Joins segments of a TCP flow into one packet (large receive offload).
        LRO = dpdk_sys::CLGW_RXO_LRO, "lro";
        /// Spreads a packet over several mbufs when it does not fit one.
        SCATTER = dpdk_sys::CLGW_RXO_SCATTER, "scatter";
        /// Delivers the RSS hash with each packet.
        RSS_HASH = dpdk_sys::CLGW_RXO_RSS_HASH, "rss-hash";
    }
}

bit_set! {
    /// Send offloads.
    TxOffloads: u64 {
        IPV4_CKSUM = dpdk_sys::CLGW_TXO_IPV4_CKSUM, "ipv4-cksum";
        TCP_CKSUM = dpdk_sys::CLGW_TXO_TCP_CKSUM, "tcp-cksum";
        UDP_CKSUM = dpdk_sys::CLGW_TXO_UDP_CKSUM, "udp-cksum";
        /// Cuts a large TCP packet into segments (TSO).
        TCP_TSO = dpdk_sys::CLGW_TXO_TCP_TSO, "tcp-tso";
        /// Sends packets that consist of several mbufs.
        MULTI_SEGS = dpdk_sys::CLGW_TXO_MULTI_SEGS, "multi-segs";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_like_sets() {
        let both = TxOffloads::TCP_CKSUM | TxOffloads::TCP_TSO;
        assert!(both.contains(TxOffloads::TCP_TSO) && !TxOffloads::TCP_TSO.contains(both));
        assert_eq!(both.without(TxOffloads::TCP_TSO), TxOffloads::TCP_CKSUM);
        assert_eq!(both & TxOffloads::TCP_TSO, TxOffloads::TCP_TSO);
        assert_eq!(both.to_string(), "tcp-cksum, tcp-tso");
        assert_eq!(format!("{:?}", RxOffloads::NONE), "RxOffloads(none)");
        assert!(RxOffloads::default().is_empty());
    }
}
