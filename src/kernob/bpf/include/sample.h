/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Single requests that go up, for people to look at: errors, the slowest of each series, and one of
 * each series a second. No metric depends on them. Each process has a budget; what is beyond it is
 * stood for by the next sample of its series.
 */
#ifndef KERNOB_SAMPLE_H
#define KERNOB_SAMPLE_H

#include "series.h"
#include "unit.h"

enum sample_reason { NO_SAMPLE, FAILED, SLOWEST, FAIR };

struct sample {
	struct series_key key;
	__u64 start; /* first byte of the request, monotonic, nanoseconds */
	__u64 first; /* of the answer */
	__u64 last;
	__u64 request_bytes;
	__u64 response_bytes;
	__u32 weight; /* requests of its series since the sample before, this one included */
	__u8 reason;
	__u8 reserved[3];
};

const struct sample *sample_type __attribute__((unused)); /* for its place in BTF */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} samples SEC(".maps");

struct budget {
	__u64 window; /* of about a second */
	__u32 failed;
	__u32 others;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* start of the process */
	__type(value, struct budget);
} budgets SEC(".maps");

/* Of one process: as many failed requests, and half as many others. 0: no samples at all. */
const volatile __u32 samples_per_second = 20;
/* Samples that the ring had no room for. */
__u64 samples_dropped;

#define WINDOW_SHIFT 30 /* 2^30 ns */

/* Whether a status is an error, as far as samples care: user space knows better what it is. */
static __always_inline bool is_failure(__u8 protocol, __u32 status)
{
	switch (protocol) {
	case HTTP:
		return status >= 400;
	case MEMCACHED:
		return status > 5;
	case DNS:
		return status && status <= 256;
	}
	return status;
}

static __always_inline __u8 why_sample(struct series *row, __u8 protocol, __u32 status, __u64 ns,
				       __u64 last)
{
	if (is_failure(protocol, status))
		return FAILED;
	if (ns > row->slowest)
		return SLOWEST;
	return row->fair == (__u32)(last >> WINDOW_SHIFT) ? NO_SAMPLE : FAIR;
}

/* Whether the process has some of its budget left. */
static __always_inline bool may_sample(__u64 process, __u8 reason, __u64 last)
{
	struct budget *budget = bpf_map_lookup_elem(&budgets, &process);
	struct budget fresh = {};
	__u32 *spent;

	if (!budget) {
		bpf_map_update_elem(&budgets, &process, &fresh, BPF_NOEXIST);
		budget = bpf_map_lookup_elem(&budgets, &process);
		if (!budget)
			return false;
	}
	if (budget->window != last >> WINDOW_SHIFT) {
		budget->window = last >> WINDOW_SHIFT;
		budget->failed = 0;
		budget->others = 0;
	}
	spent = reason == FAILED ? &budget->failed : &budget->others;
	return __sync_fetch_and_add(spent, 1) <
	       (reason == FAILED ? samples_per_second : samples_per_second / 2);
}

/* Room in the ring for a sample of the row, if there is reason and budget for one. */
static __always_inline struct sample *make_sample(struct series *row, __u64 process, __u8 protocol,
						  __u32 status, __u64 ns, __u64 last, __u32 count)
{
	struct sample *sample;
	__u8 reason;

	__sync_fetch_and_add(&row->since, count);
	reason = why_sample(row, protocol, status, ns, last);
	if (reason == NO_SAMPLE || !samples_per_second || !may_sample(process, reason, last))
		return 0;
	sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
	if (!sample) {
		__sync_fetch_and_add(&samples_dropped, 1);
		return 0;
	}
	if (ns > row->slowest)
		row->slowest = ns;
	row->fair = last >> WINDOW_SHIFT;
	sample->reason = reason;
	sample->weight = __sync_lock_test_and_set(&row->since, 0);
	return sample;
}

#endif
