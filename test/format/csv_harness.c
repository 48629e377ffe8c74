/*
 * csv_harness.c
 *		src/format/csv.c without a server: cases, mangled bytes, speed.
 *
 *	csv_harness [--seed N] [iterations]		cases, then so many mangled texts
 *	csv_harness --bench FILE				MB/s, the best of five
 *	csv_harness --dump FILE					the rows of a file
 *
 * What comes out of a text is written as one line per result:
 *
 *	LINE row FIELD|FIELD			a quoted field stands in brackets
 *	LINE bad PROBLEM FIELD|FIELD
 *	LINE failed PROBLEM
 *	end
 */
#include "postgres.h"

#include <csv.h>
#include <stdlib.h>

#include "mb/pg_wchar.h"

#include "base/record.h"
#include "format/csv.h"
#include "harness.h"
#include "shim.h"

typedef struct Text
{
	const char *data;
	int			len;
	int			pos;
	int			block;			/* bytes per read; 0: random */
	int			fail_at;		/* read fails from here on; -1: never */
} Text;

typedef struct Case
{
	const char *name;
	int			encoding;
	const char *input;
	int			len;
	const char *expected;
} Case;

#define UTF8(name, input, expected) \
	{ name, PG_UTF8, input, sizeof(input) - 1, expected }
#define WIN(name, input, expected) \
	{ name, PG_WIN1252, input, sizeof(input) - 1, expected }

static const char *const problems[] = {
	[SIS_CSV_OK] = "ok",
	[SIS_CSV_BAD_BYTES] = "bytes",
	[SIS_CSV_NUL] = "nul",
	[SIS_CSV_BAD_QUOTE] = "quote",
	[SIS_CSV_UNCLOSED_QUOTE] = "unclosed",
	[SIS_CSV_CUT] = "cut",
	[SIS_CSV_TOO_LONG] = "long",
	[SIS_CSV_UTF16] = "utf16",
	[SIS_CSV_HTML] = "html",
	[SIS_CSV_READ_ERROR] = "read"
};

