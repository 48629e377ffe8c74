/*
 * csv.c
 *		CSV text to rows of strings (RFC 4180, by libcsv), one row at a time.
 *
 * How it works.  Bytes are read in blocks into a buffer, and taken out of it
 * one physical line at a time: up to \n, \r\n or a lone \r, which may be mixed
 * in one file.  The lines are counted here, before any quoting is looked at,
 * so that a row's line number is exact after quoted line breaks and blank
 * lines.
 * Each line is brought to UTF-8 and verified once.
 *
 * A line that begins a row and has no quoted field is split at its commas
 * where it lies: nothing is copied.  Such a line is most of what comes, and
 * this is about four times as fast as libcsv.  A quote inside an unquoted
 * field (6" ruler) is plain text there.  Every other line goes to libcsv in
 * strict mode, whose fields are collected in row_buf until the row ends, which
 * may be lines later.
 *
 * A quote in a wrong place spoils one row when the row began on that line: the
 * next line is a fresh start.  When the row began on an earlier line, nobody
 * can tell which lines the quote has swallowed, and the file cannot be used.
 */
#include "postgres.h"

#include <csv.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#include "base/record.h"
#include "format/csv.h"
#include "format/encoding.h"

#define BLOCK_SIZE		(64 * 1024)
#define HEAD_SIZE		512		/* enough to know UTF-16 and web pages by */
#define FIRST_FIELDS	64		/* the widest layout has about 50 columns */

/* libcsv grows its field buffer by this much; its default of 128 is slow. */
#define LIBCSV_GROWTH	8192

typedef struct PhysicalLine
{
	const char *data;
	int			len;			/* without its end */
	int			size;			/* with its end */
	bool		has_quote;
} PhysicalLine;

typedef enum LineResult
{
	LINE_TAKEN,
	LINE_NONE,					/* the text has ended */
	LINE_FAILED					/* problem and line are set */
} LineResult;

typedef enum RowState
{
	ROW_BLANK,					/* nothing in it: pass over */
	ROW_OPEN,					/* goes on in the next line */
	ROW_READY,					/* fields and problem are set */
	ROW_FAILED					/* and the file with it */
} RowState;

struct SisCsv
{
	SisRead		read;
	void	   *arg;
	int			encoding;
	MemoryContext context;
	MemoryContextCallback callback;
	struct csv_parser parser;	/* freed by callback */
	SisCsvResult last;			/* END or FAILED, once it was returned */

	/* What has been read; from pos on it has not been taken yet. */
	char	   *buf;
	int			size;
	int			pos;
	int			len;
	bool		started;
	bool		eof;
	int			next_lf;		/* for seek() */
	int			next_cr;
	int			next_quote;
	int64		nlines;			/* physical lines taken */
	bool		ends_here;		/* the last of them had no line end */

	char	   *utf8;			/* a line converted to UTF-8 */
	int			utf8_size;

	/* The row. */
	int64		line;
	SisCsvProblem problem;
	SisCsvField *fields;
	int			nfields;
	int			maxfields;
	int			open_bytes;		/* of an open row: its lines so far */

	/* The row as libcsv parses it. */
	char	   *row_buf;		/* holds the data of its fields */
	int			row_buf_size;
	int			row_buf_used;
	int			fed;			/* bytes handed to libcsv */
	int			nmarked;		/* fields that mark_fields() has seen end */
	bool		in_quotes;
	bool		seen_quote;		/* in the current field */
	bool		row_done;
	bool		overflow;
};

/* Frees what libcsv got from malloc, on each way out. */
static void
free_parser(void *arg)
{
	csv_free(&((SisCsv *) arg)->parser);
}

SisCsv *
sis_csv_open(SisRead read, void *arg, int encoding)
{
	SisCsv	   *csv = palloc0(sizeof(SisCsv));

	Assert(encoding == PG_UTF8 || encoding == PG_WIN1252);

	csv->read = read;
	csv->arg = arg;
	csv->encoding = encoding;
	csv->context = CurrentMemoryContext;
	csv->last = SIS_CSV_ROW;

	csv->callback.func = free_parser;
	csv->callback.arg = csv;
	MemoryContextRegisterResetCallback(csv->context, &csv->callback);
	csv_init(&csv->parser, CSV_STRICT);
	csv_set_blk_size(&csv->parser, LIBCSV_GROWTH);

	csv->size = 2 * BLOCK_SIZE;
	csv->buf = palloc(csv->size);
	csv->maxfields = FIRST_FIELDS;
	csv->fields = palloc(csv->maxfields * sizeof(SisCsvField));
	return csv;
}

