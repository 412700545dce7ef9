/* SPDX-License-Identifier: Apache-2.0
 *
 * EAL, threads and the cycle counter.
 */
#include "internal.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

_Static_assert(sizeof(struct clgw_limits) == 20, "clgw_limits layout");

void clgw_log_capture(void);

/* rte_eal_init pins the caller to the main lcore's CPU, and every thread started later inherits
 * that; the caller's own mask is put back. */
int clgw_eal_init(int argc, char **argv)
{
	cpu_set_t before;
	int have_mask = pthread_getaffinity_np(pthread_self(), sizeof(before), &before) == 0;
	int ret;

	clgw_log_capture();
	rte_errno = 0;
	ret = rte_eal_init(argc, argv);
	if (ret < 0)
		ret = fail_errno();
	else
		ret = 0;
	if (have_mask)
		(void)pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
	return ret;
}

int clgw_eal_cleanup(void)
{
	return rte_eal_cleanup();
}

const char *clgw_dpdk_version(void)
{
	return rte_version();
}

void clgw_limits(struct clgw_limits *out)
{
	out->max_lcores = RTE_MAX_LCORE;
	out->pool_name_max = RTE_MEMPOOL_NAMESIZE - 1;
	out->port_name_max = RTE_ETH_NAME_MAX_LEN - 1;
	out->pool_cache_max = RTE_MEMPOOL_CACHE_MAX_SIZE;
	out->headroom = RTE_PKTMBUF_HEADROOM;
}

/* 1 if this thread may run on the CPU. Asked by trying, because only that sees cgroup limits;
 * EAL aborts the process when the kernel refuses a worker's CPU. */
int clgw_cpu_usable(uint32_t cpu)
{
	cpu_set_t before, one;
	int ok;

	if (cpu >= CPU_SETSIZE || pthread_getaffinity_np(pthread_self(), sizeof(before), &before) != 0)
		return 0;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ok = pthread_setaffinity_np(pthread_self(), sizeof(one), &one) == 0;
	(void)pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
	return ok;
}

/* Writes the CPUs this thread may run on, ascending; returns how many. */
uint32_t clgw_affinity(uint16_t *out, uint32_t cap)
{
	cpu_set_t set;
	uint32_t n = 0;

	if (pthread_getaffinity_np(pthread_self(), sizeof(set), &set) != 0)
		return 0;
	for (uint32_t cpu = 0; cpu < CPU_SETSIZE && n < cap; cpu++)
		if (CPU_ISSET(cpu, &set))
			out[n++] = (uint16_t)cpu;
	return n;
}

int clgw_pin_thread(uint32_t cpu)
{
	cpu_set_t one;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return -pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
}

int clgw_timer_slack(uint64_t nanoseconds)
{
	return prctl(PR_SET_TIMERSLACK, (unsigned long)nanoseconds, 0, 0, 0) < 0 ? -errno : 0;
}

uint64_t clgw_cycles(void)
{
	return rte_rdtsc();
}

uint64_t clgw_cycles_hz(void)
{
	return rte_get_tsc_hz();
}

/* The lcore of the calling thread, or -1. */
int32_t clgw_lcore_id(void)
{
	unsigned int id = rte_lcore_id();

	return id == LCORE_ID_ANY ? -1 : (int32_t)id;
}

int clgw_thread_register(void)
{
	rte_errno = 0;
	return rte_thread_register() < 0 ? fail_errno() : 0;
}

static void flush_own_cache(struct rte_mempool *mp, void *arg)
{
	struct rte_mempool_cache *cache = rte_mempool_default_cache(mp, rte_lcore_id());

	(void)arg;
	if (cache != NULL && cache->len > 0)
		rte_mempool_cache_flush(cache, mp);
}

/* A departing thread's mempool caches would keep their mbufs for ever: nobody else may take them,
 * and clgw_pool_free_if_idle could never prove the pool idle. */
void clgw_thread_unregister(void)
{
	rte_mempool_walk(flush_own_cache, NULL);
	rte_thread_unregister();
}
