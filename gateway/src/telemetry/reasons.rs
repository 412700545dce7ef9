//! Why a frame was dropped and why a connection ended.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub const COUNT: usize = Self::ALL.len();

            /// The name in logs and metrics; never changes once released.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why a received (or, where said, a sent) frame went no further.
    DropReason {
        FrameTooShort => "frame_too_short",
        FrameTooLong => "frame_too_long",
        NotForUs => "not_for_us",
        EtherType => "ether_type",
        /// An 802.1Q or 802.1ad tag; ports carry untagged frames only.
        VlanTagged => "vlan_tagged",
        /// The source MAC is a group address or our own (a loop).
        SourceMac => "source_mac",
        /// Another host claims one of our addresses.
        AddressConflict => "address_conflict",
        ArpMalformed => "arp_malformed",
        ArpIgnored => "arp_ignored",
        NdpMalformed => "ndp_malformed",
        /// Router discovery and redirects: routes come from the configuration only.
        NdpIgnored => "ndp_ignored",
        IpMalformed => "ip_malformed",
        IpVersion => "ip_version",
        IpChecksum => "ip_checksum",
        IpFragment => "ip_fragment",
        /// An IPv6 extension header that is not skipped: routing, too many, or an option whose
        /// type asks for the packet to be discarded.
        IpExtension => "ip_extension",
        IpAddress => "ip_address",
        IpProtocol => "ip_protocol",
        IcmpMalformed => "icmp_malformed",
        IcmpIgnored => "icmp_ignored",
        TcpMalformed => "tcp_malformed",
        TcpChecksum => "tcp_checksum",
        /// No connection has this 4-tuple and the segment does not open one.
        NoFlow => "no_flow",
        /// A SYN to a port where nothing listens.
        NoListener => "no_listener",
        HalfOpenLimit => "half_open_limit",
        SourceLimit => "source_limit",
        FlowLimit => "flow_limit",
        /// A SYN while the buffers of open connections take most of what there is.
        BufferLimit => "buffer_limit",
        /// No memory for what a segment of an open connection carries.
        NoBuffer => "no_buffer",
        RateLimited => "rate_limited",
        NoRoute => "no_route",
        NeighbourUnresolved => "neighbour_unresolved",
        NeighbourTableFull => "neighbour_table_full",
        Draining => "draining",
        /// The other worker's inbox was full.
        InboxFull => "inbox_full",
        /// No free mbuf for a frame to send.
        NoMbuf => "no_mbuf",
        /// The bounded queue in front of the device was full.
        TxQueueFull => "tx_queue_full",
        /// The TCP engine gave up on this segment.
        TcpEngine => "tcp_engine",
    }
}

reasons! {
    /// Why a connection (service leg or tunnel) ended.
    CloseReason {
        /// Both directions ended with FIN.
        Finished => "finished",
        ClientReset => "client_reset",
        ServiceReset => "service_reset",
        ServiceUnreachable => "service_unreachable",
        ServiceTimeout => "service_timeout",
        PolicyDenied => "policy_denied",
        /// The other gateway refused by its policy.
        PeerPolicyDenied => "peer_policy_denied",
        ExportNotFound => "export_not_found",
        NoSource => "no_source",
        /// The client's attributes do not fit into an OPEN.
        AttributesTooLong => "attributes_too_long",
        PeerUnreachable => "peer_unreachable",
        PeerReset => "peer_reset",
        TunnelLost => "tunnel_lost",
        TunnelIdle => "tunnel_idle",
        TunnelProtocol => "tunnel_protocol",
        TunnelVersion => "tunnel_version",
        TlsHandshake => "tls_handshake",
        TlsRecord => "tls_record",
        TlsAlert => "tls_alert",
        TlsLimit => "tls_limit",
        /// The certificate is good but names another peer.
        PeerName => "peer_name",
        HandshakeTimeout => "handshake_timeout",
        TcpTimeout => "tcp_timeout",
        Overload => "overload",
        Draining => "draining",
        DrainDeadline => "drain_deadline",
        NeighbourUnreachable => "neighbour_unreachable",
        NoSourcePort => "no_source_port",
        NoRoute => "no_route",
    }
}
