/*
 * json_harness.c
 *		src/format/json.c without a server: cases, mangled pages, speed.
 *
 *	json_harness [--seed N] [iterations]	cases, then so many mangled pages
 *	json_harness --bench FILE				MB/s, the best of five
 *
 * Each page is read whole, byte by byte, and in random pieces; all must come
 * to the same.  What comes out is written as one line:
 *
 *	{"id":"a"} bad(utf8) id=b | end beside=[…]
 *	{"id":"a"} | failed(syntax) 17
 */
#include "postgres.h"

#include <stdlib.h>

#include "mb/pg_wchar.h"

#include "format/json.h"
#include "harness.h"
#include "shim.h"

typedef struct Case
{
	const char *name;
	const char *array;
	const char *input;
	int			len;
	const char *expected;
} Case;

#define PAGE(name, input, expected) \
	{ name, "data", input, sizeof(input) - 1, expected }
#define OBJECT(name, input, expected) \
	{ name, NULL, input, sizeof(input) - 1, expected }

static const char *const problems[] = {
	[SIS_JSON_OK] = "ok",
	[SIS_JSON_BAD_BYTES] = "utf8",
	[SIS_JSON_NUL] = "nul",
	[SIS_JSON_DOUBLE_KEY] = "double",
	[SIS_JSON_SYNTAX] = "syntax",
	[SIS_JSON_HTML] = "html",
	[SIS_JSON_CUT] = "cut",
	[SIS_JSON_SHAPE] = "shape",
	[SIS_JSON_TOO_DEEP] = "deep",
	[SIS_JSON_TOO_LONG] = "long",
	[SIS_JSON_TOO_MANY] = "many"
};

#define DEEP32	"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
#define UNDEEP32 "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"

