/*
 * values_fuzz.c
 *		Dates, booleans, lists, IDs and URLs: src/base/value.c, record.c,
 *		textlist.c and url.c.
 *
 * The input is cut at its line feeds; each piece is a value, or with the next
 * one a pair.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "base/record.h"
#include "base/textlist.h"
#include "base/url.h"
#include "base/value.h"
#include "fuzz.h"

#define MAX_VALUES	64
#define THIS_YEAR	2026

/* What is taken for a date is one that date_in() takes, written as ISO has it. */
static void
try_date(SisValue value)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	char		out[SIS_DATE_LEN + 1];
	int			year,
				month,
				day,
				end;

	for (int future = 0; future < 2; future++)
	{
		bool		leap;
		bool		short_year;

		memset(out, 'x', sizeof(out));
		if (!sis_read_date(value, THIS_YEAR, future, out))
			continue;
		FUZZ_CHECK(sscanf(out, "%4d-%2d-%2d%n", &year, &month, &day, &end) == 3 &&
				   end == SIS_DATE_LEN && out[end] == '\0', "%s", out);
		leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
		FUZZ_CHECK(year >= 1 && month >= 1 && month <= 12 && day >= 1 &&
				   day <= days[month - 1] + (month == 2 && leap), "%s", out);
		/* M/D/YY never lies further ahead than was said */
		short_year = value.len <= 8 && memchr(value.data, '/', value.len) != NULL &&
			memchr(value.data, ' ', value.len) == NULL &&
			value.data[value.len - 3] == '/';
		FUZZ_CHECK(!short_year || year <= THIS_YEAR + (future ? 50 : 0), "%s", out);
	}
}

static void
try_boolean(SisValue value)
{
	bool		yes;

	if (sis_read_boolean(value, &yes))
		FUZZ_CHECK(value.len <= 5 && strchr(yes ? "tTyY1" : "fFnN0", value.data[0]) != NULL,
				   "%.*s", value.len, value.data);
}

static void
try_printable(SisValue value)
{
	char	   *text = pnstrdup(value.data, value.len);
	char	   *shown;

	sis_is_password_name(text);
	if (!fuzz_is_text(text, strlen(text)))
		return;
	shown = sis_printable(text);
	FUZZ_CHECK(strlen(shown) <= 100 && fuzz_is_text(shown, strlen(shown)), "%s", shown);
	for (const unsigned char *p = (unsigned char *) shown; *p != '\0'; p++)
		FUZZ_CHECK(*p >= ' ' && *p != 0x7F && !(p[0] == 0xC2 && p[1] < 0xA0),
				   "a control character");
}

/* Different parts never make the same ID. */
static void
try_made_id(const SisValue *a, const SisValue *b)
{
	StringInfoData one;
	StringInfoData two;
	bool		same = true;

	initStringInfo(&one);
	initStringInfo(&two);
	sis_made_id(&one, a, 2);
	sis_made_id(&two, b, 2);
	for (int i = 0; i < 2; i++)
		same &= sis_same_value(a[i], b[i]);
	FUZZ_CHECK(same == (one.len == two.len &&
						memcmp(one.data, two.data, one.len) == 0), "%s", one.data);
}

static bool
stands_in(SisValue item, const SisValue *values, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (sis_same_value(values[i], item))
			return true;
	}
	return false;
}

/* Lists are sets: what goes in is there, and comes out. */
static void
try_lists(const SisValue *values, int n)
{
	StringInfoData first;
	StringInfoData second;
	SisValue	a,
				b,
				both,
				rest;

	if (n < 2)
		return;
	initStringInfo(&first);
	initStringInfo(&second);
	for (int i = 0; i < n; i++)
		sis_list_append(i % 2 == 0 ? &first : &second, values[i]);
	appendStringInfoChar(&first, '}');
	appendStringInfoChar(&second, '}');
	a.data = first.data;
	a.len = first.len;
	b.data = second.data;
	b.len = second.len;
	both = sis_list_unite(a, b);
	for (int i = 0; i < n; i++)
	{
		FUZZ_CHECK(sis_list_has(both, values[i]), "an item is lost");
		rest = sis_list_without(both, values[i]);
		FUZZ_CHECK(!sis_list_has(rest, values[i]), "an item stays");
		FUZZ_CHECK((rest.data == NULL) == (sis_list_only(both).data != NULL),
				   "the only one");
	}
	FUZZ_CHECK(sis_same_value(sis_list_unite(both, a), both), "unite twice");
	FUZZ_CHECK(stands_in(values[0], values, n) == sis_list_has(a, values[0]), "it is there");
}