static const Case cases[] = {
	/* rows and line ends */
	UTF8("empty", "", "end\n"),
	UTF8("one line end", "\n", "end\n"),
	UTF8("plain", "id,name\n1,Ann\n",
		 "1 row id|name\n2 row 1|Ann\nend\n"),
	UTF8("no final line end", "id,name\n1,Ann",
		 "1 row id|name\n2 row 1|Ann\nend\n"),
	UTF8("no final line end, last field empty", "id,name\n1,",
		 "1 row id|name\n2 row 1|\nend\n"),
	UTF8("no final line end, quoted", "id\n\"1\"",
		 "1 row id\n2 row [1]\nend\n"),
	UTF8("no final line end, quoted, then empty", "id,x\n\"1\",",
		 "1 row id|x\n2 row [1]|\nend\n"),
	UTF8("CRLF", "id,name\r\n1,Ann\r\n",
		 "1 row id|name\n2 row 1|Ann\nend\n"),
	UTF8("lone CR", "id,name\r1,Ann\r2,Bo",
		 "1 row id|name\n2 row 1|Ann\n3 row 2|Bo\nend\n"),
	UTF8("lone CR at the end", "id\r1\r", "1 row id\n2 row 1\nend\n"),
	UTF8("mixed line ends", "a\r\nb\nc\rd\r\r\ne\n\rf",
		 "1 row a\n2 row b\n3 row c\n4 row d\n6 row e\n8 row f\nend\n"),
	UTF8("mixed line ends, quoted",
		 "\"a\"\r\n\"b\"\n\"c\"\r\"d\"\r\r\n\"e\"\n\r\"f\"",
		 "1 row [a]\n2 row [b]\n3 row [c]\n4 row [d]\n6 row [e]\n8 row [f]\nend\n"),
	UTF8("blank lines count", "id\n\n\r\n1\n\n\n2\n",
		 "1 row id\n4 row 1\n7 row 2\nend\n"),
	UTF8("all-blank rows", "id,x\n,\n , \t\n\"\",\"  \"\n   \n\xC2\xA0,\n1,2\n",
		 "1 row id|x\n7 row 1|2\nend\n"),
	UTF8("empty fields", ",a,,b,\n", "1 row |a||b|\nend\n"),
	UTF8("single characters", "a\nb", "1 row a\n2 row b\nend\n"),
	UTF8("semicolons are no separators", "a;b\n", "1 row a;b\nend\n"),

	/* trimming */
	UTF8("trimmed", " a ,\tb\t,\xC2\xA0" "c\xC2\xA0,\v d \f\n",
		 "1 row a|b|c|d\nend\n"),
	UTF8("trimmed inside quotes", "\" a \",\"\xC2\xA0 b \xC2\xA0\"\n",
		 "1 row [a]|[b]\nend\n"),
	UTF8("space around quotes", " \"a\" ,\t\"b\"\t\n",
		 "1 row [a]|[b]\nend\n"),
	UTF8("inner space stays", "a b,\"c  d\"\n", "1 row a b|[c  d]\nend\n"),
	UTF8("A0 that is part of a letter", "\xC3\xA0,a\xC3\xA0\n",
		 "1 row \xC3\xA0|a\xC3\xA0\nend\n"),

	/* quoting */
	UTF8("all quoted", "\"id\",\"name\"\r\n\"1\",\"Ann\"\r\n",
		 "1 row [id]|[name]\n2 row [1]|[Ann]\nend\n"),
	UTF8("comma in quotes", "1,\"a,b\",c\n", "1 row 1|[a,b]|c\nend\n"),
	UTF8("doubled quotes", "\"a\"\"b\",\"\"\"c\"\"\",\"\"\n",
		 "1 row [a\"b]|[\"c\"]|[]\nend\n"),
	UTF8("line breaks in quotes", "id,x\n1,\"a\nb\r\nc\rd\"\n2,e\n",
		 "1 row id|x\n2 row 1|[a\\nb\\r\\nc\\rd]\n6 row 2|e\nend\n"),
	UTF8("blank lines in quotes", "\"a\n\n\nb\",c\nd,e\n",
		 "1 row [a\\n\\n\\nb]|c\n5 row d|e\nend\n"),
	UTF8("two fields over lines", "\"a\nb\",\"c\nd\",e\nf,g,h\n",
		 "1 row [a\\nb]|[c\\nd]|e\n4 row f|g|h\nend\n"),
	UTF8("blank field over lines", "\"\n\",\nx,y\n", "3 row x|y\nend\n"),
	UTF8("quoted, row over lines, no final line end", "\"a\nb\"",
		 "1 row [a\\nb]\nend\n"),
	UTF8("only a pair of quotes on each line", "\"\"\n\"\"\"\"\n",
		 "2 row [\"]\nend\n"),
	UTF8("ruler", "id,x\n1,6\" ruler\n2,12\"\n3,a\"\"b\n4,O\"Neil, 5\"\n",
		 "1 row id|x\n2 row 1|6\" ruler\n3 row 2|12\"\n4 row 3|a\"\"b\n"
		 "5 row 4|O\"Neil|5\"\nend\n"),
	UTF8("ruler in a row with a quoted field", "1,\"a\",6\" ruler\n2,b,c\n",
		 "1 bad quote \n2 row 2|b|c\nend\n"),
	UTF8("ruler before the quoted field", "1,6\" ruler,\"a\"\n2,b,c\n",
		 "1 bad quote \n2 row 2|b|c\nend\n"),
	UTF8("text after a quoted field", "1,\"a\"b,c\n2,\"d\",e\n",
		 "1 bad quote \n2 row 2|[d]|e\nend\n"),
	UTF8("quote after a closed field", "\"a\" \"b\",c\nd,e\n",
		 "1 bad quote \n2 row d|e\nend\n"),
	UTF8("inner quotes not doubled", "1,\"Bob \"Bo\" Smith\",c\r\n2,d,e\r\n",
		 "1 bad quote \n2 row 2|d|e\nend\n"),
	UTF8("bad quote on the last line", "1,\"a\"b", "1 bad quote \nend\n"),
	UTF8("bad quotes one after the other", "\"a\"b\n\"c\"d\n\"e\"\n",
		 "1 bad quote \n2 bad quote \n3 row [e]\nend\n"),
	UTF8("quote never closed", "id,x\n1,a\n\n2,\"b\n3,c\n",
		 "1 row id|x\n2 row 1|a\n4 failed cut\n"),
	UTF8("quote never closed, no final line end", "id,x\n1,\"b",
		 "1 row id|x\n2 failed cut\n"),
	UTF8("lone quote at the end", "id\n\"", "1 row id\n2 failed cut\n"),
	UTF8("quote closed lines later", "id,x\n1,\"b\n2,\"c\",d\n3,e\n",
		 "1 row id|x\n2 failed unclosed\n"),
	UTF8("bad quote in the second line of a row", "1,\"a\nb\"c,d\n2,e\n",
		 "1 failed unclosed\n"),
	UTF8("ruler in the second line of a row", "1,\"a\nb\",6\"\n2,e\n",
		 "1 failed unclosed\n"),

	/* encoding */
	UTF8("byte order mark", "\xEF\xBB\xBFid\n1\n", "1 row id\n2 row 1\nend\n"),
	UTF8("byte order mark, quoted", "\xEF\xBB\xBF\"id\",x\n",
		 "1 row [id]|x\nend\n"),
	UTF8("only a byte order mark", "\xEF\xBB\xBF", "end\n"),
	UTF8("byte order mark later", "id\n\xEF\xBB\xBF" "1\n",
		 "1 row id\n2 row \xEF\xBB\xBF" "1\nend\n"),
	UTF8("letters", "1,Zo\xC3\xAB,\xE6\x9D\x8E,\xF0\x9F\x98\x80\n",
		 "1 row 1|Zo\xC3\xAB|\xE6\x9D\x8E|\xF0\x9F\x98\x80\nend\n"),
	UTF8("not UTF-8", "1,Zo\xEB,a\n2,Bo,b\n",
		 "1 bad bytes 1|Zo\xEB|a\n2 row 2|Bo|b\nend\n"),
	UTF8("not UTF-8, quoted", "1,\"Zo\xEB\",a\n\"2\",Bo,b\n",
		 "1 bad bytes 1|[Zo\xEB]|a\n2 row [2]|Bo|b\nend\n"),
	UTF8("not UTF-8 in one line of a row", "1,\"a\n\xEB\nb\",c\n2,d,e\n",
		 "1 bad bytes 1|[a\\n\xEB\\nb]|c\n4 row 2|d|e\nend\n"),
	UTF8("surrogate and overlong", "\xED\xA0\x80\n\xC0\xAF\n1\n",
		 "1 bad bytes \xED\xA0\x80\n2 bad bytes \xC0\xAF\n3 row 1\nend\n"),
	UTF8("cut letter at the end", "id\na\xC3",
		 "1 row id\n2 bad bytes a\xC3\nend\n"),
	UTF8("letter cut by a line end", "id\na\xC3\n\xAB\n",
		 "1 row id\n2 bad bytes a\xC3\n3 bad bytes \xAB\nend\n"),
	UTF8("NUL", "id,x\n1,a\0b\n2,c\n",
		 "1 row id|x\n2 bad nul 1|a\\0b\n3 row 2|c\nend\n"),
	UTF8("NUL, quoted", "id,x\n1,\"a\0b\"\n\"2\",c\n",
		 "1 row id|x\n2 bad nul 1|[a\\0b]\n3 row [2]|c\nend\n"),
	UTF8("NUL and bad bytes", "id,x\n1,\xEB\0\n",
		 "1 row id|x\n2 bad nul 1|\xEB\\0\nend\n"),
	UTF8("bad bytes, then a NUL", "1,\"\xEB\n\0\"\n2,b\n",
		 "1 bad bytes 1|[\xEB\\n\\0]\n3 row 2|b\nend\n"),
	UTF8("bad bytes and bad quote", "1,\"a\"\xEB\n2,b\n",
		 "1 bad quote \n2 row 2|b\nend\n"),
	WIN("WIN1252", "1,Zo\xEB,\x80\n2,\"\x93q\x94\",\xFF\n3,a,b\n",
		"1 row 1|Zo\xC3\xAB|\xE2\x82\xAC\n"
		"2 row 2|[\xE2\x80\x9Cq\xE2\x80\x9D]|\xC3\xBF\n3 row 3|a|b\nend\n"),
	WIN("WIN1252 over lines, CRLF", "1,\"\xEB\r\n\xE9\"\r\n2,\xFC",
		"1 row 1|[\xC3\xAB\\r\\n\xC3\xA9]\n3 row 2|\xC3\xBC\nend\n"),
	WIN("WIN1252 no-break space", "\xA0" "a\xA0,\"\xA0\"\n",
		"1 row a|[]\nend\n"),
	WIN("WIN1252 byte without meaning", "1,a\x81\xE9\x8D\n2,\x90\n3,b\n",
		"1 bad bytes 1|a\x81\xC3\xA9\x8D\n2 bad bytes 2|\x90\n3 row 3|b\nend\n"),
	WIN("WIN1252 NUL", "id,x,y\n1,\xEB\0\xEB,z\n2,a\0,b\n",
		"1 row id|x|y\n2 bad nul 1|\xC3\xAB\\0\xC3\xAB|z\n"
		"3 bad nul 2|a\\0|b\nend\n"),
	WIN("WIN1252 with a byte order mark is UTF-8", "\xEF\xBB\xBFid\nZo\xC3\xAB\n",
		"1 row id\n2 row Zo\xC3\xAB\nend\n"),

	/* not CSV at all */
	UTF8("UTF-16 LE", "\xFF\xFEi\0d\0\n\0", "1 failed utf16\n"),
	UTF8("UTF-16 BE", "\xFE\xFF\0i\0d\0\n", "1 failed utf16\n"),
	UTF8("UTF-32 BE", "\0\0\xFE\xFF\0\0\0i", "1 failed utf16\n"),
	UTF8("UTF-16 LE without mark", "i\0d\0,\0x\0\n\0\x31\0", "1 failed utf16\n"),
	UTF8("UTF-16 BE without mark", "\0i\0d\0,\0x\0\n\0\x31", "1 failed utf16\n"),
	WIN("UTF-16 LE, WIN1252", "\xFF\xFEi\0d\0\n\0", "1 failed utf16\n"),
	UTF8("doctype", "<!DOCTYPE html>\n<p>no</p>\n", "1 failed html\n"),
	UTF8("html", "\xEF\xBB\xBF\r\n  <html>\n", "1 failed html\n"),
	UTF8("HTML", "<HTML>", "1 failed html\n"),
	UTF8("xml", "<?xml version=\"1.0\"?>\n", "1 failed html\n"),
	UTF8("a field with an angle", "<id>,x\n", "1 row <id>|x\nend\n"),
	UTF8("html in a field", "id,x\n1,<html>\n",
		 "1 row id|x\n2 row 1|<html>\nend\n"),
};