static const Case cases[] = {
	PAGE("no records", "{\"data\":[]}", "| end"),
	PAGE("one", "{\"data\":[{\"id\":\"a\"}]}", "{\"id\":\"a\"} | end"),
	PAGE("blanks everywhere",
		 " {\n\"data\" :\t[ { \"id\" : \"a\" } ,\r\n {\"id\":\"b\"} ] } \n",
		 "{\"id\":\"a\"} {\"id\":\"b\"} | end"),
	PAGE("links behind", "{\"data\":[{\"id\":\"a\"}],\"links\":[{\"rel\":\"self\"}]}",
		 "{\"id\":\"a\"} | end links=[{\"rel\":\"self\"}]"),
	PAGE("links before", "{\"links\":[],\"data\":[{\"id\":\"a\"}],\"n\":12}",
		 "{\"id\":\"a\"} | end links=[] n=12"),
	PAGE("scalars beside", "{\"a\":1,\"b\":-2.5e3,\"c\":true,\"d\":null,\"e\":\"x\",\"data\":[]}",
		 "| end a=1 b=-2.5e3 c=true d=null e=\"x\""),
	PAGE("byte order mark", "\xEF\xBB\xBF{\"data\":[]}", "| end"),
	PAGE("brackets in strings", "{\"data\":[{\"id\":\"]}{[\\\"\\\\\"}]}",
		 "{\"id\":\"]}{[\\\"\\\\\"} | end"),
	PAGE("records of other kinds", "{\"data\":[1,\"x\",null,[2],true,-0.5]}",
		 "1 \"x\" null [2] true -0.5 | end"),
	PAGE("a nested data", "{\"x\":{\"data\":[{\"id\":\"no\"}]},\"data\":[{\"id\":\"a\"}]}",
		 "{\"id\":\"a\"} | end x={\"data\":[{\"id\":\"no\"}]}"),
	PAGE("UTF-8", "{\"data\":[{\"id\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"}]}",
		 "{\"id\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"} | end"),
	PAGE("escapes", "{\"data\":[{\"id\":\"\\u00e9\\ud83d\\ude00\\n\"}]}",
		 "{\"id\":\"\xC3\xA9\xF0\x9F\x98\x80\\n\"} | end"),
	PAGE("replacement character sent", "{\"data\":[{\"id\":\"\xEF\xBF\xBD\"}]}",
		 "{\"id\":\"\xEF\xBF\xBD\"} | end"),
	PAGE("large numbers", "{\"data\":[{\"id\":18446744073709551615}]}",
		 "{\"id\":18446744073709551615} | end"),
	PAGE("a backslash before u", "{\"data\":[{\"id\":\"\\\\u0000\"}]}",
		 "{\"id\":\"\\\\u0000\"} | end"),

	/* one bad record */
	PAGE("bad bytes", "{\"data\":[{\"id\":\"a\",\"n\":\"\xFF\"},{\"id\":\"b\"}]}",
		 "bad(utf8) id=a {\"id\":\"b\"} | end"),
	PAGE("bad bytes in the ID", "{\"data\":[{\"id\":\"a\xC3(\"}]}",
		 "bad(utf8) | end"),
	PAGE("overlong", "{\"data\":[{\"id\":\"a\",\"n\":\"\xC0\xAF\"}]}",
		 "bad(utf8) id=a | end"),
	PAGE("CESU surrogate", "{\"data\":[{\"id\":\"a\",\"n\":\"\xED\xA0\x80\"}]}",
		 "bad(utf8) id=a | end"),
	PAGE("high half", "{\"data\":[{\"id\":\"a\",\"n\":\"\\ud800x\"}]}",
		 "bad(utf8) id=a | end"),
	PAGE("high half at the end", "{\"data\":[{\"id\":\"a\",\"n\":\"\\ud800\"}]}",
		 "bad(utf8) id=a | end"),
	PAGE("low half", "{\"data\":[{\"id\":\"a\",\"n\":\"\\udc00\"}]}",
		 "bad(utf8) id=a | end"),
	PAGE("two high halves", "{\"data\":[{\"id\":\"a\",\"n\":\"\\ud800\\ud800\\udc00\"}]}",
		 "bad(utf8) id=a | end"),
	PAGE("half in the ID", "{\"data\":[{\"id\":\"a\\ud800\"}]}",
		 "bad(utf8) | end"),
	PAGE("half, and the next record", "{\"data\":[{\"id\":\"\\ud800\"},{\"id\":\"\\u0041\"}]}",
		 "bad(utf8) {\"id\":\"A\"} | end"),
	PAGE("zero escape", "{\"data\":[{\"id\":\"a\",\"n\":\"x\\u0000y\"}]}",
		 "bad(nul) id=a | end"),
	PAGE("zero escape in the ID", "{\"data\":[{\"id\":\"a\\u0000\"}]}",
		 "bad(nul) | end"),
	PAGE("zero byte", "{\"data\":[{\"id\":\"a\",\"n\":\"x\0y\"}]}",
		 "bad(nul) id=a | end"),
	PAGE("zero byte in the ID", "{\"data\":[{\"id\":\"\0\"}]}",
		 "bad(nul) | end"),
	PAGE("double key", "{\"data\":[{\"id\":\"a\",\"n\":1,\"n\":2},{\"id\":\"b\"}]}",
		 "bad(double) {\"id\":\"b\"} | end"),
	PAGE("double key inside", "{\"data\":[{\"id\":\"a\",\"n\":[{\"m\":1,\"m\":1}]}]}",
		 "bad(double) | end"),
	PAGE("equal keys of two objects", "{\"data\":[{\"id\":\"a\",\"n\":[{\"m\":1},{\"m\":1}]}]}",
		 "{\"id\":\"a\",\"n\":[{\"m\":1},{\"m\":1}]} | end"),
	PAGE("colons in strings", "{\"data\":[{\"id\":\"a:b\",\"n:\":\"::\"}]}",
		 "{\"id\":\"a:b\",\"n:\":\"::\"} | end"),

	/* a bad page */
	PAGE("empty", "", "| failed(cut) 0"),
	PAGE("blank", " \n ", "| failed(cut) 3"),
	PAGE("web page", "\n<!DOCTYPE html><p>down", "| failed(html) 1"),
	PAGE("plain text", "Bad Gateway", "| failed(syntax) 0"),
	PAGE("an array", "[{\"id\":\"a\"}]", "| failed(shape) 0"),
	PAGE("no array", "{\"message\":\"x\"}", "| failed(shape) 15"),
	PAGE("an empty object", "{}", "| failed(shape) 2"),
	PAGE("array is null", "{\"data\":null}", "| failed(shape) 8"),
	PAGE("array is an object", "{\"data\":{\"id\":\"a\"}}", "| failed(shape) 8"),
	PAGE("two arrays", "{\"data\":[],\"data\":[]}", "| failed(shape) 17"),
	PAGE("two members", "{\"n\":1,\"n\":2,\"data\":[]}", "| failed(shape) 10"),
	PAGE("two null members", "{\"n\":null,\"n\":null,\"data\":[]}", "| failed(shape) 13"),
	PAGE("cut in a record", "{\"data\":[{\"id\":\"a\"},{\"id\":", "{\"id\":\"a\"} | failed(cut) 26"),
	PAGE("cut behind a record", "{\"data\":[{\"id\":\"a\"}", "{\"id\":\"a\"} | failed(cut) 19"),
	PAGE("cut behind a comma", "{\"data\":[{\"id\":\"a\"},", "{\"id\":\"a\"} | failed(cut) 20"),
	PAGE("cut behind the array", "{\"data\":[]", "| failed(cut) 10"),
	PAGE("cut in a key", "{\"data\":[],\"li", "| failed(cut) 14"),
	PAGE("cut number", "{\"data\":[12", "| failed(cut) 11"),
	PAGE("no comma", "{\"data\":[{\"id\":\"a\"}{\"id\":\"b\"}]}",
		 "{\"id\":\"a\"} | failed(syntax) 19"),
	PAGE("comma at the end", "{\"data\":[{\"id\":\"a\"},]}", "{\"id\":\"a\"} | failed(syntax) 20"),
	PAGE("comma at the beginning", "{\"data\":[,{\"id\":\"a\"}]}", "| failed(syntax) 9"),
	PAGE("comma before a brace", "{\"data\":[],}", "| failed(syntax) 11"),
	PAGE("no colon", "{\"data\" []}", "| failed(syntax) 8"),
	PAGE("key without quotes", "{data:[]}", "| failed(syntax) 1"),
	PAGE("text behind", "{\"data\":[]}x", "| failed(syntax) 11"),
	PAGE("two objects", "{\"data\":[]}{\"data\":[]}", "| failed(syntax) 11"),
	PAGE("brackets crossed", "{\"data\":[{\"id\":[}]}]}", "| failed(syntax) 18"),
	PAGE("bad literal", "{\"data\":[{\"id\":tru}]}", "| failed(syntax) 19"),
	PAGE("NaN", "{\"data\":[NaN]}", "| failed(syntax) 12"),
	PAGE("Infinity", "{\"data\":[{\"id\":[-Infinity]}]}", "| failed(syntax) 27"),
	PAGE("numbers", "{\"data\":[0,-0,10,0.05,-0.5e-05,1E+05,[1.0]]}",
		 "0 0 10 0.05 -0.5e-05 1E+05 [1.0] | end"),
	PAGE("a point at the end", "{\"data\":[{\"id\":1.}]}", "| failed(syntax) 18"),
	PAGE("a point before an e", "{\"data\":[[15.e3]]}", "| failed(syntax) 16"),
	PAGE("a lone number with a point at the end", "{\"data\":[1.]}", "| failed(syntax) 11"),
	PAGE("a zero in front", "{\"data\":[{\"id\":01.5}]}", "| failed(syntax) 20"),
	PAGE("a zero in front, negative", "{\"data\":[-01]}", "| failed(syntax) 12"),
	PAGE("single quotes", "{\"data\":[{'id':'a'}]}", "| failed(syntax) 19"),
	PAGE("comment", "{\"data\":[{/* */\"id\":\"a\"}]}", "| failed(syntax) 24"),
	PAGE("comma in a record", "{\"data\":[{\"id\":\"a\",}]}", "| failed(syntax) 20"),
	PAGE("bad escape", "{\"data\":[{\"id\":\"\\x\"}]}", "| failed(syntax) 20"),
	PAGE("bad hex", "{\"data\":[{\"id\":\"\\u12G4\"}]}", "| failed(syntax) 24"),
	PAGE("bad bytes between", "{\"data\":[]\xFF}", "| failed(syntax) 10"),
	PAGE("bad bytes beside", "{\"n\":\"\xFF\",\"data\":[]}", "| failed(syntax) 8"),
	PAGE("zero byte between", "{\"data\":[]\0}", "| failed(syntax) 10"),
	PAGE("deep", "{\"data\":[[" DEEP32 UNDEEP32 "]]}", "| failed(deep) 75"),
	PAGE("not too deep", "{\"data\":[[[[[[[[]]]]]]]]}", "[[[[[[[]]]]]]] | end"),

	/* an object of its own */
	OBJECT("a refusal", "{\"error\":\"invalid_client\",\"data\":[1]}",
		   "| end error=\"invalid_client\" data=[1]"),
	OBJECT("an empty refusal", "{}", "| end")
};

