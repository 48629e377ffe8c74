/*
 * headers_fuzz.c
 *		The headers of responses: src/transport/http.c as libcurl calls it, and
 *		what src/provider reads of them: pauses asked for, totals, dates.
 *
 * The input is the head of one response, or of several, line by line.
 */
#include "postgres.h"

/* the functions that read headers are their own */
#include "transport/http.c"
#include "provider/rest.c"

#include "fuzz.h"
#include "headers_total.h"

/* Where a response has no date of its own. */
TimestampTz
GetCurrentTimestamp(void)
{
	return INT64CONST(840000000) * USECS_PER_SEC;
}

pg_time_t
timestamptz_to_time_t(TimestampTz t)
{
	return (pg_time_t) (t / USECS_PER_SEC +
						(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY);
}

/* By a slow reference: the first header of that name of the last response. */
static char *
find(const char *head, size_t len, const char *name)
{
	char	   *found = NULL;
	size_t		at = 0;

	while (at < len)
	{
		const char *line = head + at;
		size_t		n = 0;
		size_t		namelen = strlen(name);

		while (at + n < len && line[n] != '\n')
			n++;
		at += n + 1;
		if (n + 1 + (at <= len ? 1 : 0) > 5 && n >= 5 && strncmp(line, "HTTP/", 5) == 0)
			found = NULL;
		if (n <= namelen || line[namelen] != ':' || found != NULL ||
			pg_strncasecmp(line, name, namelen) != 0)
			continue;
		line += namelen + 1;
		n -= namelen + 1;
		while (n > 0 && (*line == ' ' || *line == '\t'))
			line++, n--;
		while (n > 0 && strchr(" \t\r", line[n - 1]) != NULL && line[n - 1] != '\0')
			n--;
		found = pnstrdup(line, n);
	}
	return found;
}

static void
compare(const SisHttp *http, const char *head, size_t len, const char *name)
{
	char	   *got = sis_http_header(http, name);
	char	   *expected = find(head, len, name);

	FUZZ_CHECK((got == NULL) == (expected == NULL), "%s", name);
	FUZZ_CHECK(got == NULL || strcmp(got, expected) == 0, "%s: %s and %s", name,
			   got, expected);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const char *const names[] = {
		"retry-after", "x-ratelimit-reset", "X-Total-Count", "date", "location", "link"
	};
	static const int statuses[] = {429, 503};
	SisHttp		http = {.headers = palloc(MAX_HEADERS)};
	struct SisRestState state = {.http = &http};
	SisRestCall call = {.state = &state};
	const char *head = (const char *) data;
	int64		total;

	shim_quiet = true;
	for (size_t at = 0; at < size;)
	{
		const char *newline = memchr(head + at, '\n', size - at);
		size_t		n = newline != NULL ? newline + 1 - (head + at) : size - at;
		char	   *line = palloc(n);

		memcpy(line, head + at, n);
		FUZZ_CHECK(on_header(line, 1, n, &http) == n, "it is small enough");
		at += n;
	}
	for (int i = 0; i < lengthof(names); i++)
		compare(&http, head, size, names[i]);
	FUZZ_CHECK(sis_http_date(&http) >= 0, "a date before 1970");
	for (int i = 0; i < lengthof(statuses); i++)
	{
		int64		pause;

		call.status = statuses[i];
		pause = asked_pause(&call);
		FUZZ_CHECK(pause >= 0 && pause <= INT64CONST(1000000000),
				   "a pause of " INT64_FORMAT, pause);
	}
	total = headers_total(&call);
	FUZZ_CHECK(total >= -1 && total < INT64CONST(1000000000000), "a total");
	shim_reset();
	return 0;
}
