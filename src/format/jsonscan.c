/*
 * jsonscan.c
 *		Where a JSON value ends, and whether its bytes are sound.
 *
 * The end is found by counting brackets and passing over strings; whether what
 * is between them is JSON, json-c will say.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "format/jsonscan.h"

/*
 * Passes over a string from p on, whose opening quote was passed.  Returns the
 * byte behind its closing quote, or end with in_string still set.
 */
static const char *
scan_string(SisJsonScan *scan, const char *p, const char *end)
{
	while (p < end)
	{
		if (scan->in_escape)
		{
			if (*p == 'u')
				scan->has_escape_u = true;
			scan->in_escape = false;
			p++;
			continue;
		}
		while (p < end && *p != '"' && *p != '\\')
			p++;
		if (p == end)
			break;
		if (*p++ == '\\')
			scan->in_escape = true;
		else
		{
			scan->in_string = false;
			break;
		}
	}
	return p;
}

/* Looks at the next byte outside of strings: zeros in front, and points. */
static inline void
look_at_number(SisJsonScan *scan, char c)
{
	bool		digit = c >= '0' && c <= '9';

	if ((scan->at_point && !digit) || (scan->is_zero && digit))
		scan->bad_number = true;
	scan->is_zero = c == '0' && !scan->in_number;
	scan->at_point = c == '.';
	scan->in_number = digit ||
		(scan->in_number && (c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'));
}

int
sis_json_scan(SisJsonScan *scan, const char *data, int len, bool *done)
{
	const char *p = data;
	const char *end = data + len;

	*done = false;
	if (!scan->begun && p < end)
	{
		scan->begun = true;
		scan->is_scalar = *p != '"' && *p != '{' && *p != '[';
	}
	while (p < end)
	{
		char		c;

		if (scan->in_string)
		{
			p = scan_string(scan, p, end);
			if (scan->in_string)
				break;
			if (scan->depth == 0)
			{
				*done = true;
				break;
			}
			continue;
		}
		c = *p;
		look_at_number(scan, c);
		if (scan->is_scalar &&
			(sis_json_is_blank(c) || c == ',' || c == ']' || c == '}'))
		{
			*done = true;
			break;
		}
		p++;
		if (c == '"')
			scan->in_string = true;
		else if (c == '{' || c == '[')
			scan->depth++;
		else if (c == ':')
			scan->ncolons++;
		else if ((c == '}' || c == ']') && --scan->depth == 0)
		{
			*done = true;
			break;
		}
	}
	return (int) (p - data);
}

static int
hex_value(const char *p)
{
	int			value = 0;

	for (int i = 0; i < 4; i++)
	{
		char		c = p[i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value += c - '0';
		else if (c >= 'a' && c <= 'f')
			value += c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			value += c - 'A' + 10;
		else
			return -1;			/* json-c will say so */
	}
	return value;
}

/* Looks at each \u in a value: zero bytes and halves of pairs. */
static SisJsonProblem
check_escapes(SisValue value)
{
	const char *p = value.data;
	const char *end = value.data + value.len;
	SisJsonProblem problem = SIS_JSON_OK;
	bool		want_low = false;

	while (p < end)
	{
		int			code = 0;

		if (p[0] == '\\' && end - p >= 6 && p[1] == 'u')
		{
			code = hex_value(p + 2);
			p += 6;
		}
		else
			p += p[0] == '\\' ? 2 : 1;
		if (want_low != (code >= 0xDC00 && code <= 0xDFFF))
			return SIS_JSON_BAD_BYTES;
		want_low = code >= 0xD800 && code <= 0xDBFF;
		if (code == 0 && p[-1] == '0' && p - value.data >= 6 && p[-6] == '\\' &&
			p[-5] == 'u')
			problem = SIS_JSON_NUL;
	}
	return want_low ? SIS_JSON_BAD_BYTES : problem;
}

/* Copies a value with each byte that is not valid replaced. */
static SisJsonProblem
replace_bad_bytes(SisValue *value, StringInfo clean)
{
	const char *p = value->data;
	const char *end = value->data + value->len;
	SisJsonProblem problem = SIS_JSON_NUL;

	resetStringInfo(clean);
	while (p < end)
	{
		int			good = pg_encoding_verifymbstr(PG_UTF8, p, end - p);

		appendBinaryStringInfo(clean, p, good);
		p += good;
		if (p == end)
			break;
		if (*p != '\0')
			problem = SIS_JSON_BAD_BYTES;
		appendStringInfoString(clean, SIS_JSON_REPLACEMENT);
		p++;
	}
	value->data = clean->data;
	value->len = clean->len;
	return problem;
}

SisJsonProblem
sis_json_check(const SisJsonScan *scan, SisValue *value, StringInfo clean)
{
	SisJsonProblem problem = SIS_JSON_OK;

	if (pg_encoding_verifymbstr(PG_UTF8, value->data, value->len) != value->len)
		problem = replace_bad_bytes(value, clean);
	if (scan->has_escape_u && problem == SIS_JSON_OK)
		problem = check_escapes(*value);
	return problem;
}
