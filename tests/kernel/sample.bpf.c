/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the tests of the kernel layer load: each kind of type, map and program once, and some
 * programs that a kernel must refuse.
 */
#include "include/kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <stdbool.h>

#define BPF_MAP_TYPE_PERCPU_HASH 5
#define BPF_RB_NO_WAKEUP 1

enum colour { RED = 1, GREEN = 70000 };
enum sign { MINUS = -1, PLUS = 1 };
enum wide { WIDE = 1ULL << 40 };

struct point {
	__s16 x;
	__s32 y; /* behind two bytes of padding */
};

struct everything {
	char name[5];
	__u8 octets[3];
	__s8 small;
	bool yes;
	enum colour colour;
	enum sign sign;
	enum wide wide;
	struct point corners[2][3];
	union {
		__u64 whole;
		struct {
			__u32 low, high;
		};
	};
	union {
		__u16 port;
		__u8 bytes[2];
	} named;
	void *pointer;
	double real;
	unsigned __int128 huge;
	const volatile __u32 *const qualified;
	__u8 last; /* seven bytes of padding follow */
};

struct with_bits {
	__u32 a : 3;
	__u32 b : 29;
};

struct event {
	__u64 number;
	__u32 index;
	__u32 cpu;
}; /* with its head of 8 bytes 24: does not divide a page, so records wrap */

struct value {
	__u64 count;
	__u32 odd; /* 12 bytes of content, 16 with padding */
};

struct small {
	__u8 a, b, c;
};

#define MAP(NAME, TYPE, ENTRIES, KEY, VALUE, FLAGS)                                                \
	struct {                                                                                   \
		__uint(type, TYPE);                                                                \
		__uint(max_entries, ENTRIES);                                                      \
		__uint(map_flags, FLAGS);                                                          \
		__type(key, KEY);                                                                  \
		__type(value, VALUE);                                                              \
	} NAME SEC(".maps")

MAP(types, BPF_MAP_TYPE_HASH, 4, struct point, struct everything, 0);
MAP(bits, BPF_MAP_TYPE_HASH, 1, __u32, __u64, 0);
MAP(hash, BPF_MAP_TYPE_HASH, 5000, __u64, struct value, BPF_F_NO_PREALLOC);
MAP(hash_per_cpu, BPF_MAP_TYPE_PERCPU_HASH, 100, __u32, struct small, 0);
MAP(lru, BPF_MAP_TYPE_LRU_HASH, 100, __u32, __u32, 0);
MAP(array, BPF_MAP_TYPE_ARRAY, 1000, __u32, struct small, 0);
MAP(array_per_cpu, BPF_MAP_TYPE_PERCPU_ARRAY, 7, __u32, __u32, 0);
MAP(mapped, BPF_MAP_TYPE_ARRAY, 1500, __u32, struct small, BPF_F_MMAPABLE);
MAP(steps, BPF_MAP_TYPE_ARRAY, 100, __u32, __u64, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

/* Makes the compiler describe types that nothing else uses. */
struct with_bits *described_bits;
struct event *described_event;

const volatile __s32 parent;
const volatile __u64 factors[3] = { 1, 2, 3 };
const volatile struct point origin = { 7, 8 };

__u64 hits[8]; /* by program */
__u32 numbers;
__u32 lost;
__u32 discard_every;
__u64 initialised = 42;

static __always_inline void hit(int program)
{
	__sync_fetch_and_add(&hits[program], 1);
}

static __always_inline bool is_ours(void)
{
	return (__s32)(bpf_get_current_pid_tgid() >> 32) == parent;
}

/* Runs once for each entry of `steps`, whenever the test reads the iterator. */
SEC("iter/bpf_map_elem")
int fill_ring(struct bpf_iter__bpf_map_elem *ctx)
{
	struct event *event;
	__u32 *key = ctx->key;

	if (!key)
		return 0;
	event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
	if (!event) {
		lost++;
		return 0;
	}
	event->number = factors[2];
	event->index = numbers++;
	event->cpu = bpf_get_smp_processor_id();
	if (discard_every && event->index % discard_every == 0)
		bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
	else
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("iter/bpf_map_elem")
int count_steps(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key, slot = 3, *counter;
	struct small *cell;
	struct event event = {};

	if (!key)
		return 0;
	counter = bpf_map_lookup_elem(&array_per_cpu, &slot);
	if (counter)
		++*counter;
	slot = *key;
	cell = bpf_map_lookup_elem(&mapped, &slot);
	if (cell)
		cell->b++;
	event.number = origin.y;
	event.index = *key;
	bpf_seq_write(ctx->meta->seq, &event, sizeof(event));
	return 0;
}

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KERNEL_TYPE;

SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__s32 pid;

	if (!task || task->pid != task->tgid)
		return 0;
	pid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &pid, sizeof(pid));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(typed_exit, struct task_struct *task)
{
	if (task->real_parent->tgid == parent)
		hit(0);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int raw_exit(void *ctx)
{
	if (bpf_get_current_task_btf()->real_parent->tgid == parent)
		hit(1);
	return 0;
}

SEC("tp/sched/sched_process_exit")
int plain_exit(void *ctx)
{
	if (bpf_get_current_task_btf()->real_parent->tgid == parent)
		hit(2);
	return 0;
}

SEC("perf_event")
int tick(void *ctx)
{
	if (is_ours())
		hit(3);
	return 0;
}

SEC("uprobe")
int enter(void *ctx)
{
	if (is_ours())
		hit(4);
	return 0;
}

SEC("uretprobe")
int leave(void *ctx)
{
	if (is_ours())
		hit(5);
	return 0;
}

SEC("cgroup/sendmsg4")
int send_datagram(struct bpf_sock_addr *ctx)
{
	if (is_ours())
		hit(6);
	return 1;
}

/* To be refused. */
SEC("raw_tp/sched_process_exit")
int reads_too_far(void *ctx)
{
	__u64 key = 0;
	struct value *value = bpf_map_lookup_elem(&hash, &key);

	return value->odd; /* not checked for NULL */
}

struct task_struct___elsewhere {
	__u64 no_such_field;
} KERNEL_TYPE;

SEC("tp_btf/sched_process_exit")
int BPF_PROG(reads_no_such_field, struct task_struct *task)
{
	hits[7] = ((struct task_struct___elsewhere *)task)->no_such_field;
	return 0;
}

SEC("tp_btf/no_such_tracepoint")
int BPF_PROG(hangs_nowhere, struct task_struct *task)
{
	return 0;
}

SEC("?raw_tp/sched_process_exit")
int off(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