/* Writes down why the file cannot be read; always false. */
static bool
fail(SisCsv *csv, SisCsvProblem problem, int64 line)
{
	csv->problem = problem;
	csv->line = line;
	csv->nfields = 0;
	return false;
}

/* ----------
 * Bytes to physical lines
 * ----------
 */

/*
 * Reads one block more, or sets eof.  False when the callback failed.
 *
 * Fields of the row before may point into the buffer: only for the next row.
 */
static bool
read_block(SisCsv *csv)
{
	int			n;

	CHECK_FOR_INTERRUPTS();

	if (csv->size - csv->len < BLOCK_SIZE)
	{
		int			taken = csv->pos;

		/* take out what has been dealt with, then see whether to grow */
		if (taken > 0)
			memmove(csv->buf, csv->buf + taken, csv->len - taken);
		csv->pos = 0;
		csv->len -= taken;
		csv->next_lf = Max(csv->next_lf - taken, 0);
		csv->next_cr = Max(csv->next_cr - taken, 0);
		csv->next_quote = Max(csv->next_quote - taken, 0);

		if (csv->size - csv->len < BLOCK_SIZE)
		{
			csv->size = Min(2 * csv->size, SIS_CSV_MAX_ROW + 2 * BLOCK_SIZE);
			csv->buf = repalloc(csv->buf, csv->size);
		}
	}

	n = csv->read(csv->arg, csv->buf + csv->len, BLOCK_SIZE);
	if (n < 0)
		return fail(csv, SIS_CSV_READ_ERROR, csv->nlines + 1);
	Assert(n <= BLOCK_SIZE);
	csv->len += n;
	csv->eof = (n == 0);
	return true;
}

/*
 * True when every second byte, or nearly, is zero: ASCII as UTF-16 (or 32)
 * without its mark.  A few letters beyond Latin may stand among it.
 */
static bool
looks_wide(const unsigned char *head, int len)
{
	int			zeros[2] = {0, 0};
	int			half = Min(len, 200) / 2;

	for (int i = 0; i < 2 * half; i++)
	{
		if (head[i] == 0)
			zeros[i & 1]++;
	}
	return half >= 2 && Max(zeros[0], zeros[1]) * 4 >= half * 3;
}

static bool
looks_html(const char *head, int len)
{
	while (len > 0 && isspace((unsigned char) *head))
		head++, len--;
	if (len < 2 || head[0] != '<')
		return false;
	return head[1] == '!' || head[1] == 'h' || head[1] == 'H' ||
		(len >= 5 && memcmp(head + 1, "?xml", 4) == 0);
}

/* Looks at the first bytes; false when this is no CSV text at all. */
static bool
read_head(SisCsv *csv)
{
	const unsigned char *head;

	csv->started = true;
	while (!csv->eof && csv->len < HEAD_SIZE)
	{
		if (!read_block(csv))
			return false;
	}

	head = (const unsigned char *) csv->buf;
	if (csv->len >= 3 && memcmp(head, "\xEF\xBB\xBF", 3) == 0)
	{
		/* this mark exists in UTF-8 only, whatever the option says */
		csv->encoding = PG_UTF8;
		csv->pos = 3;
	}
	else if ((csv->len >= 2 && (memcmp(head, "\xFE\xFF", 2) == 0 ||
								memcmp(head, "\xFF\xFE", 2) == 0)) ||
			 (csv->len >= 4 && memcmp(head, "\0\0\xFE\xFF", 4) == 0) ||
			 looks_wide(head, csv->len))
		return fail(csv, SIS_CSV_UTF16, 1);

	if (looks_html(csv->buf + csv->pos, Min(csv->len, HEAD_SIZE) - csv->pos))
		return fail(csv, SIS_CSV_HTML, 1);
	return true;
}

/*
 * Where the next c stands at or after pos; len when it is not in the buffer.
 * *mark is where the last search ended, so that each byte is searched once,
 * in long stretches, however short the lines are.
 */
