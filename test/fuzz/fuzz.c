/*
 * fuzz.c
 *		What the fuzzers share: a failed check, a hash, UTF-8 and JSON as
 *		others judge them.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>
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
	long		exponent = e != NULL ?
		Max(Min(strtol(e + 1, NULL, 10), INT_MAX), -INT_MAX) : 0;
	long		before = (long) strcspn(token, ".eE");
	long		behind = point != NULL ? (long) strcspn(point + 1, "eE") : 0;

	return Max(before, 1) + exponent <= 131072 && behind - exponent <= 16383 &&
		labs(exponent) < INT_MAX / 2;
}

/* As of 16 a function may refuse; the lexer's arguments are others as of 17. */
#if PG_VERSION_NUM >= 160000
#define ACTION		JsonParseErrorType
#define ACTION_END	return JSON_SUCCESS
#else
#define ACTION		void
#define ACTION_END	return
#endif
#if PG_VERSION_NUM >= 170000
#define LEXER(text, len) makeJsonLexContextCstringLen(NULL, text, len, PG_UTF8, true)
#else
#define LEXER(text, len) makeJsonLexContextCstringLen(text, len, PG_UTF8, true)
#endif

typedef struct Parse
{
	FuzzJson   *found;
	int			depth;
} Parse;

static ACTION
go_deeper(void *state)
{
	Parse	   *parse = state;

	parse->depth++;
	parse->found->depth = Max(parse->found->depth, parse->depth);
	ACTION_END;
}

static ACTION
come_back(void *state)
{
	((Parse *) state)->depth--;
	ACTION_END;
}

static ACTION
look_at_scalar(void *state, char *token, JsonTokenType type)
{
	FuzzJson   *found = ((Parse *) state)->found;

	if (type == JSON_TOKEN_NUMBER)
	{
		found->beyond_numeric |= !is_numeric(token);
		found->large |= !isfinite(strtod(token, NULL)) || strlen(token) > 18;
	}
	ACTION_END;
}

/* Without one for fields, 18's parser frees a name that it has not made. */
static ACTION
pass_field(void *state, char *name, bool is_null)
{
	ACTION_END;
}

bool
fuzz_parse_json(const char *data, size_t len, FuzzJson *found)
{
	char	   *copy = pnstrdup(data, len);
	Parse		parse = {found, 0};
	JsonSemAction sem = {
		.semstate = &parse,
		.object_start = go_deeper, .object_end = come_back,
		.array_start = go_deeper, .array_end = come_back,
		.object_field_start = pass_field,
		.scalar = look_at_scalar
	};

	memset(found, 0, sizeof(*found));
	return fuzz_is_text(data, len) &&
		pg_parse_json(LEXER(copy, (int) len), &sem) == JSON_SUCCESS;
}

bool
fuzz_is_jsonb(const char *data, size_t len)
{
	FuzzJson	found;

	return fuzz_parse_json(data, len, &found) && !found.beyond_numeric;
}
