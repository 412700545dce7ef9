/* SPDX-License-Identifier: Apache-2.0
 *
 * Wires of net_ring between two ports of one process, for tests and measurements.
 */
#include "internal.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include <rte_mbuf.h>
#include <rte_ring.h>

/* One producer, one consumer: what a queue handle with &mut methods is. */
void *clgw_ring_create(const char *name, uint32_t slots, int *error)
{
	struct rte_ring *ring;

	rte_errno = 0;
	ring = rte_ring_create(name, slots, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
	*error = ring == NULL ? fail_errno() : 0;
	return ring;
}

/* Frees the mbufs still on the wire, then the ring. */
void clgw_ring_free(void *ring)
{
	void *mbuf;

	while (rte_ring_dequeue(ring, &mbuf) == 0)
		rte_pktmbuf_free(mbuf);
	rte_ring_free(ring);
}

typedef int (*from_rings_fn)(const char *, struct rte_ring *const[], unsigned int,
			     struct rte_ring *const[], unsigned int, unsigned int);

static int find_ring_driver(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	if (info->dlpi_name != NULL && strstr(info->dlpi_name, "librte_net_ring.so") != NULL) {
		*(const char **)out = info->dlpi_name;
		return 1;
	}
	return 0;
}

/* A port whose receive queues read rx[] and whose send queues write tx[]. The driver is looked up
 * at run time, so that the product does not depend on a package only tests need. Returns the port
 * or a negative errno; -ENOENT means that the driver is not loaded. */
int32_t clgw_eth_from_rings(const char *name, void *const *rx, void *const *tx, uint32_t queues)
{
	from_rings_fn from_rings = (from_rings_fn)dlsym(RTLD_DEFAULT, "rte_eth_from_rings");
	int port;

	if (from_rings == NULL) {
		const char *path = NULL;
		void *library;

		dl_iterate_phdr(find_ring_driver, &path);
		library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_NOLOAD);
		if (library == NULL)
			return -ENOENT;
		from_rings = (from_rings_fn)dlsym(library, "rte_eth_from_rings");
		if (from_rings == NULL)
			return -ENOENT;
	}
	rte_errno = 0;
	port = from_rings(name, (struct rte_ring *const *)rx, queues, (struct rte_ring *const *)tx,
			  queues, 0);
	return port < 0 ? fail_errno() : port;
}
