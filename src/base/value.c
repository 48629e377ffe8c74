/*
 * value.c
 *		Reading dates, booleans and words as schools write them.
 */
#include "postgres.h"

#include "base/value.h"
#include "mb/pg_wchar.h"

#define MAX_PRINTED_BYTES	100

/* Reads 1 to max digits; returns how many, 0 when there is none or more. */
static int
read_digits(const char **p, const char *end, int max, int *value)
{
	int			n = 0;

	*value = 0;
	while (*p < end && **p >= '0' && **p <= '9')
	{
		if (++n > max)
			return 0;
		*value = *value * 10 + (**p - '0');
		(*p)++;
	}
	return n;
}

static bool
is_calendar_date(int year, int month, int day)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool		leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	if (year < 1 || month < 1 || month > 12 || day < 1)
		return false;
	return day <= days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static void
write_date(int year, int month, int day, char out[SIS_DATE_LEN + 1])
{
	out[0] = '0' + year / 1000;
	out[1] = '0' + year / 100 % 10;
	out[2] = '0' + year / 10 % 10;
	out[3] = '0' + year % 10;
	out[4] = '-';
	out[5] = '0' + month / 10;
	out[6] = '0' + month % 10;
	out[7] = '-';
	out[8] = '0' + day / 10;
	out[9] = '0' + day % 10;
	out[10] = '\0';
}

static int
widen_year(int year, int this_year, bool future)
{
	int			limit = future ? this_year + 50 : this_year;

	year += this_year - this_year % 100 + 100;
	while (year > limit)
		year -= 100;
	return year;
}

bool
sis_read_date(SisValue text, int this_year, bool future,
			  char out[SIS_DATE_LEN + 1])
{
	const char *p = text.data;
	const char *end = text.data + text.len;
	int			first,
				second,
				third,
				n;
	char		sep;

	n = read_digits(&p, end, 4, &first);
	if (n == 0 || p == end)
		return false;
	sep = *p++;
	if (read_digits(&p, end, 2, &second) == 0 || p == end || *p++ != sep)
		return false;

	if (sep == '-' && n == 4)
	{
		if (read_digits(&p, end, 2, &third) == 0)
			return false;
		/* 2026-01-31T00:00:00.000Z is a date with a time behind it */
		if (p != end && *p != 'T' && *p != ' ')
			return false;
		if (!is_calendar_date(first, second, third))
			return false;
		write_date(first, second, third, out);
		return true;
	}
	if (sep == '/' && n <= 2)
	{
		n = read_digits(&p, end, 4, &third);
		if (n != 2 && n != 4)
			return false;
		if (p != end && *p != ' ')
			return false;
		if (n == 2)
			third = widen_year(third, this_year, future);
		if (!is_calendar_date(third, first, second))
			return false;
		write_date(third, first, second, out);
		return true;
	}
	return false;
}

bool
sis_value_is(SisValue text, const char *word)
{
	return text.data != NULL && text.len == (int) strlen(word) &&
		pg_strncasecmp(text.data, word, text.len) == 0;
}

bool
sis_read_boolean(SisValue text, bool *out)
{
	static const char *const yes[] = {"true", "t", "yes", "y", "1"};
	static const char *const no[] = {"false", "f", "no", "n", "0"};

	for (int i = 0; i < (int) lengthof(yes); i++)
	{
		if (sis_value_is(text, yes[i]) || sis_value_is(text, no[i]))
		{
			*out = sis_value_is(text, yes[i]);
			return true;
		}
	}
	return false;
}

bool
sis_is_password_name(const char *name)
{
	static const char *const words[] = {"password", "passwd", "pwd"};

	for (const char *p = name; *p != '\0'; p++)
	{
		for (int i = 0; i < (int) lengthof(words); i++)
		{
			if (pg_strncasecmp(p, words[i], strlen(words[i])) == 0)
				return true;
		}
	}
	return false;
}

void
sis_hide_controls(char *text, int len, bool keep_lines)
{
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if ((c < 0x20 && !(keep_lines && c == '\n')) || c == 0x7F)
			text[i] = '?';
		/* U+0080 to U+009F, which some terminals obey */
		else if (c == 0xC2 && i + 1 < len && (unsigned char) text[i + 1] < 0xA0)
			text[i] = text[i + 1] = '?';
	}
}

char *
sis_one_line(const char *text)
{
	char	   *copy = pstrdup(text);

	sis_hide_controls(copy, (int) strlen(copy), false);
	return copy;
}

char *
sis_printable(const char *id)
{
	int			len = pg_mbcliplen(id, strlen(id), MAX_PRINTED_BYTES);
	char	   *copy = pnstrdup(id, len);

	sis_hide_controls(copy, len, false);
	return copy;
}
