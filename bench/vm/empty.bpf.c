/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Programs that do nothing, on the hooks of src/kernob/bpf/network.bpf.c: what a hook costs. */
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>

SEC("tp_btf/sock_send_length")
int send_length(void *ctx)
{
	return 0;
}

SEC("tp_btf/sock_recv_length")
int receive_length(void *ctx)
{
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int set_state(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