static int
read_text(void *arg, char *buf, int len)
{
	Text	   *text = arg;
	int			n = text->block > 0 ? text->block : 1 + random_below(40);

	if (text->fail_at >= 0 && text->pos >= text->fail_at)
		return -1;
	n = Min(n, len);
	n = Min(n, text->len - text->pos);
	if (n > 0)
		memcpy(buf, text->data + text->pos, n);
	text->pos += n;
	return n;
}

static void
put_field(Buffer *buf, const char *data, int len, bool quoted)
{
	if (quoted)
		put(buf, "[", 1);
	for (int i = 0; i < len; i++)
	{
		switch (data[i])
		{
			case '\n':
				put(buf, "\\n", 2);
				break;
			case '\r':
				put(buf, "\\r", 2);
				break;
			case '\0':
				put(buf, "\\0", 2);
				break;
			default:
				put(buf, data + i, 1);
		}
	}
	if (quoted)
		put(buf, "]", 1);
}

static void
put_result(Buffer *buf, SisCsv *csv, SisCsvResult result)
{
	char		head[64];

	if (result == SIS_CSV_END)
	{
		put_string(buf, "end\n");
		return;
	}
	snprintf(head, sizeof(head), INT64_FORMAT " %s%s", sis_csv_line(csv),
			 result == SIS_CSV_ROW ? "row " :
			 result == SIS_CSV_BAD_ROW ? "bad " : "failed ",
			 result == SIS_CSV_ROW ? "" : problems[sis_csv_problem(csv)]);
	put_string(buf, head);
	if (result == SIS_CSV_BAD_ROW)
		put(buf, " ", 1);
	for (int i = 0; i < sis_csv_nfields(csv); i++)
	{
		const SisCsvField *field = &sis_csv_fields(csv)[i];

		if (i > 0)
			put(buf, "|", 1);
		put_field(buf, field->data, field->len, field->quoted);
	}
	put(buf, "\n", 1);
}