static int
seek(SisCsv *csv, int *mark, char c)
{
	if (*mark < csv->pos)
		*mark = csv->pos;
	if (*mark < csv->len && csv->buf[*mark] != c)
	{
		const char *hit = memchr(csv->buf + *mark, c, csv->len - *mark);

		*mark = hit ? hit - csv->buf : csv->len;
	}
	return *mark;
}

/* Takes the next physical line; it stays where it is until the next call. */
static LineResult
take_line(SisCsv *csv, PhysicalLine *line)
{
	int			end;
	int			next;

	for (;;)
	{
		end = Min(seek(csv, &csv->next_lf, '\n'),
				  seek(csv, &csv->next_cr, '\r'));

		/* open_bytes is zero unless the row began on an earlier line */
		if (csv->open_bytes + (end - csv->pos) > SIS_CSV_MAX_ROW)
		{
			fail(csv, SIS_CSV_TOO_LONG,
				 csv->open_bytes > 0 ? csv->line : csv->nlines + 1);
			return LINE_FAILED;
		}

		/* a \r at the very end may be half of a \r\n */
		if (csv->eof || end + 1 < csv->len ||
			(end < csv->len && csv->buf[end] == '\n'))
			break;
		if (!read_block(csv))
			return LINE_FAILED;
	}
	if (csv->pos == csv->len)
		return LINE_NONE;

	next = end;
	if (next < csv->len && csv->buf[next++] == '\r' &&
		next < csv->len && csv->buf[next] == '\n')
		next++;

	line->data = csv->buf + csv->pos;
	line->len = end - csv->pos;
	line->size = next - csv->pos;
	line->has_quote = seek(csv, &csv->next_quote, '"') < end;
	csv->ends_here = (next == end);
	csv->pos = next;
	csv->nlines++;
	return LINE_TAKEN;
}

/* ----------
 * Encoding
 * ----------
 */

static bool
is_ascii(const char *data, int len)
{
	unsigned char all = 0;

	for (int i = 0; i < len; i++)
		all |= (unsigned char) data[i];
	return (all & 0x80) == 0;
}

/*
 * Converts a line from WIN1252.  What cannot be converted (a byte without
 * meaning there, a zero) is kept as it is: it is no UTF-8 either, so whoever
 * verifies a field finds it.
 *
 * The conversion is named by its fixed OID: the default one would be looked
 * up in the caller's search_path.
 */
static void
convert_line(SisCsv *csv, PhysicalLine *line)
{
	unsigned char *src = (unsigned char *) line->data;
	int			left = line->size;
	int			end_size = line->size - line->len;
	int			need = (left + 1) * MAX_CONVERSION_GROWTH + 1;
	char	   *dst;

	if (csv->utf8_size < need)
	{
		if (csv->utf8)
			pfree(csv->utf8);
		csv->utf8 = NULL;
		csv->utf8 = MemoryContextAlloc(csv->context, need);
		csv->utf8_size = need;
	}

	dst = csv->utf8;
	for (;;)
	{
		int			n;

		n = pg_do_encoding_conversion_buf(F_WIN_TO_UTF8, PG_WIN1252, PG_UTF8,
										  src, left, (unsigned char *) dst,
										  csv->utf8_size - (dst - csv->utf8),
										  true);
		dst += strlen(dst);
		if (n >= left)
			break;
		*dst++ = (char) src[n];
		src += n + 1;
		left -= n + 1;
		if (left == 0)
			break;
	}

	line->data = csv->utf8;
	line->size = dst - csv->utf8;
	line->len = line->size - end_size;
}

/* Brings a line to UTF-8 and verifies it; the row keeps its first problem. */
static void
verify_line(SisCsv *csv, PhysicalLine *line)
{
	if (csv->encoding == PG_WIN1252 && !is_ascii(line->data, line->len))
	{
		/* not converted, so that what can be read of it is read rightly */
		if (!sis_has_utf8(line->data, line->len))
			convert_line(csv, line);
		else if (csv->problem == SIS_CSV_OK)
			csv->problem = SIS_CSV_BAD_BYTES;
	}

	if (pg_encoding_verifymbstr(PG_UTF8, line->data, line->len) == line->len ||
		csv->problem != SIS_CSV_OK)
		return;
	csv->problem = memchr(line->data, '\0', line->len) != NULL ?
		SIS_CSV_NUL : SIS_CSV_BAD_BYTES;
}

