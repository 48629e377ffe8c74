/*
 * url.c
 *		Parts of a URL, as text.
 */
#include "postgres.h"

#include "base/url.h"
#include "base/value.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

/* Where host and port begin, and how long they are; 0: there are none. */
static size_t
authority(const char *url, const char **start)
{
	const char *p = strstr(url, "://");

	if (p == NULL || strcspn(url, "/?#") < (size_t) (p - url))
	{
		*start = url;
		return 0;
	}
	*start = p + 3;
	return strcspn(*start, "/?#\\");
}

char *
sis_url_host(const char *url)
{
	const char *start;
	size_t		len = authority(url, &start);
	char	   *host = pnstrdup(start, len);
	char	   *at = strrchr(host, '@');

	/* what stands before it may be a secret, and is never a host */
	if (at != NULL)
		host = at + 1;
	if (!pg_verify_mbstr(PG_UTF8, host, strlen(host), true))
		return pstrdup("?");
	return sis_printable(host);
}

/* The port that a scheme has where none is written. */
static const char *
default_port(const char *url)
{
	return pg_strncasecmp(url, "https:", 6) == 0 ? ":443" : ":80";
}

bool
sis_url_same_origin(const char *a, const char *b)
{
	const char *start_a;
	const char *start_b;
	size_t		len_a = authority(a, &start_a);
	size_t		len_b = authority(b, &start_b);
	char	   *host_a = pnstrdup(start_a, len_a);
	char	   *host_b = pnstrdup(start_b, len_b);

	if (len_a == 0 || len_b == 0 ||
		start_a - a != start_b - b ||
		pg_strncasecmp(a, b, start_a - a) != 0)
		return false;
	if (strchr(host_a, ':') == NULL)
		host_a = psprintf("%s%s", host_a, default_port(a));
	if (strchr(host_b, ':') == NULL)
		host_b = psprintf("%s%s", host_b, default_port(b));
	return pg_strcasecmp(host_a, host_b) == 0;
}

char *
sis_url_encode(const char *text)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (const unsigned char *p = (const unsigned char *) text; *p != '\0'; p++)
	{
		if ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
			(*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL)
			appendStringInfoCharMacro(&buf, *p);
		else
			appendStringInfo(&buf, "%%%02X", *p);
	}
	return buf.data;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* NULL when it is not what an encoder would write, or holds a zero byte. */
static char *
decode(const char *text, size_t len)
{
	char	   *result = palloc(len + 1);
	char	   *out = result;

	for (size_t i = 0; i < len; i++)
	{
		char		c = text[i];

		if (c == '%')
		{
			int			high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			int			low = i + 2 < len ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return NULL;
			c = (char) (high * 16 + low);
			i += 2;
		}
		else if (c == '+')
			c = ' ';
		*out++ = c;
	}
	*out = '\0';
	return result;
}

char *
sis_url_parameter(const char *url, const char *name)
{
	const char *p = strchr(url, '?');
	size_t		namelen = strlen(name);

	while (p != NULL && *p != '\0' && *p != '#')
	{
		size_t		len;

		p++;
		len = strcspn(p, "&#");
		if (len > namelen && p[namelen] == '=' &&
			strncmp(p, name, namelen) == 0)
			return decode(p + namelen + 1, len - namelen - 1);
		p += len;
	}
	return NULL;
}
