/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How the programs that count bytes go on to those that look at requests: by the stage of the
 * connection. Empty where requests are off. One chain for each hook, since the kernel lets only
 * programs of the same hook call each other.
 */
#ifndef KERNOB_CHAIN_H
#define KERNOB_CHAIN_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>

#define STAGES 16 /* a stage beyond is that of a connection which nobody looks at */

#define CHAIN(name)                                                                                \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                             \
		__uint(max_entries, STAGES);                                                       \
		__type(key, __u32);                                                                \
		__type(value, __u32);                                                              \
	} name SEC(".maps")

CHAIN(send_chain);
CHAIN(receive_chain);
CHAIN(page_chain); /* of inet_sendpage, until 6.5 */

#endif
