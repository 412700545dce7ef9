/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of what DPDK logged, kept for error messages.
 */
#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_log.h>

/* DPDK explains most failures only in its log. The end of it is kept so that an error can quote
 * it; everything still goes to stderr. The stream's own lock guards the buffer. */
static FILE *log_stream;
static char log_tail[4096];
static size_t log_len;

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	size_t keep = RTE_MIN(len, sizeof(log_tail));

	if (log_len + keep > sizeof(log_tail)) {
		size_t cut = log_len + keep - sizeof(log_tail);

		memmove(log_tail, log_tail + cut, log_len - cut);
		log_len -= cut;
	}
	memcpy(log_tail + log_len, text + (len - keep), keep);
	log_len += keep;
	if (write(STDERR_FILENO, text, len) < 0) {
		/* A closed stderr must not turn into a failing log call. */
	}
	return (ssize_t)len;
}

void clgw_log_capture(void)
{
	cookie_io_functions_t io = { .write = log_write };

	if (log_stream != NULL)
		return;
	log_stream = fopencookie(NULL, "w", io);
	if (log_stream != NULL)
		rte_openlog_stream(log_stream);
}

/* Moves up to cap bytes of the captured log out and forgets the rest; returns the count. */
uint32_t clgw_log_take(char *out, uint32_t cap)
{
	uint32_t n = 0;

	if (log_stream == NULL)
		return 0;
	flockfile(log_stream);
	n = (uint32_t)RTE_MIN(log_len, (size_t)cap);
	memcpy(out, log_tail + (log_len - n), n);
	log_len = 0;
	funlockfile(log_stream);
	return n;
}
