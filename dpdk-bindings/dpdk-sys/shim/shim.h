/* SPDX-License-Identifier: Apache-2.0
 *
 * The flat surface Rust sees. Nothing here names a DPDK type, constant or flag: what DPDK renames
 * between releases is resolved in shim.c, and src/lib.rs repeats these declarations by hand.
 * Unless a comment says otherwise, functions return 0 or a negative errno.
 */
#ifndef CLGW_SHIM_H
#define CLGW_SHIM_H

#include <stdint.h>

#define CLGW_BURST_MAX 64
#define CLGW_NAME_LEN 64
#define CLGW_RSS_KEY_MAX 64

/* Flags of a received packet. */
#define CLGW_RX_IP_CKSUM_GOOD (UINT32_C(1) << 0)
#define CLGW_RX_IP_CKSUM_BAD (UINT32_C(1) << 1)
#define CLGW_RX_L4_CKSUM_GOOD (UINT32_C(1) << 2)
#define CLGW_RX_L4_CKSUM_BAD (UINT32_C(1) << 3)
#define CLGW_RX_RSS_HASH (UINT32_C(1) << 4)
#define CLGW_RX_LRO (UINT32_C(1) << 5)

/* What the device is asked to do when sending. */
#define CLGW_TX_IPV4 (UINT32_C(1) << 16)
#define CLGW_TX_IPV6 (UINT32_C(1) << 17)
#define CLGW_TX_IP_CKSUM (UINT32_C(1) << 18)
#define CLGW_TX_TCP_CKSUM (UINT32_C(1) << 19)
#define CLGW_TX_UDP_CKSUM (UINT32_C(1) << 20)
#define CLGW_TX_TCP_SEG (UINT32_C(1) << 21)
#define CLGW_TX_OFFLOAD_MASK (CLGW_TX_IP_CKSUM | CLGW_TX_TCP_CKSUM | CLGW_TX_UDP_CKSUM | CLGW_TX_TCP_SEG)

/* Port capabilities, receive side. */
#define CLGW_RXO_IPV4_CKSUM (UINT64_C(1) << 0)
#define CLGW_RXO_TCP_CKSUM (UINT64_C(1) << 1)
#define CLGW_RXO_UDP_CKSUM (UINT64_C(1) << 2)
#define CLGW_RXO_LRO (UINT64_C(1) << 3)
#define CLGW_RXO_SCATTER (UINT64_C(1) << 4)
#define CLGW_RXO_RSS_HASH (UINT64_C(1) << 5)

/* Port capabilities, send side. MBUF_FAST_FREE is left out on purpose: it frees every mbuf into
 * one pool without looking, which no type of ours can promise. */
#define CLGW_TXO_IPV4_CKSUM (UINT64_C(1) << 0)
#define CLGW_TXO_TCP_CKSUM (UINT64_C(1) << 1)
#define CLGW_TXO_UDP_CKSUM (UINT64_C(1) << 2)
#define CLGW_TXO_TCP_TSO (UINT64_C(1) << 3)
#define CLGW_TXO_MULTI_SEGS (UINT64_C(1) << 4)

/* Which header fields RSS hashes. */
#define CLGW_RSS_IPV4 (UINT32_C(1) << 0)
#define CLGW_RSS_IPV4_TCP (UINT32_C(1) << 1)
#define CLGW_RSS_IPV6 (UINT32_C(1) << 2)
#define CLGW_RSS_IPV6_TCP (UINT32_C(1) << 3)

/* An mbuf and the fields of it that the packet path reads and writes. Filled when an mbuf comes
 * out of a pool or a queue, written back in one go when it is sent. */
struct clgw_mbuf {
	void *mbuf;
	uint8_t *data;      /* first byte of the first segment */
	uint32_t pkt_len;   /* bytes in all segments */
	uint32_t rss_hash;  /* valid with CLGW_RX_RSS_HASH */
	uint32_t flags;     /* CLGW_RX_ and CLGW_TX_ */
	uint16_t data_len;  /* bytes in the first segment */
	uint16_t headroom;  /* free bytes before data */
	uint16_t tailroom;  /* free bytes after the first segment's data */
	uint16_t nb_segs;
	uint16_t tso_segsz;
	uint16_t l3_len;
	uint8_t l2_len;
	uint8_t l4_len;
};

struct clgw_limits {
	uint32_t max_lcores;
	uint32_t pool_name_max;  /* characters, without the final zero */
	uint32_t port_name_max;
	uint32_t pool_cache_max;
	uint32_t headroom;       /* bytes in front of every fresh mbuf's data */
};

struct clgw_port_info {
	char driver[CLGW_NAME_LEN];
	uint8_t mac[6];
	uint8_t rss_key_len;
	uint8_t has_mac;
	uint16_t max_rx_queues, max_tx_queues;
	uint16_t min_mtu, max_mtu;
	uint16_t rx_desc_min, rx_desc_max;
	uint16_t tx_desc_min, tx_desc_max;
	uint16_t tx_segs_max;    /* 0: no limit stated */
	uint16_t reta_size;
	uint32_t rss_types;      /* CLGW_RSS_ */
	uint32_t min_rx_buf;
	int32_t numa;            /* -1: unknown */
	uint32_t max_lro;
	uint64_t rx_offloads;    /* CLGW_RXO_ */
	uint64_t tx_offloads;    /* CLGW_TXO_ */
};

struct clgw_port_conf {
	uint16_t rx_queues, tx_queues;
	uint16_t rx_desc, tx_desc;  /* in: wanted, out: what the device takes */
	uint16_t mtu;               /* 0: leave the driver's */
	uint8_t rx_interrupts;
	uint8_t rss_key_len;        /* 0: the driver's own key */
	uint32_t rss_types;         /* CLGW_RSS_, 0: no RSS */
	uint32_t reserved;
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	uint8_t rss_key[CLGW_RSS_KEY_MAX];
};

struct clgw_link {
	uint32_t speed_mbps;  /* UINT32_MAX: unknown */
	uint8_t up;
	uint8_t full_duplex;
};

struct clgw_stats {
	uint64_t rx_packets, tx_packets;
	uint64_t rx_bytes, tx_bytes;
	uint64_t rx_missed, rx_errors, tx_errors, rx_no_mbuf;
};

struct clgw_xstat {
	char name[CLGW_NAME_LEN];
	uint64_t value;
};

#endif