static const char *const beside_names[] = {
	"links", "n", "a", "b", "c", "d", "e", "x", "error", "data"
};

static void
put_beside(Buffer *out, const SisJson *json, const char *input)
{
	for (int i = 0; i < lengthof(beside_names); i++)
	{
		const SisJsonNode *node = sis_json_beside(json, beside_names[i]);
		char		key[32];

		snprintf(key, sizeof(key), "\"%s\":null", beside_names[i]);
		if (node == NULL && strstr(input, key) == NULL)
			continue;
		put_format(out, " %s=", beside_names[i]);
		put_string(out, sis_json_text(node));
	}
}

/* Touches every value of a node; returns how many there are. */
static int
walk(const SisJsonNode *node)
{
	static const char *const keys[] = {"id", "n", "m", "name", "roles"};
	int			n = 1 + (sis_json_value(node).len > 1000000);
	int			length = sis_json_length(node);

	for (int i = 0; i < length; i++)
		n += walk(sis_json_item(node, i));
	for (int i = 0; i < lengthof(keys); i++)
	{
		if (sis_json_member(node, keys[i]) != NULL)
			n += walk(sis_json_member(node, keys[i]));
	}
	return n;
}

/*
 * Reads a page in pieces of so many bytes (0: random), each in memory of its
 * own that is gone when the reader says it has taken it.
 */
