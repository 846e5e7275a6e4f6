/* The kernel's histograms on the host: which bucket a value is counted in. */
#include "../../src/kernob/bpf/include/histogram.h"

__u32 bucket_of_duration(__u64 ns)
{
	return duration_bucket(ns);
}

__u32 bucket_of_size(__u64 bytes)
{
	return size_bucket(bytes);
}
