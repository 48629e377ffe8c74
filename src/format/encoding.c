/*
 * encoding.c
 *		Is a text UTF-8?  Told by the whole of it.
 */
#include "postgres.h"

#include "format/encoding.h"
#include "mb/pg_wchar.h"

#define BLOCK_SIZE	(64 * 1024)
#define MAX_LENGTH	4			/* bytes of a character */

/* The length of the valid character of several bytes at p, else 0. */
static int
character_length(const unsigned char *p, const unsigned char *end)
{
	int			len = pg_utf_mblen(p);

	return len > 1 && len <= end - p && pg_utf8_islegal(p, len) ? len : 0;
}

/*
 * Counts in a block; a character that its end may have cut is left, unless it
 * is the last block.  Returns how many bytes were left.
 */
static int
look_at_block(const unsigned char *p, const unsigned char *end, bool last,
			  SisEncodingLook *look)
{
	while (p < end)
	{
		int			len;

		if ((*p & 0x80) == 0)
		{
			p++;
			continue;
		}
		if (!last && end - p < MAX_LENGTH)
			break;
		len = character_length(p, end);
		if (len > 0)
		{
			look->characters++;
			p += len;
		}
		else
		{
			look->strays++;
			p++;
		}
	}
	return (int) (end - p);
}

bool
sis_encoding_look(SisRead read, void *arg, SisEncodingLook *look)
{
	char	   *buf = palloc(BLOCK_SIZE + MAX_LENGTH);
	int			left = 0;
	int			n;

	memset(look, 0, sizeof(SisEncodingLook));
	do
	{
		const unsigned char *end;

		n = read(arg, buf + left, BLOCK_SIZE);
		if (n < 0)
			break;
		end = (unsigned char *) buf + left + n;
		left = look_at_block((unsigned char *) buf, end, n == 0, look);
		memmove(buf, end - left, left);
	} while (n > 0);
	pfree(buf);
	return n == 0;
}

bool
sis_has_utf8(const char *data, int len)
{
	const unsigned char *p = (const unsigned char *) data;
	const unsigned char *end = p + len;

	while (p < end)
	{
		int			n = (*p & 0x80) == 0 ? 0 : character_length(p, end);

		/* U+0080 to U+017F; in capitals, "É’" and its like do occur */
		if (n > 2 || (n == 2 && *p <= 0xC5))
			return true;
		p += Max(n, 1);
	}
	return false;
}