static void
run_page(Buffer *out, SisJson *json, const char *array, const char *input,
		 int len, int piece)
{
	int			pos = 0;
	char	   *copy = NULL;
	bool		finished = false;

	out->len = 0;
	put_string(out, "");
	sis_json_begin(json, array);
	for (;;)
	{
		SisJsonResult result = sis_json_next(json);

		if (result == SIS_JSON_RECORD)
		{
			const SisJsonNode *record = sis_json_record(json);
			SisValue	id = sis_json_id(json, sis_json_member(record, "id"));

			walk(record);
			if (sis_json_problem(json) == SIS_JSON_OK)
				put_string(out, sis_json_text(record));
			else
			{
				put_format(out, "bad(%s)", problems[sis_json_problem(json)]);
				if (id.data != NULL)
				{
					put_string(out, " id=");
					put(out, id.data, id.len);
				}
			}
			put_string(out, " ");
			continue;
		}
		free(copy);
		copy = NULL;
		if (result == SIS_JSON_MORE && pos < len)
		{
			int			n = piece == 0 ? 1 + random_below(20) : piece;

			n = Min(n, len - pos);
			copy = malloc(n);
			memcpy(copy, input + pos, n);
			sis_json_feed(json, copy, n);
			pos += n;
			continue;
		}
		if (result == SIS_JSON_MORE)
		{
			if (finished)
			{
				put_string(out, "hangs");
				return;
			}
			sis_json_finish(json);
			finished = true;
			continue;
		}
		if (result == SIS_JSON_END)
		{
			/* a page may look complete before its last byte */
			put_string(out, "| end");
			put_beside(out, json, input);
		}
		else
		{
			put_format(out, "| failed(%s) ", problems[sis_json_problem(json)]);
			put_format(out, INT64_FORMAT, sis_json_offset(json));
		}
		return;
	}
}

