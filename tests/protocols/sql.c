/* The normaliser of SQL on the host (src/kernob/bpf/include/sql.h), for test_sql.py. */
#include "../../src/kernob/bpf/include/sql.h"

#include <string.h>

static struct text text;

long bpf_loop(__u32 times, void *callback, void *context, __u64 flags)
{
	long (*step)(__u32, void *) = callback;

	for (__u32 i = 0; i < times; i++) {
		if (step(i, context))
			return i + 1;
	}
	return times;
}

__u32 normalize(const struct window *window, __u32 length, __u32 dialect, __u8 *to)
{
	memset(&text, 0xa5, sizeof(text));
	text.length = 0;
	sql_normalize(window, 0, length, &text, dialect);
	memcpy(to, text.bytes, text.length);
	return text.length;
}

__u64 fingerprint(void)
{
	return text_fingerprint(&text, 0);
}