/* ----------
 * Lines to rows
 * ----------
 */

static void
enlarge_fields(SisCsv *csv)
{
	csv->maxfields *= 2;
	csv->fields = repalloc(csv->fields,
						   csv->maxfields * sizeof(SisCsvField));
}

static void
set_field(SisCsvField *field, const char *data, int len)
{
	SisValue	value = sis_trim(data, len);

	field->data = value.data ? value.data : data;
	field->len = value.len;
}

/*
 * True when a field of a line that begins a row begins with a quote.  Until
 * the first such field, each comma ends a field.
 */
static bool
has_quoted_field(const PhysicalLine *line)
{
	const char *p = line->data;
	const char *end = line->data + line->len;

	while (p != NULL)
	{
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (p < end && *p == '"')
			return true;
		p = memchr(p, ',', end - p);
		if (p != NULL)
			p++;
	}
	return false;
}

/* Splits a line without quoted fields. */
static RowState
split_plain(SisCsv *csv, const PhysicalLine *line)
{
	const char *p = line->data;
	const char *end = line->data + line->len;
	const char *comma;
	int			longest = 0;

	do
	{
		SisCsvField *field;

		comma = memchr(p, ',', end - p);
		if (csv->nfields == csv->maxfields)
			enlarge_fields(csv);
		field = &csv->fields[csv->nfields++];
		set_field(field, p, (comma ? comma : end) - p);
		field->quoted = false;
		longest = Max(longest, field->len);
		p = comma ? comma + 1 : end;
	} while (comma != NULL);

	return longest > 0 ? ROW_READY : ROW_BLANK;
}

/* libcsv: a field has ended.  NB: must not ereport. */
static void
on_field(void *data, size_t len, void *arg)
{
	SisCsv	   *csv = arg;
	char	   *copy = csv->row_buf + csv->row_buf_used;

	if (csv->nfields == csv->maxfields ||
		len > (size_t) (csv->row_buf_size - csv->row_buf_used))
	{
		csv->overflow = true;
		return;
	}
	if (len > 0)
		memcpy(copy, data, len);
	csv->row_buf_used += len;
	csv->fields[csv->nfields].data = copy;
	csv->fields[csv->nfields].len = len;
	csv->nfields++;
}

/* libcsv: a row has ended.  NB: must not ereport. */
static void
on_row(int end, void *arg)
{
	((SisCsv *) arg)->row_done = true;
}

static void
mark_field(SisCsv *csv)
{
	if (csv->nmarked == csv->maxfields)
		enlarge_fields(csv);
	csv->fields[csv->nmarked++].quoted = csv->seen_quote;
	csv->seen_quote = false;
}

/*
 * Notes which fields are quoted, which libcsv does not tell, and makes room
 * for them, which on_field() could not.  In a text that passes strict mode
 * each quote either opens, closes, or is one of two.
 */
static void
mark_fields(SisCsv *csv, const PhysicalLine *line)
{
	for (int i = 0; i < line->len; i++)
	{
		if (line->data[i] == '"')
		{
			csv->in_quotes = !csv->in_quotes;
			csv->seen_quote = true;
		}
		else if (line->data[i] == ',' && !csv->in_quotes)
			mark_field(csv);
	}
	if (!csv->in_quotes)
		mark_field(csv);
}

/*
 * Makes room in row_buf for all that libcsv may hand out in this line, the
 * field that it holds back from the lines before included.
 */
static void
enlarge_row_buf(SisCsv *csv, int need)
{
	char	   *larger;

	if (need <= csv->row_buf_size)
		return;
	need = Max(need, 2 * csv->row_buf_size);
	larger = MemoryContextAlloc(csv->context, need);
	if (csv->row_buf != NULL)
	{
		memcpy(larger, csv->row_buf, csv->row_buf_used);
		for (int i = 0; i < csv->nfields; i++)
			csv->fields[i].data = larger + (csv->fields[i].data - csv->row_buf);
		pfree(csv->row_buf);
	}
	csv->row_buf = larger;
	csv->row_buf_size = need;
}