/* What must hold of any result of any text. */
static const char *
broken_promise(SisCsv *csv, SisCsvResult result, int64 last_line)
{
	SisCsvProblem problem = sis_csv_problem(csv);
	bool		blank = true;

	if (result == SIS_CSV_END || result == SIS_CSV_FAILED)
	{
		if (sis_csv_next(csv) != result || sis_csv_next(csv) != result)
			return "the end does not last";
		if (sis_csv_nfields(csv) != 0)
			return "fields at the end";
		if ((result == SIS_CSV_END) != (problem == SIS_CSV_OK) ||
			(result == SIS_CSV_FAILED && problem < SIS_CSV_UNCLOSED_QUOTE))
			return "problem does not go with the end";
		return NULL;
	}
	if (sis_csv_line(csv) <= last_line)
		return "lines do not ascend";
	if ((result == SIS_CSV_ROW) != (problem == SIS_CSV_OK) ||
		problem > SIS_CSV_BAD_QUOTE)
		return "problem does not go with the row";
	for (int i = 0; i < sis_csv_nfields(csv); i++)
	{
		const SisCsvField *field = &sis_csv_fields(csv)[i];
		SisValue	again = sis_trim(field->data, field->len);

		if (field->len < 0 || field->data == NULL)
			return "field without data";
		if (again.len != field->len)
			return "field not trimmed";
		if (result == SIS_CSV_ROW &&
			pg_encoding_verifymbstr(PG_UTF8, field->data,
									field->len) != field->len)
			return "field not UTF-8";
		blank &= field->len == 0;
	}
	if (blank && problem != SIS_CSV_BAD_QUOTE)
		return "blank row";
	return NULL;
}

