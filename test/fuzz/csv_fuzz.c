/*
 * csv_fuzz.c
 *		src/format/csv.c and encoding.c against a plain, slow reference.
 *
 * Each text is read as UTF-8 and as WIN1252, in one piece and in small ones.
 * The reference splits it into lines, converts them, and goes through it
 * character by character; it shares no code with the reader, nor libcsv.
 */
#include "postgres.h"

#include <stdlib.h>

#include "mb/pg_wchar.h"

#include "format/csv.h"
#include "format/encoding.h"
#include "fuzz.h"
#include "harness.h"

/* ----------
 * What comes out: one line of text for each result
 * ----------
 */

static void
put_row(Buffer *out, int64 line, SisCsvProblem problem)
{
	put_format(out, INT64_FORMAT " %d", line, problem);
}

static void
put_field(Buffer *out, const char *data, int len, bool quoted)
{
	put_format(out, " %d%c", len, quoted ? '"' : ':');
	put(out, data, len);
}

typedef struct Text
{
	const char *data;
	int			left;
	int			piece;
} Text;

static int
read_text(void *arg, char *buf, int len)
{
	Text	   *text = arg;
	int			n = Min(Min(text->piece, len), text->left);

	if (n > 0)
		memcpy(buf, text->data, n);
	text->data += n;
	text->left -= n;
	return n;
}

static void
read_by_csv(Buffer *out, const char *data, int len, int encoding, int piece)
{
	Text		text = {data, len, piece};
	SisCsv	   *csv = sis_csv_open(read_text, &text, encoding);
	SisCsvResult result;

	out->len = 0;
	while ((result = sis_csv_next(csv)) != SIS_CSV_END)
	{
		put_row(out, sis_csv_line(csv), sis_csv_problem(csv));
		for (int i = 0; i < sis_csv_nfields(csv); i++)
		{
			const SisCsvField *field = &sis_csv_fields(csv)[i];

			put_field(out, field->data, field->len, field->quoted);
		}
		put_string(out, "\n");
		FUZZ_CHECK((result == SIS_CSV_ROW) ==
				   (sis_csv_problem(csv) == SIS_CSV_OK), "problem of a row");
		if (result == SIS_CSV_FAILED)
			break;
	}
	put_string(out, "end");
	FUZZ_CHECK(sis_csv_next(csv) == result, "the end does not last");
}

/* ----------
 * The reference
 * ----------
 */

/* Windows-1252 from 0x80 to 0x9F; zero: nothing. */
static const uint32 high[32] = {
	0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
	0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017D, 0,
	0, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
	0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0, 0x017E, 0x0178
};

static void
put_character(Buffer *out, uint32 code)
{
	char		utf8[3];

	if (code < 0x80)
	{
		utf8[0] = (char) code;
		put(out, utf8, 1);
	}
	else if (code < 0x800)
	{
		utf8[0] = (char) (0xC0 | code >> 6);
		utf8[1] = (char) (0x80 | (code & 0x3F));
		put(out, utf8, 2);
	}
	else
	{
		utf8[0] = (char) (0xE0 | code >> 12);
		utf8[1] = (char) (0x80 | (code >> 6 & 0x3F));
		utf8[2] = (char) (0x80 | (code & 0x3F));
		put(out, utf8, 3);
	}
}

/* Characters that nobody would write in WIN1252, byte by byte? */
static bool
speaks_utf8(const unsigned char *p, const unsigned char *end)
{
	int			len;

	while (p < end)
	{
		uint32		code = fuzz_character(p, end, &len);

		if (len > 1 && (code < 0x180 || code >= 0x800))
			return true;
		p += Max(len, 1);
	}
	return false;
}

/* Brings a line to UTF-8; what is wrong with it. */
static SisCsvProblem
convert(Buffer *out, const char *data, int len, bool windows)
{
	const unsigned char *p = (const unsigned char *) data;
	bool		ascii = true;
	SisCsvProblem problem = SIS_CSV_OK;

	out->len = 0;
	put_string(out, "");
	for (int i = 0; i < len; i++)
		ascii &= p[i] < 0x80;
	if (!windows || ascii || speaks_utf8(p, p + len))
	{
		if (windows && !ascii)
			problem = SIS_CSV_BAD_BYTES;
		put(out, data, len);
	}
	else
	{
		for (int i = 0; i < len; i++)
		{
			uint32		code = p[i] >= 0x80 && p[i] < 0xA0 ?
				high[p[i] - 0x80] : p[i];

			if (code == 0)
				put(out, data + i, 1);
			else
				put_character(out, code);
		}
	}
	if (problem == SIS_CSV_OK && out->len > 0 &&
		!fuzz_is_text(out->data, out->len))
		problem = memchr(out->data, '\0', out->len) != NULL ?
			SIS_CSV_NUL : SIS_CSV_BAD_BYTES;
	return problem;
}

