/*
 * fuzz.c
 *		What the fuzzers share: a failed check, a hash, UTF-8 and JSON as
 *		others judge them.
 */
#include "postgres.h"

#include <limits.h>
#include <stdlib.h>

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "fuzz.h"

void
fuzz_broken(const char *file, int line, const char *condition,
			const char *format,...)
{
	va_list		args;

	fprintf(stderr, "%s:%d: broken: %s\n", file, line, condition);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

uint64
fuzz_hash(const uint8 *data, size_t size)
{
	uint64		hash = UINT64CONST(0xCBF29CE484222325);

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ data[i]) * UINT64CONST(0x100000001B3);
	return hash;
}

uint32
fuzz_character(const unsigned char *p, const unsigned char *end, int *len)
{
	uint32		code;
	int			n = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 :
		*p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;

	*len = 0;
	if (n == 0 || end - p < n)
		return 0;
	code = n == 1 ? *p : *p & (0x7F >> n);
	for (int i = 1; i < n; i++)
	{
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3F);
	}
	if ((n == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
		(n == 4 && (code < 0x10000 || code > 0x10FFFF)))
		return 0;
	*len = n;
	return code;
}

bool
fuzz_is_text(const char *data, size_t size)
{
	const unsigned char *p = (const unsigned char *) data;
	const unsigned char *end = p + size;
	int			len;

	for (; p < end; p += len)
	{
		if (fuzz_character(p, end, &len) == 0)
			return false;
	}
	return true;
}

/*
 * numeric holds 131,072 digits before its point and 16,383 behind it; the text
 * is a number of JSON.
 */
static bool
is_numeric(const char *token)
{
	const char *point = strchr(token, '.');
	const char *e = strpbrk(token, "eE");
	long		exponent = e != NULL ? strtol(e + 1, NULL, 10) : 0;
	long		before = (long) strcspn(token, ".eE");
	long		behind = point != NULL ? (long) strcspn(point + 1, "eE") : 0;

	return Max(before, 1) + exponent <= 131072 && behind - exponent <= 16383 &&
		labs(exponent) < INT_MAX / 2;
}

static void
look_at_scalar(void *state, char *token, JsonTokenType type)
{
	if (type == JSON_TOKEN_NUMBER && !is_numeric(token))
		*(bool *) state = false;
}

static bool
is_json(const char *data, size_t len, bool *fits)
{
	char	   *copy = pnstrdup(data, len);
	JsonLexContext *lex = makeJsonLexContextCstringLen(copy, (int) len,
													   PG_UTF8, true);
	JsonSemAction sem = {.semstate = fits, .scalar = look_at_scalar};

	*fits = true;
	return fuzz_is_text(data, len) && pg_parse_json(lex, &sem) == JSON_SUCCESS;
}

bool
fuzz_is_json(const char *data, size_t len)
{
	bool		fits;

	return is_json(data, len, &fits);
}

bool
fuzz_is_jsonb(const char *data, size_t len)
{
	bool		fits;

	return is_json(data, len, &fits) && fits;
}