/* Does a first look see the end, and as many records, as reading it does? */
static bool
skims_as_it_reads(SisJson *json, const char *array, const char *input, int len)
{
	SisJsonResult read;
	SisJsonResult skimmed;
	int64		nrecords;

	sis_json_begin(json, array);
	sis_json_feed(json, input, len);
	sis_json_finish(json);
	while ((read = sis_json_next(json)) == SIS_JSON_RECORD)
		;
	nrecords = sis_json_count(json);
	sis_json_begin(json, array);
	sis_json_skim(json);
	sis_json_feed(json, input, len);
	sis_json_finish(json);
	skimmed = sis_json_next(json);

	/* it may pass over what is no JSON within a record */
	if (read == SIS_JSON_FAILED)
		return skimmed == SIS_JSON_END || skimmed == SIS_JSON_FAILED;
	return skimmed == SIS_JSON_END && sis_json_count(json) == nrecords;
}

static void
run_cases(void)
{
	SisJson    *json = sis_json_create();
	Buffer		out = {0};

	for (int i = 0; i < lengthof(cases); i++)
	{
		const Case *c = &cases[i];
		static const int pieces[] = {1000000, 1, 2, 3, 7, 0};

		for (int p = 0; p < lengthof(pieces); p++)
		{
			run_page(&out, json, c->array, c->input, c->len, pieces[p]);
			check(strcmp(out.data, c->expected) == 0,
				  "%s, by %d: expected <%s>, got <%s>", c->name, pieces[p],
				  c->expected, out.data);
		}
		check(skims_as_it_reads(json, c->array, c->input, c->len),
			  "%s: a first look", c->name);
	}
	free(out.data);
	shim_reset();
}

/* A page with a record of so many bytes, or so many records. */
static void
run_limits(void)
{
	SisJson    *json = sis_json_create();
	Buffer		page = {0};
	Buffer		out = {0};
	int			nrecords = 0;

	for (int over = 0; over < 2; over++)
	{
		char	   *filling = malloc(SIS_JSON_MAX_VALUE);

		memset(filling, 'x', SIS_JSON_MAX_VALUE);
		page.len = 0;
		put_string(&page, "{\"data\":[{\"id\":\"");
		put(&page, filling, SIS_JSON_MAX_VALUE - 9 + over);
		put_string(&page, "\"}]}");
		run_page(&out, json, "data", page.data, page.len, 65536);
		check(strstr(out.data, over ? "| failed(long)" : "| end") != NULL,
			  "a record of the largest size and %d bytes", over);
		free(filling);
	}

	page.len = 0;
	put_string(&page, "{\"data\":[");
	for (int i = 0; i <= SIS_JSON_MAX_RECORDS; i++)
		put_string(&page, i == 0 ? "1" : ",1");
	put_string(&page, "]}");
	sis_json_begin(json, "data");
	sis_json_feed(json, page.data, page.len);
	while (sis_json_next(json) == SIS_JSON_RECORD)
		nrecords++;
	check(nrecords == SIS_JSON_MAX_RECORDS &&
		  sis_json_problem(json) == SIS_JSON_TOO_MANY, "too many records");

	page.len = 0;
	put_string(&page, "{\"data\":[]");
	for (int i = 0; i <= SIS_JSON_MAX_BESIDE; i++)
		put_format(&page, ",\"k%d\":%d", i, i);
	put_string(&page, "}");
	run_page(&out, json, "data", page.data, page.len, 0);
	check(strstr(out.data, "failed(many)") != NULL, "too many members");
	free(page.data);
	free(out.data);
	shim_reset();
}

