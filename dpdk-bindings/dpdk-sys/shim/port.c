/* SPDX-License-Identifier: Apache-2.0
 *
 * Ports: capabilities, set-up, statistics, RSS, interrupts. Nothing here runs per packet.
 */
#include "internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include <rte_ethdev.h>
#include <rte_interrupts.h>

/* src/lib.rs asserts the same figures. */
_Static_assert(sizeof(struct clgw_port_info) == 128, "clgw_port_info layout");
_Static_assert(sizeof(struct clgw_port_conf) == 104, "clgw_port_conf layout");
_Static_assert(sizeof(struct clgw_stats) == 64, "clgw_stats layout");
_Static_assert(sizeof(struct clgw_xstat) == 72, "clgw_xstat layout");
_Static_assert(sizeof(struct clgw_link) == 8, "clgw_link layout");
_Static_assert(RTE_ETH_NAME_MAX_LEN <= CLGW_NAME_LEN, "port names fit");
_Static_assert(RTE_ETH_XSTATS_NAME_SIZE <= CLGW_NAME_LEN, "xstat names fit");

/* The first port at or after `from`, or -1. */
int32_t clgw_port_next(uint16_t from)
{
	uint64_t id = rte_eth_find_next(from);

	return id >= RTE_MAX_ETHPORTS ? -1 : (int32_t)id;
}

int clgw_port_name(uint16_t port, char out[CLGW_NAME_LEN])
{
	return rte_eth_dev_get_name_by_port(port, out);
}

int clgw_port_by_name(const char *name, uint16_t *port)
{
	return rte_eth_dev_get_port_by_name(name, port);
}

struct bit_pair {
	uint64_t ours, theirs;
};

static const struct bit_pair rx_offload_bits[] = {
	{ CLGW_RXO_IPV4_CKSUM, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM },
	{ CLGW_RXO_TCP_CKSUM, RTE_ETH_RX_OFFLOAD_TCP_CKSUM },
	{ CLGW_RXO_UDP_CKSUM, RTE_ETH_RX_OFFLOAD_UDP_CKSUM },
	{ CLGW_RXO_LRO, RTE_ETH_RX_OFFLOAD_TCP_LRO },
	{ CLGW_RXO_SCATTER, RTE_ETH_RX_OFFLOAD_SCATTER },
	{ CLGW_RXO_RSS_HASH, RTE_ETH_RX_OFFLOAD_RSS_HASH },
	{ 0, 0 },
};
static const struct bit_pair tx_offload_bits[] = {
	{ CLGW_TXO_IPV4_CKSUM, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM },
	{ CLGW_TXO_TCP_CKSUM, RTE_ETH_TX_OFFLOAD_TCP_CKSUM },
	{ CLGW_TXO_UDP_CKSUM, RTE_ETH_TX_OFFLOAD_UDP_CKSUM },
	{ CLGW_TXO_TCP_TSO, RTE_ETH_TX_OFFLOAD_TCP_TSO },
	{ CLGW_TXO_MULTI_SEGS, RTE_ETH_TX_OFFLOAD_MULTI_SEGS },
	{ 0, 0 },
};
static const struct bit_pair rss_bits[] = {
	{ CLGW_RSS_IPV4, RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER },
	{ CLGW_RSS_IPV4_TCP, RTE_ETH_RSS_NONFRAG_IPV4_TCP },
	{ CLGW_RSS_IPV6, RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER },
	{ CLGW_RSS_IPV6_TCP, RTE_ETH_RSS_NONFRAG_IPV6_TCP },
	{ 0, 0 },
};

static uint64_t to_ours(const struct bit_pair *map, uint64_t theirs)
{
	uint64_t bits = 0;

	for (; map->ours != 0; map++)
		if (theirs & map->theirs)
			bits |= map->ours;
	return bits;
}

static uint64_t to_theirs(const struct bit_pair *map, uint64_t ours)
{
	uint64_t bits = 0;

	for (; map->ours != 0; map++)
		if (ours & map->ours)
			bits |= map->theirs;
	return bits;
}

