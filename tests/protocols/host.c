/*
 * The protocols' parsers on the host: one direction of a connection, call by call, shown to them
 * through the same window as in the kernel (src/kernob/bpf/include/{unit.h,records.h}).
 *
 * What lies behind the bytes that mean something is filled with what the caller wants, so that two
 * runs with different fillings show whether a parser looks at it. The window ends where unit.h says
 * that reading ends: there a caller may put a page that can't be read (fuzz.c).
 */
#include "../../src/kernob/bpf/protocols/all.h"

#include <string.h>

#define SEEN_BYTES (WINDOW + 64 + 1) /* p[i] for any i <= WINDOW + 64 */

/* Why a direction is not looked at any more. */
enum trouble {
	NONE,
	LOST, /* the parser says ALIEN */
	STUCK, /* it says MORE though the window is full */
	STILL, /* a unit of no bytes */
	BEYOND, /* a text longer than its place */
	ENDED, /* the event ENDS */
	FULL, /* no room for more units: the caller's mistake */
};

/* What a request that waits has told the answer's parser. */
struct asked {
	__u32 local;
	__u32 marker;
};

struct direction {
	__u64 own[4];
	__u64 skip;
	__u32 stashed;
	__u32 trouble;
	__u32 text_length; /* of the latest text */
	__u8 stash[WINDOW];
	__u8 text[TEXT];
};

struct connection {
	__u32 protocol;
	__u32 asked_count;
	__u32 asked_at;
	__u32 always; /* a request waits even when `asked` is at its end */
	__u32 runs; /* equal units may be told as one */
	__u32 reserved;
	__u64 shared[2];
	const struct asked *asked;
	struct direction directions[2]; /* the server's, the client's */
};

/* Where the parsers read and write. */
struct place {
	__u8 *window; /* SEEN_BYTES */
	struct text *text;
	__u8 filling;
};

struct seen {
	struct unit unit;
	__u32 text_length;
	__u8 text[TEXT];
};

typedef int parser(struct parse *parse, const __u8 *p, __u32 n, struct unit *unit,
		   struct text *text);
typedef bool detector(const __u8 *p, __u32 n);

struct functions {
	const char *name;
	detector *asks;
	detector *answers;
	parser *request;
	parser *response;
};