/* Changes a few bytes, and cuts or doubles a part. */
static int
mangle(char *text, int len, int size)
{
	static const char signs[] = "{}[]\",:\\u0dD8c\0 \n\xFF\xC3\xED" "1tn";

	for (int i = random_below(6); i > 0 && len > 0; i--)
	{
		int			at = random_below(len);
		int			n = 1 + random_below(8);

		switch (random_below(4))
		{
			case 0:
				text[at] = (char) random_below(256);
				break;
			case 1:
				text[at] = signs[random_below(sizeof(signs) - 1)];
				break;
			case 2:
				n = Min(n, len - at);
				memmove(text + at, text + at + n, len - at - n);
				len -= n;
				break;
			case 3:
				n = Min(n, Min(len - at, size - len));
				memmove(text + at + n, text + at, len - at);
				len += n;
				break;
		}
	}
	return len;
}

static void
run_mangled(int iterations)
{
	SisJson    *json = sis_json_create();
	Buffer		whole = {0};
	Buffer		parts = {0};
	char		text[1000];

	for (int i = 0; i < iterations; i++)
	{
		const Case *c = &cases[random_below(lengthof(cases))];
		int			len = Min(c->len, (int) sizeof(text) / 2);

		memcpy(text, c->input, len);
		len = mangle(text, len, sizeof(text) - 1);
		text[len] = '\0';
		run_page(&whole, json, c->array, text, len, 1000000);
		run_page(&parts, json, c->array, text, len, 0);
		check(strcmp(whole.data, parts.data) == 0,
			  "mangled page %d: <%s> and in pieces <%s>", i, whole.data,
			  parts.data);
		check(pg_encoding_verifymbstr(PG_UTF8, whole.data, whole.len) ==
			  (int) whole.len, "mangled page %d: not UTF-8: <%s>", i,
			  whole.data);

		check(skims_as_it_reads(json, c->array, text, len),
			  "mangled page %d: a first look: <%s>", i, whole.data);

		/* left in the middle of a page, with a new reader after it */
		if (random_below(50) == 0)
		{
			sis_json_begin(json, c->array);
			sis_json_feed(json, text, len);
			(void) sis_json_next(json);
			shim_reset();
			json = sis_json_create();
		}
	}
	printf("%d mangled pages\n", iterations);
	free(whole.data);
	free(parts.data);
	shim_reset();
}

static int
bench(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	Buffer		page = {0};
	static char block[65536];
	size_t		n;
	double		best = 0;
	int64		records = 0;

	if (file == NULL)
	{
		perror(path);
		return 2;
	}
	while ((n = fread(block, 1, sizeof(block), file)) > 0)
		put(&page, block, n);
	fclose(file);
	for (int i = 0; i < 5; i++)
	{
		SisJson    *json = sis_json_create();
		double		start = seconds();

		sis_json_begin(json, "data");
		for (size_t at = 0; at < page.len; at += sizeof(block))
		{
			sis_json_feed(json, page.data + at,
						  Min(sizeof(block), page.len - at));
			while (sis_json_next(json) == SIS_JSON_RECORD)
				;
		}
		sis_json_finish(json);
		if (sis_json_next(json) != SIS_JSON_END)
			printf("failed: %s\n", problems[sis_json_problem(json)]);
		records = sis_json_count(json);
		start = seconds() - start;
		best = i == 0 ? start : Min(best, start);
		shim_reset();
	}
	printf("%.1f MB, " INT64_FORMAT " records, %.3f s, %.0f MB/s\n",
		   page.len / 1e6, records, best, page.len / 1e6 / best);
	free(page.data);
	return 0;
}

int
main(int argc, char **argv)
{
	int			iterations;

	if (argc == 3 && strcmp(argv[1], "--bench") == 0)
		return bench(argv[2]);
	iterations = (int) begin_checks(argc, argv, 20000);
	run_cases();
	run_limits();
	run_mangled(iterations);
	return finish_checks();
}