typedef struct Field
{
	int			start;			/* in the row's text */
	int			len;
	bool		quoted;
} Field;

typedef struct Row
{
	Buffer		text;
	Field	   *fields;
	int			nfields;
	int			size;
} Row;

static void
begin_field(Row *row, bool quoted)
{
	if (row->nfields == row->size)
	{
		row->size = 2 * row->size + 8;
		row->fields = realloc(row->fields, row->size * sizeof(Field));
	}
	row->fields[row->nfields].start = (int) row->text.len;
	row->fields[row->nfields++].quoted = quoted;
}

static void
end_field(Row *row)
{
	Field	   *field = &row->fields[row->nfields - 1];

	field->len = (int) row->text.len - field->start;
}

/* White space, and the no-break space, off both ends. */
static void
trim(const Row *row, Field *field)
{
	const char *data = row->text.data != NULL ? row->text.data : "";

	for (bool more = true; more && field->len > 0;)
	{
		const char *first = data + field->start;
		const char *last = first + field->len - 1;

		more = false;
		if (strchr(" \t\n\v\f\r", *first) != NULL && *first != '\0')
			field->start++, field->len--, more = true;
		else if (field->len > 1 && memcmp(first, "\xC2\xA0", 2) == 0)
			field->start += 2, field->len -= 2, more = true;
		else if (strchr(" \t\n\v\f\r", *last) != NULL && *last != '\0')
			field->len--, more = true;
		else if (field->len > 1 && memcmp(last - 1, "\xC2\xA0", 2) == 0)
			field->len -= 2, more = true;
	}
}

/* Puts a row unless nothing stands in it. */
static void
put_if_any(Buffer *out, Row *row, int64 line, SisCsvProblem problem)
{
	bool		any = false;

	for (int i = 0; i < row->nfields; i++)
	{
		trim(row, &row->fields[i]);
		any |= row->fields[i].len > 0;
	}
	if (!any)
		return;
	put_row(out, line, problem);
	for (int i = 0; i < row->nfields; i++)
		put_field(out, row->text.data + row->fields[i].start,
				  row->fields[i].len, row->fields[i].quoted);
	put_string(out, "\n");
}

/* Does a field of the line, split at its commas, begin with a quote? */
static bool
has_quoted(const Buffer *line)
{
	bool		begins = true;

	for (size_t i = 0; i < line->len; i++)
	{
		if (begins && line->data[i] == '"')
			return true;
		begins = line->data[i] == ',' ||
			(begins && (line->data[i] == ' ' || line->data[i] == '\t'));
	}
	return false;
}

static void
split(Row *row, const Buffer *line)
{
	begin_field(row, false);
	for (size_t i = 0; i < line->len; i++)
	{
		if (line->data[i] == ',')
		{
			end_field(row);
			begin_field(row, false);
		}
		else
			put(&row->text, line->data + i, 1);
	}
	end_field(row);
}

typedef enum Place
{
	BEFORE,						/* in the blanks before a field's text */
	PLAIN,
	QUOTED,
	BEHIND						/* behind a closing quote */
} Place;

/*
 * Goes on with a row by its next line, the line's end included.  False when a
 * quote stands where none may.
 */
static bool
go_on(Row *row, Place *place, const Buffer *line, const char *ending, int nending)
{
	for (size_t i = 0; i < line->len; i++)
	{
		char		c = line->data[i];

		if (*place == QUOTED)
		{
			if (c == '"' && i + 1 < line->len && line->data[i + 1] == '"')
			{
				put(&row->text, &c, 1);
				i++;
			}
			else if (c == '"')
			{
				end_field(row);
				*place = BEHIND;
			}
			else
				put(&row->text, &c, 1);
		}
		else if (c == ',')
		{
			if (*place == BEFORE)
				begin_field(row, false);
			if (*place != BEHIND)
				end_field(row);
			*place = BEFORE;
		}
		else if (*place != PLAIN && (c == ' ' || c == '\t'))
			continue;
		else if (*place == BEHIND || (*place == PLAIN && c == '"'))
			return false;
		else if (c == '"')
		{
			begin_field(row, true);
			*place = QUOTED;
		}
		else
		{
			if (*place == BEFORE)
				begin_field(row, false);
			*place = PLAIN;
			put(&row->text, &c, 1);
		}
	}
	if (*place == QUOTED)
		put(&row->text, ending, nending);
	else
	{
		if (*place == BEFORE)
			begin_field(row, false);
		if (*place != BEHIND)
			end_field(row);
	}
	return true;
}

/* Half or nearly all of the even, or of the odd bytes are zero. */
static bool
is_wide(const char *data, int len)
{
	int			pairs = Min(len, 200) / 2;
	int			even = 0;
	int			odd = 0;

	for (int i = 0; i < pairs; i++)
	{
		even += data[2 * i] == 0;
		odd += data[2 * i + 1] == 0;
	}
	return pairs >= 2 && (even >= 0.75 * pairs || odd >= 0.75 * pairs);
}