/* Reads a whole text and writes down what came out, into a reused buffer. */
static const char *
run_text(Buffer *out, const char *data, int len, int encoding, int block,
		 int fail_at)
{
	Text		text = {data, len, 0, block, fail_at};
	SisCsv	   *csv = sis_csv_open(read_text, &text, encoding);
	SisCsvResult result;
	const char *broken = NULL;
	int64		last_line = 0;
	int			n = 0;

	out->len = 0;
	do
	{
		result = sis_csv_next(csv);
		put_result(out, csv, result);
		broken = broken_promise(csv, result, last_line);
		last_line = sis_csv_line(csv);
		if (n++ > len + 1)
			broken = "more rows than bytes";
	} while (broken == NULL &&
			 (result == SIS_CSV_ROW || result == SIS_CSV_BAD_ROW));
	shim_reset();
	return broken;
}

static void
run_cases(void)
{
	Buffer		out = {0};

	for (int i = 0; i < lengthof(cases); i++)
	{
		const Case *c = &cases[i];

		/* a copy of its own size, so that reading past its end is seen */
		char	   *input = malloc(c->len + 1);

		memcpy(input, c->input, c->len);
		for (int block = 1; block <= 18; block++)
		{
			int			size = block == 18 ? 65536 : block;
			const char *broken = run_text(&out, input, c->len, c->encoding,
										  size, -1);

			check(broken == NULL && strcmp(out.data, c->expected) == 0,
				  "%s (blocks of %d)", c->name, size);
			if (broken != NULL)
				printf("\t%s\n", broken);
			else if (strcmp(out.data, c->expected) != 0)
				printf("expected\n%sgot\n%s", c->expected, out.data);
		}
		free(input);
	}
	free(out.data);
}

