/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which bucket of a histogram a value is counted in.
 *
 * A histogram is OpenTelemetry's exponential one at scale 3: bucket i of the convention holds
 * (2^(i/8), 2^((i+1)/8)]. Counting is exact: integers only.
 */
#ifndef KERNOB_HISTOGRAM_H
#define KERNOB_HISTOGRAM_H

#include "scan.h"

#define BUCKETS 256
/* Bucket 0 of a row of durations is number -160: it also holds what took less than 2^-20 s. The
 * last one ends at 2^12 s, and holds what took longer. */
#define FIRST_DURATION (-160)
/* Bucket 0 of a row of sizes is number -1: one byte. */
#define FIRST_SIZE (-1)

/* floor(2^(62 + k/8)), and what nothing is above */
static const __u64 borders[16] = {
	0x4000000000000000, 0x45cae0f1f545eb73, 0x4c1bf828c6dc54b7,
	0x52ff6b54d8a89c75, 0x5a827999fcef3242, 0x62b39508aa836d6e,
	0x6ba27e656b4eb57a, 0x75606373ee921c97, ~0ULL,
};

/* By the six bits behind the highest one of a mantissa: how many borders are below all that begin
 * so. No two borders begin alike, so the next one decides. */
static const __u8 borders_below[64] = {
	0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 4,
	4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6,
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8,
};

/* The number of the highest bit of a value from 1 on, without branches: all bits below it are set,
 * then all but it are cleared. */
static __always_inline __u32 top_bit(__u64 value)
{
	value |= value >> 1;
	value |= value >> 2;
	value |= value >> 4;
	value |= value >> 8;
	value |= value >> 16;
	value |= value >> 32;
	return lowest_bit(value ^ (value >> 1));
}

/* The number of the bucket of a value from 1 on: -1 for 1. */
static __always_inline __s32 bucket_of(__u64 value)
{
	__u32 top = top_bit(value), below;
	__u64 mantissa = value << (63 - top) >> 1;

	below = borders_below[mantissa >> 56 & 63];
	return (top << 3) + below + (mantissa > borders[bounded(below, 15)]) - 1;
}

static __always_inline __u32 clamp_bucket(__s32 number, __s32 first)
{
	number -= first;
	if (number < 0)
		return 0;
	return number < BUCKETS ? number : BUCKETS - 1;
}

/* The bucket of a duration: 10^9 is no power of two, so nanoseconds become units of 2^-30 s. */
static __always_inline __u32 duration_bucket(__u64 ns)
{
	__u64 units;

	/* 0.073741824 in units of 2^-32: exact to a billionth. */
	if (ns < 1ULL << 35)
		units = ns + (ns * 316718722ULL >> 32);
	else
		units = ns + ((ns >> 10) * 316718722ULL >> 22);
	return clamp_bucket(bucket_of(units ? units : 1) - (30 << 3), FIRST_DURATION);
}

static __always_inline __u32 size_bucket(__u64 bytes)
{
	return clamp_bucket(bucket_of(bytes), FIRST_SIZE);
}

#endif
