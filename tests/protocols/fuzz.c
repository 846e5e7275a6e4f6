/*
 * Mutated streams for every parser: no crash, nothing read behind the window or before it, always
 * progress, the same result whatever lies behind the bytes, and however the stream is cut.
 *
 *	fuzz INPUTS SEED CORPUS...
 *
 * The corpus' files are named after their protocol: NAME-*.bin. The window and the text each end at
 * a page that can't be read, or begin behind one.
 */
#include "host.c"

#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LONGEST 3000
#define MOST_CUTS 12
#define MOST_SAMPLES 1024
#define MOST_ASKED 8
#define PAGE 4096
#define MOST_UNITS (LONGEST + 1)

struct sample {
	__u32 protocol;
	__u32 length;
	__u8 bytes[LONGEST];
};

struct input {
	__u32 protocol;
	bool client;
	__u32 length;
	__u32 cut_count;
	__u32 cuts[MOST_CUTS + 1];
	struct asked asked[MOST_ASKED];
	__u32 asked_count;
	__u8 bytes[LONGEST];
};

/* What one run over an input has found. */
struct result {
	__u32 trouble;
	__u64 hash;
};

struct totals {
	__u64 inputs;
	__u64 units;
	__u64 alien;
};

static struct sample *samples;
static __u32 sample_count;
static __u32 streams[PROTOCOLS]; /* how many samples each has */
static struct input input;
static struct seen *units;
static struct totals totals[PROTOCOLS];
static __u64 state;

static __u32 any(__u32 below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (__u32)(state >> 11) % below;
}

static void fail(const char *why)
{
	printf("%s: %s, a %s's stream; cuts", protocols[input.protocol].name, why,
	       input.client ? "client" : "server");
	for (__u32 i = 0; i < input.cut_count; i++)
		printf(" %u", input.cuts[i]);
	printf("; asked");
	for (__u32 i = 0; i < input.asked_count; i++)
		printf(" %u%s", input.asked[i].local, input.asked[i].marker ? "m" : "");
	printf("; bytes.fromhex(\"");
	for (__u32 i = 0; i < input.length; i++)
		printf("%02x", input.bytes[i]);
	printf("\")\n");
	fflush(stdout);
	_exit(1);
}

static void crashed(int number)
{
	(void)number;
	fail("crashes, or reads or writes where it must not");
}

/* A page with one that can't be touched before it and one behind it. */
static __u8 *guarded(void)
{
	__u8 *pages = mmap(0, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE))
		abort();
	return pages + PAGE;
}

static void load(char *path)
{
	struct sample *sample = &samples[sample_count];
	const char *name = basename(path);
	FILE *file = fopen(path, "rb");
	size_t length;

	sample->protocol = NO_PROTOCOL;
	for (__u32 i = 0; i < PROTOCOLS; i++) {
		length = protocols[i].name ? strlen(protocols[i].name) : 0;
		if (length && !strncmp(name, protocols[i].name, length) && name[length] == '-')
			sample->protocol = i;
	}
	if (!file)
		abort();
	sample->length = fread(sample->bytes, 1, LONGEST, file);
	fclose(file);
	if (!sample->protocol || !sample->length || sample_count == MOST_SAMPLES - 1)
		return;
	sample_count++;
	streams[sample->protocol]++;
}

static void replace(__u32 at, __u32 removed, const __u8 *by, __u32 added)
{
	__u32 tail = input.length - at - removed;

	if (at + added + tail > LONGEST)
		return;
	memmove(input.bytes + at + added, input.bytes + at + removed, tail);
	memcpy(input.bytes + at, by, added);
	input.length = at + added + tail;
}

/* One change; the stream stays at least a byte long. */
static void mutate(void)
{
	static const char *const pieces[] = {"\r\n",
					     "\n",
					     "\r",
					     " ",
					     "0",
					     "-1",
					     "99999999999999",
					     "$",
					     "*",
					     "'",
					     "\"",
					     "\0",
					     "\xff\xff\xff\xff",
					     "/*",
					     "2147483648",
					     ":",
					     "{",
					     "\x80",
					     "\x01"};
	static const __u32 numbers[] = {0,      1,      0x7f,       0x80,      0xff,
					0x7fff, 0xffff, 0x7fffffff, 0xfffffffe};
	const struct sample *other = &samples[any(sample_count)];
	__u32 at = any(input.length), left = input.length - at, count = 1 + any(16), number;
	const char *piece = pieces[any(sizeof(pieces) / sizeof(*pieces))];
	__u8 copy[64];

	switch (any(9)) {
	case 0:
		input.bytes[at] ^= 1 << any(8);
		break;
	case 1:
		input.bytes[at] = any(256);
		break;
	case 2:
		if (count < left)
			replace(at, count, copy, 0);
		break;
	case 3:
		if (count > left)
			count = left;
		memcpy(copy, input.bytes + at, count);
		replace(any(input.length), 0, copy, count);
		break;
	case 4:
		replace(at, any(2), (const __u8 *)piece, strlen(piece) + !*piece);
		break;
	case 5: /* a number in bytes */
		number = numbers[any(sizeof(numbers) / sizeof(*numbers))];
		if (any(2))
			number = __builtin_bswap32(number);
		if (left >= 4)
			memcpy(input.bytes + at, &number, 1 + any(4));
		break;
	case 6: /* the rest is another stream's */
		number = any(other->length);
		count = other->length - number;
		if (any(4) == 0 && at + count <= LONGEST)
			replace(at, left, other->bytes + number, count);
		break;
	case 7: /* a long piece of one byte */
		memset(copy, input.bytes[at], sizeof(copy));
		for (__u32 i = any(20); i; i--)
			replace(at, 0, copy, sizeof(copy));
		break;
	case 8:
		if (any(4) == 0)
			input.length = at + 1;
		break;
	}
}