static const struct functions protocols[PROTOCOLS] = {
#define FUNCTIONS(number, name)                                                                    \
	[number] = {#name, name##_asks, name##_answers, name##_request, name##_response},
	EACH_PROTOCOL(FUNCTIONS)
#undef FUNCTIONS
};

long bpf_loop(__u32 times, void *callback, void *context, __u64 flags)
{
	long (*step)(__u32, void *) = callback;

	for (__u32 i = 0; i < times; i++) {
		if (step(i, context))
			return i + 1;
	}
	return times;
}

const char *protocol_name(__u32 number)
{
	return number < PROTOCOLS ? protocols[number].name : 0;
}

/* Puts what is to be seen into the window: `n` bytes from two places, and the filling behind. */
static void show(const struct place *place, const __u8 *first, __u32 first_count,
		 const __u8 *second, __u32 second_count)
{
	__u32 n = first_count + second_count;

	memcpy(place->window, first, first_count);
	memcpy(place->window + first_count, second, second_count);
	memset(place->window + n, place->filling, SEEN_BYTES - n);
}

/* Whether a stream that begins so looks like a client's, else like a server's. */
bool detects(__u32 protocol, bool client, const struct place *place, const __u8 *p, __u32 n)
{
	const struct functions *functions = &protocols[protocol];

	show(place, p, n < WINDOW ? n : WINDOW, p, 0);
	return (client ? functions->asks : functions->answers)(place->window, n);
}

/* The oldest request has got its answer; with `until`, all before the next marker and that one. */
static void answer(struct connection *connection, bool until)
{
	while (connection->asked_at < connection->asked_count) {
		if (connection->asked[connection->asked_at++].marker || !until)
			return;
	}
}

static bool has_text(const struct unit *unit)
{
	if (unit->events & NAMESPACE)
		return true;
	return unit->events & (REQUEST | REMEMBER) && !(unit->events & (MARKER | RECALL));
}

/* One look of the parser. Returns whether there is a unit. */
static bool look(struct connection *connection, bool client, const struct place *place, __u32 n,
		 struct seen *seen)
{
	const struct functions *functions = &protocols[connection->protocol];
	struct direction *direction = &connection->directions[client];
	struct parse parse = {.own = direction->own, .shared = connection->shared};
	int verdict;

	memset(&seen->unit, 0, sizeof(seen->unit));
	memset(place->text, place->filling, sizeof(*place->text));
	seen->text_length = 0;
	if (!client) {
		parse.waiting = connection->asked_at < connection->asked_count;
		if (parse.waiting)
			parse.asked = connection->asked[connection->asked_at].local;
		parse.waiting |= connection->always;
	}
	if (connection->runs)
		parse.runs = connection->runs;
	verdict = (client ? functions->request : functions->response)(&parse, place->window, n,
								      &seen->unit, place->text);
	if (verdict == MORE && n < WINDOW)
		return false;
	if (verdict != TAKEN)
		direction->trouble = verdict == MORE ? STUCK : LOST;
	else if (!seen->unit.length)
		direction->trouble = STILL;
	if (direction->trouble)
		return false;
	if (seen->unit.events & SAME) {
		/* As the engine has it, whatever the cuts. */
		seen->unit.events &= ~SAME;
		seen->text_length = direction->text_length;
		memcpy(seen->text, direction->text, seen->text_length);
	} else if (has_text(&seen->unit)) {
		seen->text_length = place->text->length;
		if (seen->text_length > TEXT) {
			direction->trouble = BEYOND;
			return false;
		}
		memcpy(seen->text, place->text->bytes, seen->text_length);
		direction->text_length = seen->text_length;
		memcpy(direction->text, seen->text, seen->text_length);
	}
	if (!client && seen->unit.events & (ANSWER | UNTIL))
		answer(connection, seen->unit.events & UNTIL);
	if (seen->unit.events & ENDS)
		direction->trouble = ENDED;
	return true;
}

/* Looks at the `length` bytes of one call. Returns how many units were found, at most `most`; the
 * direction's `trouble` says whether it goes on. */
__u32 feed(struct connection *connection, bool client, const struct place *place, const __u8 *bytes,
	   __u64 length, struct seen *units, __u32 most)
{
	struct direction *direction = &connection->directions[client];
	__u32 count = 0, stashed, fresh;
	__u64 total, at = 0;

	if (direction->skip >= length) {
		direction->skip -= length;
		return 0;
	}
	bytes += direction->skip;
	length -= direction->skip;
	direction->skip = 0;
	total = direction->stashed + length;
	while (at < total && !direction->trouble) {
		if (count == most) {
			direction->trouble = FULL;
			return count;
		}
		stashed = at < direction->stashed ? direction->stashed - at : 0;
		fresh = total - at - stashed < WINDOW - stashed ? total - at - stashed
								: WINDOW - stashed;
		show(place, direction->stash + direction->stashed - stashed, stashed,
		     bytes + (stashed ? 0 : at - direction->stashed), fresh);
		if (!look(connection, client, place, stashed + fresh, &units[count]))
			break;
		at += units[count++].unit.length;
	}
	if (direction->trouble)
		return count;
	if (at >= total) {
		direction->skip = at - total;
		direction->stashed = 0;
	} else {
		/* MORE was said of less than a window. */
		memcpy(direction->stash, place->window, total - at);
		direction->stashed = total - at;
	}
	return count;
}

__u32 trouble(const struct connection *connection, bool client)
{
	return connection->directions[client].trouble;
}

__u64 size_of_connection(void)
{
	return sizeof(struct connection);
}
