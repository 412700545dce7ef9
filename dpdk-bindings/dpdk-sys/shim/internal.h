/* SPDX-License-Identifier: Apache-2.0
 *
 * What the shim's files share. shim.h is the surface for Rust; this is for C only.
 */
#ifndef CLGW_INTERNAL_H
#define CLGW_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_errno.h>
#include <rte_version.h>

#include "shim.h"

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or newer is needed (Debian 12: libdpdk-dev)"
#endif

/* For DPDK functions that return -1 or NULL and leave the reason in rte_errno. */
static inline int fail_errno(void)
{
	return rte_errno > 0 ? -rte_errno : -EIO;
}

#endif