/*
 * Texts around the limits: head, then fill times middle, then tail.  Only the
 * end of the result is compared.
 */
static void
run_long(const char *name, const char *head, const char *middle, int fill,
		 const char *tail, const char *expected)
{
	static const int blocks[] = {1, 4093, 65535, 65536};
	Buffer		text = {0};
	Buffer		out = {0};

	put_string(&text, head);
	for (int i = 0; i < fill; i++)
		put_string(&text, middle);
	put_string(&text, tail);
	for (int i = 0; i < lengthof(blocks); i++)
	{
		const char *broken = run_text(&out, text.data, text.len, PG_UTF8,
									  blocks[i], -1);
		size_t		len = strlen(expected);

		check(broken == NULL && out.len >= len &&
			  strcmp(out.data + out.len - len, expected) == 0,
			  "%s (blocks of %d)", name, blocks[i]);
	}
	free(text.data);
	free(out.data);
}

static void
run_limits(void)
{
	Buffer		out = {0};
	const char *broken;

	run_long("longest line", "id\n", "x", SIS_CSV_MAX_ROW, "\n1\n",
			 "x\n3 row 1\nend\n");
	run_long("longest line, CRLF", "id\r\n", "x", SIS_CSV_MAX_ROW, "\r\n1\r\n",
			 "x\n3 row 1\nend\n");
	run_long("longest line, no line end", "id\n", "x", SIS_CSV_MAX_ROW, "",
			 "x\nend\n");
	run_long("line too long", "id\n", "x", SIS_CSV_MAX_ROW + 1, "\n1\n",
			 "1 row id\n2 failed long\n");
	run_long("line much too long", "id\n\n", "x", 3 * SIS_CSV_MAX_ROW, "\n1\n",
			 "1 row id\n3 failed long\n");
	run_long("longest quoted line", "id\n\"", "x", SIS_CSV_MAX_ROW - 2,
			 "\"\n1\n", "x]\n3 row 1\nend\n");
	run_long("row too long over lines", "id\n1,\"", "abcdefg\n",
			 SIS_CSV_MAX_ROW / 8, "\"\n2,x\n", "1 row id\n2 failed long\n");
	run_long("unclosed quote in a long text", "id\n1,a\n2,\"", "abcdefg\n",
			 SIS_CSV_MAX_ROW / 2, "", "2 row 1|a\n3 failed long\n");
	run_long("long row over lines", "id\n1,\"", "abcdefg\n",
			 SIS_CSV_MAX_ROW / 8 - 1, "\",x\n2,y\n",
			 "abcdefg]|x\n131074 row 2|y\nend\n");
	run_long("many quoted fields", "id\n\"\nx\"", ",\"a\nb\"", 20000, "\n2\n",
			 "[a\\nb]\n20004 row 2\nend\n");
	run_long("many commas, blank", "id\n", ",", SIS_CSV_MAX_ROW, "\n1\n",
			 "1 row id\n3 row 1\nend\n");
	run_long("many lines, lone CR", "id", "\r12,ab", 50000, "",
			 "50000 row 12|ab\n50001 row 12|ab\nend\n");
	run_long("many lines, quoted", "id", "\r\n\"12\",\"a\r\nb\"", 50000, "",
			 "100000 row [12]|[a\\r\\nb]\nend\n");
	run_long("many lines, ruler", "id", "\n12,6\"", 50000, "",
			 "50001 row 12|6\"\nend\n");

	broken = run_text(&out, "id\n1\n2\n", 7, PG_UTF8, 3, 6);
	check(broken == NULL && strcmp(out.data, "1 failed read\n") == 0,
		  "read error in the first bytes");
	free(out.data);
}

/* ----------
 * Mangled texts
 * ----------
 */