static int upwards(const void *a, const void *b)
{
	return (int)*(const __u32 *)a - (int)*(const __u32 *)b;
}

static void invent(void)
{
	const struct sample *sample = &samples[any(sample_count)];
	__u32 protocol;

	/* As many of each protocol, however many streams it has. */
	do
		protocol = any(PROTOCOLS);
	while (!streams[protocol]);
	while (sample->protocol != protocol)
		sample = &samples[any(sample_count)];
	input.protocol = protocol;
	input.client = any(2);
	input.length = sample->length;
	memcpy(input.bytes, sample->bytes, sample->length);
	for (__u32 i = any(any(3) ? 3 : 8); i; i--)
		mutate();
	input.cut_count = any(MOST_CUTS);
	for (__u32 i = 0; i < input.cut_count; i++)
		input.cuts[i] = any(input.length);
	qsort(input.cuts, input.cut_count, sizeof(*input.cuts), upwards);
	input.asked_count = any(MOST_ASKED);
	for (__u32 i = 0; i < input.asked_count; i++) {
		input.asked[i].local = any(3) ? any(8) : any(0x7fffffff);
		input.asked[i].marker = !any(4);
	}
}

/* Shows the input to its parser. `exact`: the result is of every unit in every detail, else only of
 * what the engine makes of them. */
static struct result run(const struct place *place, bool cut, bool exact)
{
	static struct connection connection;
	struct direction *direction = &connection.directions[input.client];
	struct result result = {0};
	__u32 at = 0, end, count, last = 0;
	const struct unit *unit;

	memset(&connection, 0, sizeof(connection));
	connection.protocol = input.protocol;
	connection.asked = input.asked;
	connection.asked_count = input.asked_count;
	for (__u32 i = 0; i <= (cut ? input.cut_count : 0); i++, at = end) {
		end = cut && i < input.cut_count ? input.cuts[i] : input.length;
		if (direction->trouble || end == at)
			continue;
		count = feed(&connection, input.client, place, input.bytes + at, end - at, units,
			     MOST_UNITS);
		totals[input.protocol].units += count;
		for (__u32 j = 0; j < count; j++) {
			unit = &units[j].unit;
			if (exact)
				result.hash = mix(mix(result.hash, unit->length), unit->body);
			else if (!unit->events || (unit->events == APART && last == APART))
				continue;
			last = unit->events;
			result.hash = mix(mix(result.hash, unit->events), unit->statement);
			result.hash = mix(mix(result.hash, unit->operation), unit->local);
			result.hash = mix(mix(result.hash, unit->status), unit->reason);
			for (__u32 k = 0; k < units[j].text_length; k++)
				result.hash = mix(result.hash, units[j].text[k]);
		}
	}
	result.trouble = direction->trouble;
	if (result.trouble == STUCK)
		fail("says MORE though the window is full");
	if (result.trouble == STILL)
		fail("takes a unit of no bytes");
	if (result.trouble == BEYOND)
		fail("writes a text longer than its place");
	if (result.trouble == FULL)
		fail("finds more units than bytes");
	return result;
}

int main(int count, char **arguments)
{
	__u8 *window = guarded(), *text = guarded();
	struct place ending = {.window = window + PAGE - SEEN_BYTES, .filling = 0xff};
	struct place beginning = {.window = window, .text = (void *)text, .filling = '1'};
	struct result first, second;
	__u64 inputs;
	bool found;

	if (count < 4)
		return 2;
	ending.text = (void *)(text + PAGE - sizeof(struct text));
	samples = calloc(MOST_SAMPLES, sizeof(*samples));
	units = calloc(MOST_UNITS, sizeof(*units));
	for (int i = 3; i < count; i++)
		load(arguments[i]);
	if (!samples || !units || !sample_count)
		return 2;
	signal(SIGSEGV, crashed);
	signal(SIGBUS, crashed);
	signal(SIGILL, crashed);
	signal(SIGTRAP, crashed);
	inputs = strtoull(arguments[1], 0, 10);
	state = strtoull(arguments[2], 0, 10) * 2 + 1;
	for (__u64 i = 0; i < inputs; i++) {
		invent();
		found = detects(input.protocol, input.client, &ending, input.bytes, input.length);
		if (found !=
		    detects(input.protocol, input.client, &beginning, input.bytes, input.length))
			fail("detection looks behind the bytes");
		first = run(&ending, true, i & 1);
		second = run(&beginning, i & 1, i & 1);
		if (first.trouble != second.trouble ||
		    (first.hash != second.hash && (i & 1 || first.trouble != LOST)))
			fail(i & 1 ? "what lies behind the bytes changes the result"
				   : "a cut changes the result");
		totals[input.protocol].inputs++;
		totals[input.protocol].alien += first.trouble == LOST;
	}
	for (__u32 i = 0; i < PROTOCOLS; i++) {
		if (protocols[i].name)
			printf("%s inputs %llu units %llu alien %llu\n", protocols[i].name,
			       totals[i].inputs, totals[i].units, totals[i].alien);
	}
	return 0;
}
