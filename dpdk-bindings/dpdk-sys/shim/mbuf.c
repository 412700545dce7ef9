/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools, mbufs and bursts: the packet path. A burst is one call that fills or writes back plain
 * descriptors, so that Rust reads packets without a call per packet.
 */
#include "internal.h"

#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_prefetch.h>

/* src/lib.rs asserts the same figure. */
_Static_assert(sizeof(struct clgw_mbuf) == 48, "clgw_mbuf layout");
/* An mbuf's own length fields must hold what the descriptor carries. */
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == sizeof(uint16_t), "data_len width");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == sizeof(uint32_t), "pkt_len width");

/* data_room is what an application can use; the headroom comes on top. */
void *clgw_pool_create(const char *name, uint32_t count, uint32_t cache, uint16_t data_room,
		       int32_t numa, int *error)
{
	struct rte_mempool *mp;

	rte_errno = 0;
	mp = rte_pktmbuf_pool_create(name, count, cache, 0, data_room + RTE_PKTMBUF_HEADROOM, numa);
	*error = mp == NULL ? fail_errno() : 0;
	return mp;
}

uint32_t clgw_pool_in_use(const void *pool)
{
	return rte_mempool_in_use_count(pool);
}

/* Whether a cache other than the caller's own holds mbufs. */
static int foreign_caches_filled(struct rte_mempool *mp)
{
	unsigned int own = rte_lcore_id();

	for (unsigned int lcore = 0; lcore < RTE_MAX_LCORE; lcore++) {
		struct rte_mempool_cache *cache = rte_mempool_default_cache(mp, lcore);

		if (lcore != own && cache != NULL && __atomic_load_n(&cache->len, __ATOMIC_ACQUIRE) != 0)
			return 1;
	}
	return 0;
}

/* Frees the pool if every mbuf is provably back and no thread can still be inside a put; returns
 * whether it did. What lies in another lcore's cache does not count as back: a put raises the
 * cache's length before it writes the entry, so that thread might still be about to write. A put
 * into the common ring ends with the store that raises its count. The caches are looked at twice,
 * because the count adds them up while they may change. */
int clgw_pool_free_if_idle(void *pool)
{
	struct rte_mempool *mp = pool;
	unsigned int back;

	if (foreign_caches_filled(mp))
		return 0;
	back = rte_mempool_avail_count(mp);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (back != mp->size || foreign_caches_filled(mp))
		return 0;
	rte_mempool_free(mp);
	return 1;
}

uint32_t clgw_rx_flags(uint64_t ol)
{
	uint32_t flags = 0;

	/* "None" means that the sum in the packet is not filled in but the device vouches for the
	 * data (virtio between two guests of a host): for an endpoint that is as good as good. */
	switch (ol & RTE_MBUF_F_RX_IP_CKSUM_MASK) {
	case RTE_MBUF_F_RX_IP_CKSUM_GOOD:
	case RTE_MBUF_F_RX_IP_CKSUM_NONE:
		flags |= CLGW_RX_IP_CKSUM_GOOD;
		break;
	case RTE_MBUF_F_RX_IP_CKSUM_BAD:
		flags |= CLGW_RX_IP_CKSUM_BAD;
		break;
	}
	switch (ol & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
	case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
	case RTE_MBUF_F_RX_L4_CKSUM_NONE:
		flags |= CLGW_RX_L4_CKSUM_GOOD;
		break;
	case RTE_MBUF_F_RX_L4_CKSUM_BAD:
		flags |= CLGW_RX_L4_CKSUM_BAD;
		break;
	}
	if (ol & RTE_MBUF_F_RX_RSS_HASH)
		flags |= CLGW_RX_RSS_HASH;
	if (ol & RTE_MBUF_F_RX_LRO)
		flags |= CLGW_RX_LRO;
	return flags;
}

uint64_t clgw_tx_ol_flags(uint32_t flags)
{
	uint64_t ol = 0;

	if (flags & CLGW_TX_IPV4)
		ol |= RTE_MBUF_F_TX_IPV4;
	if (flags & CLGW_TX_IPV6)
		ol |= RTE_MBUF_F_TX_IPV6;
	if (flags & CLGW_TX_IP_CKSUM)
		ol |= RTE_MBUF_F_TX_IP_CKSUM;
	if (flags & CLGW_TX_TCP_CKSUM)
		ol |= RTE_MBUF_F_TX_TCP_CKSUM;
	if (flags & CLGW_TX_UDP_CKSUM)
		ol |= RTE_MBUF_F_TX_UDP_CKSUM;
	if (flags & CLGW_TX_TCP_SEG)
		ol |= RTE_MBUF_F_TX_TCP_SEG;
	return ol;
}

static inline void fill(struct clgw_mbuf *d, struct rte_mbuf *m)
{
	d->mbuf = m;
	d->data = rte_pktmbuf_mtod(m, uint8_t *);
	d->pkt_len = m->pkt_len;
	d->rss_hash = m->hash.rss;
	d->flags = m->ol_flags == 0 ? 0 : clgw_rx_flags(m->ol_flags);
	d->data_len = m->data_len;
	d->headroom = rte_pktmbuf_headroom(m);
	d->tailroom = rte_pktmbuf_tailroom(m);
	d->nb_segs = m->nb_segs;
	d->tso_segsz = 0;
	d->l3_len = 0;
	d->l2_len = 0;
	d->l4_len = 0;
}