static const char *const pieces[] = {
	",", "\"", "\"\"", "\n", "\r", "\r\n", " ", "\t", "\xC2\xA0", "\xC2",
	"\xEF\xBB\xBF", "\xFF\xFE", "\xC3\xAB", "\xEB", "\x81", "\xF0\x9F\x98\x80",
	",\"", "\",", "\"\n", "\n\"", "a", "1", "<!", ",,,,", "\"a\nb\"", "6\" x"
};

static int
mangle(char *text, int len, int size)
{
	int			n = random_below(12);

	while (n-- > 0)
	{
		int			at = random_below(len + 1);
		const char *piece = pieces[random_below(lengthof(pieces))];
		int			plen = strlen(piece);
		int			cut;

		switch (random_below(6))
		{
			case 0:				/* another byte */
				if (at < len)
					text[at] = (char) random_below(256);
				break;
			case 1:				/* a zero */
				if (at < len && random_below(4) == 0)
					text[at] = '\0';
				break;
			case 2:				/* bytes gone */
				cut = random_below(8);
				cut = Min(cut, len - at);
				memmove(text + at, text + at + cut, len - at - cut);
				len -= cut;
				break;
			case 3:				/* cut off */
				if (random_below(8) == 0)
					len = at;
				break;
			default:			/* something put in */
				if (len + plen > size)
					break;
				memmove(text + at + plen, text + at, len - at);
				memcpy(text + at, piece, plen);
				len += plen;
		}
	}
	return len;
}

typedef struct Plain
{
	Buffer	   *out;
	int			nfields;
	bool		blank;
	Buffer		row;
} Plain;

static void
plain_field(void *data, size_t len, void *arg)
{
	Plain	   *plain = arg;
	SisValue	value = sis_trim(data, len);

	if (plain->nfields++ > 0)
		put(&plain->row, "|", 1);
	put_field(&plain->row, value.data, value.len, false);
	plain->blank &= value.len == 0;
}

static void
plain_row(int end, void *arg)
{
	Plain	   *plain = arg;

	if (!plain->blank)
	{
		put(plain->out, plain->row.data, plain->row.len);
		put(plain->out, "\n", 1);
	}
	plain->row.len = 0;
	plain->nfields = 0;
	plain->blank = true;
}

/*
 * libcsv alone must give the same rows for a text without quotes: the quick
 * way through csv.c is no other dialect.
 */
static bool
same_as_libcsv(Buffer *ours, const char *text, int len)
{
	struct csv_parser parser;
	Buffer		theirs = {0};
	Plain		plain = {&theirs, 0, true, {0}};
	const char *p = ours->data;
	const char *q;
	bool		same = true;

	csv_init(&parser, CSV_STRICT);
	csv_parse(&parser, text, len, plain_field, plain_row, &plain);
	csv_fini(&parser, plain_field, plain_row, &plain);
	csv_free(&parser);
	put(&theirs, "end\n", 4);

	/* ours has "LINE row " before each row */
	q = theirs.data;
	while (same && *p != '\0')
	{
		size_t		n;

		if (strncmp(p, "end\n", 4) != 0)
			p = strstr(p, " row ") + 5;
		n = strcspn(p, "\n") + 1;
		same = strncmp(p, q, n) == 0;
		p += n;
		q += n;
	}
	same = same && *q == '\0';
	free(theirs.data);
	free(plain.row.data);
	return same;
}

