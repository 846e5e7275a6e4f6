/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Fingerprints and their texts: a text goes up once, when its fingerprint is new.
 */
#ifndef KERNOB_OPERATION_H
#define KERNOB_OPERATION_H

#include "kernel.h"
#include "unit.h"
#include <bpf/bpf_helpers.h>

enum text_kind { OPERATION_TEXT, NAMESPACE_TEXT };

struct operation {
	__u64 fingerprint;
	__u32 length;
	__u8 protocol;
	__u8 kind; /* enum text_kind */
	__u16 reserved;
	__u8 text[TEXT];
};

/* For the ring's reader: a type that nothing else names is not in the object's BTF. */
const struct operation *operation_type __attribute__((unused));

/* Which have gone up. Nothing is counted here: what is pushed out goes up once more. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} operations_known SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} operations SEC(".maps");

/* Texts that the ring had no room for: each goes up when it is seen again. */
__u64 operations_dropped;

/* Sends a text up if it is new, and not empty. */
__noinline int announce(__u64 fingerprint, struct text *text, int protocol, int kind)
{
	__u32 length;
	struct operation *operation;
	__u8 yes = 1;

	if (!text || !text->length || bpf_map_lookup_elem(&operations_known, &fingerprint))
		return 0;
	operation = bpf_ringbuf_reserve(&operations, sizeof(*operation), 0);
	if (!operation) {
		__sync_fetch_and_add(&operations_dropped, 1);
		return 0;
	}
	length = text->length;
	if (length > TEXT)
		length = TEXT;
	operation->fingerprint = fingerprint;
	operation->length = length;
	operation->protocol = protocol;
	operation->kind = kind;
	operation->reserved = 0;
	bpf_probe_read_kernel(operation->text, sizeof(operation->text), text->bytes);
	bpf_ringbuf_submit(operation, BPF_RB_NO_WAKEUP);
	bpf_map_update_elem(&operations_known, &fingerprint, &yes, BPF_ANY);
	return 0;
}

#endif