static inline void write_back(const struct clgw_mbuf *d)
{
	struct rte_mbuf *m = d->mbuf;

	m->data_off = d->headroom;
	m->data_len = d->data_len;
	m->pkt_len = d->pkt_len;
	/* Where the buffer lives must survive; what was said about it on receipt must not. */
	m->ol_flags = m->ol_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL);
	m->tx_offload = 0;
	if (d->flags >= CLGW_TX_IPV4) {
		m->ol_flags |= clgw_tx_ol_flags(d->flags);
		m->l2_len = d->l2_len;
		m->l3_len = d->l3_len;
		m->l4_len = d->l4_len;
		m->tso_segsz = d->tso_segsz;
	}
}

/* All n mbufs or none; 0 or -ENOENT. n is at most CLGW_BURST_MAX. */
int clgw_mbuf_alloc_bulk(void *pool, struct clgw_mbuf *out, uint32_t n)
{
	struct rte_mbuf *mbufs[CLGW_BURST_MAX];

	if (n > CLGW_BURST_MAX)
		return -EINVAL;
	if (rte_pktmbuf_alloc_bulk(pool, mbufs, n) != 0)
		return -ENOENT;
	for (uint32_t i = 0; i < n; i++)
		fill(&out[i], mbufs[i]);
	return 0;
}

void clgw_mbuf_free(void *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void clgw_mbuf_free_bulk(const struct clgw_mbuf *in, uint32_t n)
{
	struct rte_mbuf *mbufs[CLGW_BURST_MAX];

	while (n > 0) {
		uint32_t part = RTE_MIN(n, (uint32_t)CLGW_BURST_MAX);

		for (uint32_t i = 0; i < part; i++)
			mbufs[i] = in[i].mbuf;
		rte_pktmbuf_free_bulk(mbufs, part);
		in += part;
		n -= part;
	}
}

/* Hangs tail's segments behind head's; head is refreshed, tail belongs to head afterwards. */
int clgw_mbuf_chain(struct clgw_mbuf *head, const struct clgw_mbuf *tail)
{
	int ret;

	write_back(head);
	write_back(tail);
	ret = rte_pktmbuf_chain(head->mbuf, tail->mbuf);
	if (ret != 0)
		return ret;
	head->pkt_len = ((struct rte_mbuf *)head->mbuf)->pkt_len;
	head->nb_segs = ((struct rte_mbuf *)head->mbuf)->nb_segs;
	return 0;
}

/* The segment after `segment` (an mbuf pointer), its bytes in data and len; NULL at the end. */
void *clgw_mbuf_next(void *segment, uint8_t **data, uint16_t *len)
{
	struct rte_mbuf *next = ((struct rte_mbuf *)segment)->next;

	if (next != NULL) {
		*data = rte_pktmbuf_mtod(next, uint8_t *);
		*len = next->data_len;
	}
	return next;
}

/* Makes the packet one segment. The bytes are moved by the caller; this frees the rest of the
 * chain and takes the new first-segment length from the descriptor. */
void clgw_mbuf_drop_tail(struct clgw_mbuf *d)
{
	struct rte_mbuf *m = d->mbuf;
	struct rte_mbuf *rest = m->next;

	m->next = NULL;
	m->nb_segs = 1;
	rte_pktmbuf_free(rest);
	d->nb_segs = 1;
	d->pkt_len = d->data_len;
}

uint16_t clgw_rx_burst(uint16_t port, uint16_t queue, struct clgw_mbuf *out, uint16_t n)
{
	struct rte_mbuf *mbufs[CLGW_BURST_MAX];
	uint16_t got = rte_eth_rx_burst(port, queue, mbufs, RTE_MIN(n, (uint16_t)CLGW_BURST_MAX));

	for (uint16_t i = 0; i < got; i++) {
		fill(&out[i], mbufs[i]);
		rte_prefetch0(out[i].data);
	}
	return got;
}

/* Returns how many of n (at most CLGW_BURST_MAX) the device took, from the front; those are its own
 * now. *invalid is 1 if the one after them is one the device can never send. */
uint16_t clgw_tx_burst(uint16_t port, uint16_t queue, const struct clgw_mbuf *in, uint16_t n,
		       uint8_t *invalid)
{
	struct rte_mbuf *mbufs[CLGW_BURST_MAX];
	uint32_t flags = 0;
	uint16_t good, sent;

	n = RTE_MIN(n, (uint16_t)CLGW_BURST_MAX);
	for (uint16_t i = 0; i < n; i++) {
		write_back(&in[i]);
		flags |= in[i].flags;
		mbufs[i] = in[i].mbuf;
	}
	good = n;
	if (flags & CLGW_TX_OFFLOAD_MASK)
		good = rte_eth_tx_prepare(port, queue, mbufs, n);
	sent = rte_eth_tx_burst(port, queue, mbufs, good);
	*invalid = sent == good && good < n;
	return sent;
}
