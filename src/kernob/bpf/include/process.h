/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Who is running: the identity of a process, and what must be kept of it while it lives.
 *
 * A process is its thread group's id and its start time together: an id comes back, the pair
 * does not. A process may live for five milliseconds, too short for anybody to read /proc, so
 * its names are taken here, once, when it first shows up in a table.
 */
#ifndef KERNOB_PROCESS_H
#define KERNOB_PROCESS_H

#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct process_key {
	__u64 start; /* nanoseconds since boot: task_struct.start_boottime of the group's leader */
	__u32 pid; /* thread group id in the initial pid namespace */
	__u32 reserved;
};

struct process {
	__u64 cgroup_id; /* of cgroup version 2 */
	__u32 parent;
	__u32 uid;
	char name[16];
	char executable[64]; /* base name of the executed file */
	char cgroup[96]; /* base name of its cgroup: version 2, else that of the pids controller */
	char command[256]; /* command line, arguments end in NUL; cut */
	__u32 command_length;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, struct process);
} processes SEC(".maps");

/* Processes of the table above that have ended; user space folds their rows and empties both. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, __u64); /* when, nanoseconds since boot */
} exits SEC(".maps");

/* Where a struct process is put together: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process);
} process_scratch SEC(".maps");

/* Processes whose names could not be kept, and ends that could not be told: a full table. */
__u64 processes_dropped;
__u64 exits_dropped;

static __always_inline struct process_key process_of(struct task_struct *task)
{
	struct process_key key = {
		.start = task->group_leader->start_boottime,
		.pid = task->tgid,
	};
	return key;
}

static __always_inline void read_cgroup_name(struct process *process, struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup *cgroup = BPF_CORE_READ(set, dfl_cgrp);

	/* A host that still uses version 1 has everybody at version 2's root. */
	if (BPF_CORE_READ(cgroup, level) == 0 &&
	    bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
		int pids = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
		struct cgroup_subsys_state *css;

		bpf_core_read(&css, sizeof(css), &set->subsys[pids]);
		cgroup = BPF_CORE_READ(css, cgroup);
	}
	bpf_probe_read_kernel_str(process->cgroup, sizeof(process->cgroup),
				  BPF_CORE_READ(cgroup, kn, name));
}

/* Keeps the names of the process `key`, of which `task` is a thread. */
static __noinline int remember_process(struct task_struct *task, struct process_key *key)
{
	struct process *process;
	__u64 start, length;
	__u32 zero = 0;

	if (!task || !key || bpf_map_lookup_elem(&processes, key))
		return 0;
	process = bpf_map_lookup_elem(&process_scratch, &zero);
	if (!process)
		return 0;
	__builtin_memset(process, 0, sizeof(*process));
	process->parent = BPF_CORE_READ(task, real_parent, tgid);
	process->uid = BPF_CORE_READ(task, real_cred, uid.val);
	process->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	bpf_probe_read_kernel_str(process->name, sizeof(process->name),
				  BPF_CORE_READ(task, group_leader, comm));
	bpf_probe_read_kernel_str(process->executable, sizeof(process->executable),
				  BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));
	read_cgroup_name(process, task);
	/* Another process's memory can't be read from here; who is not running now has a /proc. */
	if (BPF_CORE_READ(task, tgid) == bpf_get_current_pid_tgid() >> 32) {
		start = BPF_CORE_READ(task, mm, arg_start);
		length = BPF_CORE_READ(task, mm, arg_end) - start;
		if (length > sizeof(process->command))
			length = sizeof(process->command);
		if (length && !bpf_probe_read_user(process->command, length, (void *)start))
			process->command_length = length;
	}
	if (bpf_map_update_elem(&processes, key, process, BPF_NOEXIST) == -7 /* E2BIG */)
		__sync_fetch_and_add(&processes_dropped, 1);
	return 0;
}

#endif
