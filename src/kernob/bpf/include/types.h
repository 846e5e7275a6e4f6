/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Integers by their width, as the kernel names them; for the host as for BPF. */
#ifndef KERNOB_TYPES_H
#define KERNOB_TYPES_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;

#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* `number` within `mask`, in a way that the compiler can't fold away: the verifier has to see it.
 */
static __always_inline __u32 bounded(__u32 number, __u32 mask)
{
	asm volatile("" : "+r"(number));
	return number & mask;
}

#endif