int clgw_port_info(uint16_t port, struct clgw_port_info *out)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
	uint32_t max_mtu;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	memset(out, 0, sizeof(*out));
	snprintf(out->driver, sizeof(out->driver), "%s", info.driver_name == NULL ? "" : info.driver_name);
	if (rte_eth_macaddr_get(port, &mac) == 0) {
		memcpy(out->mac, mac.addr_bytes, sizeof(out->mac));
		out->has_mac = 1;
	}
	/* A driver may state its bound as an MTU, as a frame length, or as both; ethdev enforces both. */
	max_mtu = info.max_mtu == 0 ? UINT16_MAX : info.max_mtu;
	if (info.max_mtu != 0 && info.max_mtu != UINT16_MAX && info.max_rx_pktlen > info.max_mtu &&
	    info.max_rx_pktlen != UINT32_MAX)
		overhead = info.max_rx_pktlen - info.max_mtu;
	if (info.max_rx_pktlen > overhead && info.max_rx_pktlen - overhead < max_mtu)
		max_mtu = info.max_rx_pktlen - overhead;
	out->min_mtu = info.min_mtu;
	out->max_mtu = (uint16_t)max_mtu;
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->rx_desc_min = info.rx_desc_lim.nb_min;
	out->rx_desc_max = info.rx_desc_lim.nb_max;
	out->tx_desc_min = info.tx_desc_lim.nb_min;
	out->tx_desc_max = info.tx_desc_lim.nb_max;
	out->tx_segs_max = info.tx_desc_lim.nb_seg_max;
	out->reta_size = info.reta_size;
	out->rss_key_len = info.hash_key_size;
	out->rss_types = (uint32_t)to_ours(rss_bits, info.flow_type_rss_offloads);
	out->min_rx_buf = info.min_rx_bufsize;
	out->numa = rte_eth_dev_socket_id(port);
	out->max_lro = info.max_lro_pkt_size;
	out->rx_offloads = to_ours(rx_offload_bits, info.rx_offload_capa);
	out->tx_offloads = to_ours(tx_offload_bits, info.tx_offload_capa);
	return 0;
}

int clgw_port_configure(uint16_t port, struct clgw_port_conf *conf)
{
	struct rte_eth_conf eth = { 0 };
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	if (conf->mtu != 0)
		eth.rxmode.mtu = conf->mtu;
	eth.rxmode.offloads = to_theirs(rx_offload_bits, conf->rx_offloads);
	if (conf->rx_offloads & CLGW_RXO_LRO)
		eth.rxmode.max_lro_pkt_size = info.max_lro_pkt_size;
	eth.txmode.offloads = to_theirs(tx_offload_bits, conf->tx_offloads);
	eth.intr_conf.rxq = conf->rx_interrupts;
	if (conf->rss_types != 0) {
		eth.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		eth.rx_adv_conf.rss_conf.rss_hf =
			to_theirs(rss_bits, conf->rss_types) & info.flow_type_rss_offloads;
		if (conf->rss_key_len != 0) {
			eth.rx_adv_conf.rss_conf.rss_key = conf->rss_key;
			eth.rx_adv_conf.rss_conf.rss_key_len = conf->rss_key_len;
		}
	}
	ret = rte_eth_dev_configure(port, conf->rx_queues, conf->tx_queues, &eth);
	if (ret != 0)
		return ret;
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, &conf->rx_desc, &conf->tx_desc);
}

/* Queues take the offloads of the port, the driver's other defaults. */
int clgw_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, void *pool, uint64_t offloads)
{
	struct rte_eth_dev_info info;
	struct rte_eth_rxconf conf;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	conf = info.default_rxconf;
	conf.offloads = to_theirs(rx_offload_bits, offloads);
	return rte_eth_rx_queue_setup(port, queue, desc, rte_eth_dev_socket_id(port), &conf, pool);
}

int clgw_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, uint64_t offloads)
{
	struct rte_eth_dev_info info;
	struct rte_eth_txconf conf;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	conf = info.default_txconf;
	conf.offloads = to_theirs(tx_offload_bits, offloads);
	return rte_eth_tx_queue_setup(port, queue, desc, rte_eth_dev_socket_id(port), &conf);
}

int clgw_port_start(uint16_t port)
{
	return rte_eth_dev_start(port);
}

int clgw_port_stop(uint16_t port)
{
	return rte_eth_dev_stop(port);
}

int clgw_port_close(uint16_t port)
{
	return rte_eth_dev_close(port);
}

int clgw_port_promiscuous(uint16_t port, int on)
{
	return on ? rte_eth_promiscuous_enable(port) : rte_eth_promiscuous_disable(port);
}

int clgw_port_mtu(uint16_t port, uint16_t *mtu)
{
	return rte_eth_dev_get_mtu(port, mtu);
}

int clgw_port_link(uint16_t port, struct clgw_link *out)
{
	struct rte_eth_link link;
	int ret = rte_eth_link_get_nowait(port, &link);

	if (ret != 0)
		return ret;
	out->speed_mbps = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}

int clgw_port_stats(uint16_t port, struct clgw_stats *out)
{
	struct rte_eth_stats stats;
	int ret = rte_eth_stats_get(port, &stats);

	if (ret != 0)
		return ret;
	out->rx_packets = stats.ipackets;
	out->tx_packets = stats.opackets;
	out->rx_bytes = stats.ibytes;
	out->tx_bytes = stats.obytes;
	out->rx_missed = stats.imissed;
	out->rx_errors = stats.ierrors;
	out->tx_errors = stats.oerrors;
	out->rx_no_mbuf = stats.rx_nombuf;
	return 0;
}