/* Whoever we take for the same, libcurl would connect to as well. */
static void
try_urls(const char *a, const char *b)
{
	const char *urls[] = {a, b};
	char	   *parts[2][3] = {{NULL}};
	CURLU	   *parsed[2];
	bool		good = true;
	char	   *host = sis_url_host(a);

	FUZZ_CHECK(fuzz_is_text(host, strlen(host)) && strlen(host) <= 100, "%s", host);
	for (int i = 0; i < 2; i++)
	{
		parsed[i] = curl_url();
		good = curl_url_set(parsed[i], CURLUPART_URL, urls[i], 0) == CURLUE_OK &&
			curl_url_get(parsed[i], CURLUPART_SCHEME, &parts[i][0], 0) == CURLUE_OK &&
			curl_url_get(parsed[i], CURLUPART_HOST, &parts[i][1], 0) == CURLUE_OK &&
			curl_url_get(parsed[i], CURLUPART_PORT, &parts[i][2], CURLU_DEFAULT_PORT) == CURLUE_OK &&
			good;
	}
	if (good && (strcmp(parts[0][0], "https") == 0 || strcmp(parts[0][0], "http") == 0) &&
		strchr(a, '@') == NULL && strchr(b, '@') == NULL && sis_url_same_origin(a, b))
	{
		for (int k = 0; k < 3; k++)
			FUZZ_CHECK(pg_strcasecmp(parts[0][k], parts[1][k]) == 0,
					   "%s and %s: %s, %s", a, b, parts[0][k], parts[1][k]);
	}
	for (int i = 0; i < 2; i++)
	{
		for (int k = 0; k < 3; k++)
			curl_free(parts[i][k]);
		curl_url_cleanup(parsed[i]);
	}
}

static void
try_parameter(const char *text)
{
	char	   *url = psprintf("https://x/?a=%s&%s", sis_url_encode(text), text);
	char	   *back = sis_url_parameter(url, "a");

	FUZZ_CHECK(back != NULL && strcmp(back, text) == 0, "%s", url);
	back = sis_url_parameter(text, "limit");
	FUZZ_CHECK(back == NULL || strlen(back) <= strlen(text), "%s", back);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	SisValue	values[MAX_VALUES];
	int			n = 0;
	const char *p = (const char *) data;
	const char *end = p + size;

	shim_quiet = true;
	while (p < end && n < MAX_VALUES)
	{
		const char *stop = memchr(p, '\n', end - p);
		char	   *copy;

		values[n].len = (int) ((stop != NULL ? stop : end) - p);
		copy = palloc(values[n].len);
		memcpy(copy, p, values[n].len);
		values[n].data = copy;
		n += values[n].len > 0;
		p = stop != NULL ? stop + 1 : end;
	}
	for (int i = 0; i < n; i++)
	{
		SisValue	trimmed = sis_trim(values[i].data, values[i].len);
		char	   *text = pnstrdup(values[i].data, values[i].len);

		FUZZ_CHECK(trimmed.len == 0 || sis_trim(trimmed.data, trimmed.len).len == trimmed.len,
				   "trimmed twice");
		try_date(values[i]);
		try_boolean(values[i]);
		try_printable(values[i]);
		try_parameter(text);
		if (i + 1 < n)
			try_urls(text, pnstrdup(values[i + 1].data, values[i + 1].len));
		if (i + 3 < n)
			try_made_id(&values[i], &values[i + 2]);
	}
	try_lists(values, n);
	shim_reset();
	return 0;
}