/* Hands a line to libcsv; false when a quote stands in a wrong place. */
static bool
feed_line(SisCsv *csv, const PhysicalLine *line)
{
	csv->fed += line->size;
	enlarge_row_buf(csv, csv->fed);
	mark_fields(csv, line);

	if (csv_parse(&csv->parser, line->data, line->size,
				  on_field, on_row, csv) != (size_t) line->size)
	{
		if (csv_error(&csv->parser) == CSV_EPARSE)
			return false;
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("The CSV parser could not enlarge its buffer.")));
	}

	/* the last line of a text may lack its end */
	if (line->size == line->len && !csv->in_quotes)
		csv_fini(&csv->parser, on_field, on_row, csv);

	if (csv->overflow)
		elog(ERROR, "CSV row has more fields than were counted");
	return true;
}

/* Parses a line that has quoted fields, or continues one. */
static RowState
parse_quoted(SisCsv *csv, const PhysicalLine *line, int raw_size)
{
	int			longest = 0;

	if (csv->open_bytes == 0)
	{
		csv->row_buf_used = 0;
		csv->fed = 0;
		csv->nmarked = 0;
		csv->in_quotes = false;
		csv->seen_quote = false;
		csv->row_done = false;
	}

	if (!feed_line(csv, line))
	{
		if (csv->open_bytes > 0)
		{
			fail(csv, SIS_CSV_UNCLOSED_QUOTE, csv->line);
			return ROW_FAILED;
		}
		/* without callbacks this only brings the parser back to its start */
		csv_fini(&csv->parser, NULL, NULL, NULL);
		csv->problem = SIS_CSV_BAD_QUOTE;
		csv->nfields = 0;
		return ROW_READY;
	}

	if (!csv->row_done)
	{
		csv->open_bytes += raw_size;
		return ROW_OPEN;
	}

	csv->open_bytes = 0;
	for (int i = 0; i < csv->nfields; i++)
	{
		SisCsvField *field = &csv->fields[i];

		set_field(field, field->data, field->len);
		longest = Max(longest, field->len);
	}
	return longest > 0 ? ROW_READY : ROW_BLANK;
}

/* Adds a physical line to the row, or begins one with it. */
static RowState
add_line(SisCsv *csv, PhysicalLine *line)
{
	int			raw_size = line->size;

	if (csv->open_bytes == 0)
	{
		if (line->len == 0)
			return ROW_BLANK;
		csv->line = csv->nlines;
		csv->problem = SIS_CSV_OK;
		csv->nfields = 0;
	}
	verify_line(csv, line);

	if (csv->open_bytes == 0 && !(line->has_quote && has_quoted_field(line)))
		return split_plain(csv, line);
	return parse_quoted(csv, line, raw_size);
}

SisCsvResult
sis_csv_next(SisCsv *csv)
{
	if (csv->last == SIS_CSV_END || csv->last == SIS_CSV_FAILED)
		return csv->last;
	if (!csv->started && !read_head(csv))
		return csv->last = SIS_CSV_FAILED;

	for (;;)
	{
		PhysicalLine line;

		switch (take_line(csv, &line))
		{
			case LINE_TAKEN:
				break;
			case LINE_FAILED:
				return csv->last = SIS_CSV_FAILED;
			case LINE_NONE:
				if (csv->open_bytes > 0)
				{
					fail(csv, SIS_CSV_CUT, csv->line);
					return csv->last = SIS_CSV_FAILED;
				}
				csv->nfields = 0;
				csv->problem = SIS_CSV_OK;
				return csv->last = SIS_CSV_END;
		}

		switch (add_line(csv, &line))
		{
			case ROW_BLANK:
			case ROW_OPEN:
				break;
			case ROW_READY:
				return csv->problem == SIS_CSV_OK ?
					SIS_CSV_ROW : SIS_CSV_BAD_ROW;
			case ROW_FAILED:
				return csv->last = SIS_CSV_FAILED;
		}
	}
}

int
sis_csv_nfields(const SisCsv *csv)
{
	return csv->nfields;
}

const SisCsvField *
sis_csv_fields(const SisCsv *csv)
{
	return csv->fields;
}

int64
sis_csv_line(const SisCsv *csv)
{
	return csv->line;
}

SisCsvProblem
sis_csv_problem(const SisCsv *csv)
{
	return csv->problem;
}

bool
sis_csv_ends_here(const SisCsv *csv)
{
	return csv->ends_here;
}