/* Fills at most cap entries; returns how many there are, or a negative errno. */
int32_t clgw_port_xstats(uint16_t port, struct clgw_xstat *out, uint32_t cap)
{
	int32_t count = rte_eth_xstats_get_names(port, NULL, 0);
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	int32_t got;

	if (count <= 0 || out == NULL)
		return count;
	names = calloc((size_t)count, sizeof(*names));
	values = calloc((size_t)count, sizeof(*values));
	if (names == NULL || values == NULL) {
		got = -ENOMEM;
		goto done;
	}
	got = rte_eth_xstats_get_names(port, names, (unsigned int)count);
	if (got < 0 || got > count) {
		got = got < 0 ? got : -EAGAIN;
		goto done;
	}
	got = rte_eth_xstats_get(port, values, (unsigned int)count);
	if (got < 0 || got > count) {
		got = got < 0 ? got : -EAGAIN;
		goto done;
	}
	for (int32_t i = 0; i < got && (uint32_t)i < cap; i++) {
		uint64_t id = values[i].id;

		if (id >= (uint64_t)count)
			id = (uint64_t)i;
		snprintf(out[i].name, sizeof(out[i].name), "%s", names[id].name);
		out[i].value = values[i].value;
	}
done:
	free(names);
	free(values);
	return got;
}

int clgw_rss_get(uint16_t port, uint8_t *key, uint8_t key_len, uint32_t *types)
{
	struct rte_eth_rss_conf conf = { .rss_key = key, .rss_key_len = key_len };
	int ret = rte_eth_dev_rss_hash_conf_get(port, &conf);

	if (ret == 0)
		*types = (uint32_t)to_ours(rss_bits, conf.rss_hf);
	return ret;
}

int clgw_rss_set(uint16_t port, uint8_t *key, uint8_t key_len, uint32_t types)
{
	struct rte_eth_dev_info info;
	struct rte_eth_rss_conf conf = { .rss_key = key, .rss_key_len = key_len };
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	conf.rss_hf = to_theirs(rss_bits, types) & info.flow_type_rss_offloads;
	return rte_eth_dev_rss_hash_update(port, &conf);
}

#define RETA_GROUPS (UINT16_MAX / RTE_ETH_RETA_GROUP_SIZE + 1)

static struct rte_eth_rss_reta_entry64 *reta_alloc(uint16_t size)
{
	struct rte_eth_rss_reta_entry64 *groups = calloc(RETA_GROUPS, sizeof(*groups));

	if (groups != NULL)
		for (uint32_t i = 0; i < size; i++)
			groups[i / RTE_ETH_RETA_GROUP_SIZE].mask |=
				RTE_BIT64(i % RTE_ETH_RETA_GROUP_SIZE);
	return groups;
}

int clgw_reta_get(uint16_t port, uint16_t *queues, uint16_t size)
{
	struct rte_eth_rss_reta_entry64 *groups = reta_alloc(size);
	int ret;

	if (groups == NULL)
		return -ENOMEM;
	ret = rte_eth_dev_rss_reta_query(port, groups, size);
	for (uint32_t i = 0; ret == 0 && i < size; i++)
		queues[i] = groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	free(groups);
	return ret;
}

int clgw_reta_set(uint16_t port, const uint16_t *queues, uint16_t size)
{
	struct rte_eth_rss_reta_entry64 *groups = reta_alloc(size);
	int ret;

	if (groups == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < size; i++)
		groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = queues[i];
	ret = rte_eth_dev_rss_reta_update(port, groups, size);
	free(groups);
	return ret;
}

int clgw_tx_done_cleanup(uint16_t port, uint16_t queue, uint32_t max)
{
	return rte_eth_tx_done_cleanup(port, queue, max);
}

/* An epoll descriptor for the interrupts of the queues that one thread polls, or negative errno. */
int clgw_rx_intr_open(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	return epoll < 0 ? -errno : epoll;
}

/* Adds the queue's interrupt to the descriptor, or takes it out. */
int clgw_rx_intr_watch(int epoll, uint16_t port, uint16_t queue, int on)
{
	return rte_eth_dev_rx_intr_ctl_q(port, queue, epoll, on ? RTE_INTR_EVENT_ADD : RTE_INTR_EVENT_DEL,
					 NULL);
}

int clgw_rx_intr_arm(uint16_t port, uint16_t queue, int on)
{
	return on ? rte_eth_dev_rx_intr_enable(port, queue) : rte_eth_dev_rx_intr_disable(port, queue);
}

/* 1: an interrupt fired, 0: the time is over or a signal came. */
int clgw_rx_intr_wait(int epoll, uint64_t nanoseconds)
{
	const uint64_t second = UINT64_C(1000000000);
	struct timespec timeout = { .tv_sec = nanoseconds / second, .tv_nsec = nanoseconds % second };
	struct pollfd p = { .fd = epoll, .events = POLLIN };
	struct rte_epoll_event events[16];

	if (ppoll(&p, 1, &timeout, NULL) <= 0)
		return 0;
	/* Reads what the devices count in, as each driver wants it. It cannot wait by itself for less
	 * than a millisecond. */
	(void)rte_epoll_wait(epoll, events, RTE_DIM(events), 0);
	return 1;
}