static SisCsvProblem
judge_head(const char *data, int len, int *skip)
{
	*skip = len >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
	if (*skip == 0 &&
		((len >= 2 && (memcmp(data, "\xFE\xFF", 2) == 0 ||
					   memcmp(data, "\xFF\xFE", 2) == 0)) ||
		 (len >= 4 && memcmp(data, "\0\0\xFE\xFF", 4) == 0) ||
		 is_wide(data, len)))
		return SIS_CSV_UTF16;
	len = Min(len, 512);
	for (int i = *skip; i + 1 < len; i++)
	{
		if (data[i] == '<' && (strchr("!hH", data[i + 1]) != NULL ||
							   (i + 5 <= len &&
								memcmp(data + i, "<?xml", 5) == 0)))
			return data[i + 1] == '\0' ? SIS_CSV_OK : SIS_CSV_HTML;
		if (data[i] == '\0' || strchr(" \t\n\v\f\r", data[i]) == NULL)
			break;
	}
	return SIS_CSV_OK;
}

static void
read_by_reference(Buffer *out, const char *data, int len, bool windows)
{
	static Row	row;
	static Buffer line;
	int			at;
	int64		number = 0;
	int64		first = 0;
	bool		open = false;
	Place		place = BEFORE;
	SisCsvProblem problem = judge_head(data, len, &at);

	out->len = 0;
	windows = windows && at == 0;
	if (problem != SIS_CSV_OK)
	{
		put_row(out, 1, problem);
		put_string(out, "\nend");
		return;
	}
	while (at < len)
	{
		int			end = at;
		int			ending;
		SisCsvProblem found;

		while (end < len && data[end] != '\n' && data[end] != '\r')
			end++;
		ending = end == len ? 0 :
			data[end] == '\r' && end + 1 < len && data[end + 1] == '\n' ? 2 : 1;
		number++;
		found = convert(&line, data + at, end - at, windows);
		at = end + ending;
		if (!open)
		{
			if (line.len == 0)
				continue;
			first = number;
			problem = SIS_CSV_OK;
			row.nfields = 0;
			row.text.len = 0;
			place = BEFORE;
		}
		if (problem == SIS_CSV_OK)
			problem = found;
		if (!open && !has_quoted(&line))
			split(&row, &line);
		else if (!go_on(&row, &place, &line, data + end, ending))
		{
			put_row(out, first, open ? SIS_CSV_UNCLOSED_QUOTE : SIS_CSV_BAD_QUOTE);
			put_string(out, "\n");
			if (!open)
				continue;
			put_string(out, "end");
			return;
		}
		open = place == QUOTED;
		if (!open)
			put_if_any(out, &row, first, problem);
	}
	if (open)
	{
		put_row(out, first, SIS_CSV_CUT);
		put_string(out, "\n");
	}
	put_string(out, "end");
}

/* ----------
 * The encoding of the whole
 * ----------
 */

static void
look_at_encoding(const char *data, int len, int piece)
{
	Text		text = {data, len, piece};
	const unsigned char *p = (const unsigned char *) data;
	const unsigned char *end = p + len;
	SisEncodingLook look;
	SisEncodingLook expected = {0};
	int			n;

	for (; p < end; p += Max(n, 1))
	{
		fuzz_character(p, end, &n);
		expected.characters += n > 1;
		expected.strays += n == 0;
	}
	FUZZ_CHECK(sis_encoding_look(read_text, &text, &look), "no read failed");
	FUZZ_CHECK(look.characters == expected.characters &&
			   look.strays == expected.strays, "pieces of %d", piece);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static Buffer got;
	static Buffer expected;
	const char *text = (const char *) data;
	int			piece = 1 + (int) (fuzz_hash(data, size) % 17);

	for (int windows = 0; windows < 2; windows++)
	{
		int			encoding = windows ? PG_WIN1252 : PG_UTF8;

		read_by_reference(&expected, text, (int) size, windows);
		read_by_csv(&got, text, (int) size, encoding, 65536);
		FUZZ_CHECK(got.len == expected.len &&
				   memcmp(got.data, expected.data, got.len) == 0,
				   "expected\n%s\ngot\n%s", expected.data, got.data);
		read_by_csv(&got, text, (int) size, encoding, piece);
		FUZZ_CHECK(got.len == expected.len &&
				   memcmp(got.data, expected.data, got.len) == 0,
				   "pieces of %d: expected\n%s\ngot\n%s", piece,
				   expected.data, got.data);
		shim_reset();
	}
	look_at_encoding(text, (int) size, piece);
	shim_reset();
	return 0;
}