static void
run_mangled(int iterations)
{
	Buffer		whole = {0};
	Buffer		parts = {0};
	int			compared = 0;

	for (int i = 0; i < iterations; i++)
	{
		char		scratch[2048];
		int			encoding = random_below(4) == 0 ? PG_WIN1252 : PG_UTF8;
		int			len = 0;
		char	   *text;
		const char *broken;
		char		name[64];

		/* a few cases, one after the other, then mangled */
		for (int n = random_below(4); n >= 0; n--)
		{
			const Case *c = &cases[random_below(lengthof(cases))];

			if (len + c->len < 1024)
			{
				memcpy(scratch + len, c->input, c->len);
				len += c->len;
			}
		}
		len = mangle(scratch, len, sizeof(scratch));
		if (random_below(3) == 0)
		{
			/* for the comparison with libcsv */
			for (int j = 0; j < len; j++)
			{
				if (scratch[j] == '"' || scratch[j] == '\0' ||
					(unsigned char) scratch[j] >= 0xF0)
					scratch[j] = 'q';
			}
		}
		text = malloc(len + 1);
		memcpy(text, scratch, len);

		snprintf(name, sizeof(name), "mangled text %d", i);
		broken = run_text(&whole, text, len, encoding, 65536, -1);
		if (broken == NULL)
			broken = run_text(&parts, text, len, encoding, 0, -1);
		if (broken == NULL && strcmp(whole.data, parts.data) != 0)
			broken = "blocks make a difference";
		if (broken == NULL && encoding == PG_UTF8 &&
			memchr(text, '"', len) == NULL &&
			memchr(text, '\0', len) == NULL &&
			pg_encoding_verifymbstr(PG_UTF8, text, len) == len &&
			strstr(whole.data, "failed") == NULL &&
			(len < 3 || memcmp(text, "\xEF\xBB\xBF", 3) != 0))
		{
			compared++;
			if (!same_as_libcsv(&whole, text, len))
				broken = "libcsv gives other rows";
		}
		if (broken == NULL)
			broken = run_text(&parts, text, len, encoding, 0,
							  random_below(len + 1));
		check(broken == NULL, "%s", name);
		if (broken != NULL)
			printf("\t%s\n", broken);
		free(text);
	}
	printf("%d mangled texts, %d of them compared with libcsv\n",
		   iterations, compared);
	free(whole.data);
	free(parts.data);
}

/* ----------
 * Files
 * ----------
 */
static int
read_file(void *arg, char *buf, int len)
{
	size_t		n = fread(buf, 1, len, arg);

	return ferror((FILE *) arg) ? -1 : (int) n;
}

static int
run_file(const char *path, bool dump)
{
	double		best = 0;
	long		size = 0;
	int64		rows = 0;
	int64		fields = 0;
	int64		bad = 0;

	for (int i = 0; i < (dump ? 1 : 5); i++)
	{
		FILE	   *file = fopen(path, "rb");
		double		start = seconds();
		Buffer		out = {0};
		SisCsv	   *csv;
		SisCsvResult result;

		if (file == NULL)
		{
			perror(path);
			return 2;
		}
		setvbuf(file, NULL, _IONBF, 0);
		rows = fields = bad = 0;
		csv = sis_csv_open(read_file, file, PG_UTF8);
		do
		{
			result = sis_csv_next(csv);
			rows += result == SIS_CSV_ROW;
			bad += result == SIS_CSV_BAD_ROW;
			fields += sis_csv_nfields(csv);
			if (dump)
			{
				out.len = 0;
				put_result(&out, csv, result);
				fwrite(out.data, 1, out.len, stdout);
			}
		} while (result == SIS_CSV_ROW || result == SIS_CSV_BAD_ROW);
		start = seconds() - start;
		best = i == 0 ? start : Min(best, start);
		size = ftell(file);
		fclose(file);
		free(out.data);
		shim_reset();
		if (!dump && result == SIS_CSV_FAILED)
			printf("failed\n");
	}
	if (!dump)
		printf("%.1f MB, " INT64_FORMAT " rows, " INT64_FORMAT " bad, " INT64_FORMAT
			   " fields, %.3f s, %.0f MB/s\n",
			   size / 1e6, rows, bad, fields, best, size / 1e6 / best);
	return 0;
}

int
main(int argc, char **argv)
{
	int			iterations;

	if (argc == 3 && strcmp(argv[1], "--bench") == 0)
		return run_file(argv[2], false);
	if (argc == 3 && strcmp(argv[1], "--dump") == 0)
		return run_file(argv[2], true);

	iterations = (int) begin_checks(argc, argv, 20000);
	run_cases();
	run_limits();
	run_mangled(iterations);
	return finish_checks();
}
