/*
 * json_fuzz.c
 *		src/format/json.c and jsonscan.c against two whole parses of a page: by
 *		PostgreSQL's JSON parser, and by json-c.
 *
 * A page is read whole and in small pieces, which must come to the same.
 * What PostgreSQL takes for JSON is no syntax error here; what is read as
 * sound is what json-c makes of the page as one document, to the last digit
 * of each number.
 */
#include "postgres.h"

#include <json-c/json.h>

#include "format/json.h"
#include "fuzz.h"
#include "harness.h"

typedef struct Outcome
{
	Buffer		records;		/* their texts, as the items of an array */
	Buffer		all;			/* and what is wrong with them */
	bool		sound;			/* nothing is */
	SisJsonResult result;
	SisJsonProblem problem;
} Outcome;

/* Touches every value of a node. */
static void
walk(const SisJsonNode *node, bool sound)
{
	static const char *const keys[] = {"id", "n", "data", "sourcedId"};
	SisValue	value = sis_json_value(node);

	if (value.data != NULL && sound)
		FUZZ_CHECK(fuzz_is_text(value.data, value.len), "a value is no text");
	for (int i = 0; i < sis_json_length(node); i++)
		walk(sis_json_item(node, i), sound);
	for (int i = 0; i < lengthof(keys); i++)
	{
		const SisJsonNode *member = sis_json_member(node, keys[i]);

		if (member != NULL)
			walk(member, sound);
	}
}

static void
take_record(Outcome *out, const SisJson *json)
{
	const SisJsonNode *record = sis_json_record(json);
	SisJsonProblem problem = sis_json_problem(json);
	const char *text = sis_json_text(record);
	SisValue	id = sis_json_id(json, sis_json_member(record, "id"));

	put_format(&out->all, "%d ", problem);
	out->sound &= problem == SIS_JSON_OK;
	if (id.data != NULL)
	{
		FUZZ_CHECK(fuzz_is_text(id.data, id.len), "an ID is no text");
		put(&out->all, id.data, id.len);
	}
	walk(record, problem == SIS_JSON_OK);
	if (problem != SIS_JSON_OK)
		return;
	if (out->records.len > 1)
		put_string(&out->records, ",");
	put_string(&out->records, text);
	put_string(&out->all, text);
}

static void
read_page(Outcome *out, SisJson *json, const char *array, const char *data,
		  int len, int piece)
{
	int			fed = 0;

	out->records.len = out->all.len = 0;
	put_string(&out->records, "[");
	out->sound = true;
	sis_json_begin(json, array);
	while ((out->result = sis_json_next(json)) == SIS_JSON_RECORD ||
		   out->result == SIS_JSON_MORE)
	{
		int			n = Min(piece, len - fed);
		char	   *copy;

		if (out->result == SIS_JSON_RECORD)
		{
			take_record(out, json);
			continue;
		}
		if (n == 0)
		{
			sis_json_finish(json);
			continue;
		}
		copy = palloc(n);		/* of its own size: reading past it is seen */
		memcpy(copy, data + fed, n);
		sis_json_feed(json, copy, n);
		fed += n;
	}
	out->problem = sis_json_problem(json);
	put_string(&out->records, "]");
	put_format(&out->all, " %d %d " INT64_FORMAT, out->result, out->problem,
			   sis_json_count(json));
	put_string(&out->all, sis_json_text(sis_json_beside(json, "links")));
	FUZZ_CHECK(sis_json_next(json) == out->result, "the end does not last");
}

/* ----------
 * The whole page
 * ----------
 */

static void
compare_with_postgres(const Outcome *out, const char *data, int len)
{
	FuzzJson	json;
	int			blanks = 0;

	/* bad bytes, and what is no object, are another matter */
	while (blanks < len && strchr(" \t\r\n", data[blanks]) != NULL)
		blanks++;
	if (!fuzz_is_text(data, len) || blanks == len || data[blanks] != '{' ||
		!fuzz_parse_json(data, len, &json))
		return;
	/* json-c refuses whole numbers beyond 64 bits, we what is no double */
	FUZZ_CHECK(out->problem != SIS_JSON_SYNTAX || json.large || !out->sound ||
			   json.depth >= SIS_JSON_MAX_DEPTH, "it is JSON");
	FUZZ_CHECK(out->problem != SIS_JSON_CUT && out->problem != SIS_JSON_HTML,
			   "it is whole");
	FUZZ_CHECK(out->problem != SIS_JSON_TOO_DEEP || json.depth >= SIS_JSON_MAX_DEPTH,
			   "it is not deep");
}

/* A page that was read whole is JSON; only control characters are let pass. */
static void
check_sound(const char *data, int len)
{
	char	   *copy = pnstrdup(data, len);
	FuzzJson	json;

	for (int i = 0; i < len; i++)
	{
		if ((unsigned char) copy[i] < ' ')
			copy[i] = ' ';
	}
	FUZZ_CHECK(fuzz_parse_json(copy, len, &json), "it is no JSON");
}

/* The array, of the page as one document. */
static void
compare_whole(const Outcome *out, const char *data, int len)
{
	struct json_tokener *tokener = json_tokener_new_ex(SIS_JSON_MAX_DEPTH + 2);
	struct json_object *page;
	struct json_object *array = NULL;

	if (len >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0)
		data += 3, len -= 3;
	check_sound(data, len);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	page = json_tokener_parse_ex(tokener, data, len);
	FUZZ_CHECK(json_tokener_get_error(tokener) == json_tokener_success,
			   "json-c says: %s", json_tokener_error_desc(json_tokener_get_error(tokener)));
	FUZZ_CHECK(json_object_object_get_ex(page, "data", &array) &&
			   json_object_is_type(array, json_type_array), "there is no array");
	FUZZ_CHECK(strcmp(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PLAIN |
													 JSON_C_TO_STRING_NOSLASHESCAPE),
					  out->records.data) == 0, "expected\n%s\ngot\n%s",
			   json_object_to_json_string_ext(array, JSON_C_TO_STRING_PLAIN |
											  JSON_C_TO_STRING_NOSLASHESCAPE),
			   out->records.data);
	json_object_put(page);
	json_tokener_free(tokener);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static Outcome whole;
	static Outcome pieces;
	const char *text = (const char *) data;
	int			len = (int) size;
	int			piece = 1 + (int) (fuzz_hash(data, size) % 13);
	SisJson    *json = sis_json_create();
	FuzzJson	found;

	for (int i = 0; i < 2; i++)
	{
		const char *array = i == 0 ? "data" : NULL;

		read_page(&whole, json, array, text, len, Max(len, 1));
		if (array != NULL)
			compare_with_postgres(&whole, text, len);
		if (array != NULL && whole.result == SIS_JSON_END && whole.sound)
		{
			compare_whole(&whole, text, len);
			FUZZ_CHECK(fuzz_parse_json(whole.records.data, whole.records.len, &found),
					   "no json: %s", whole.records.data);
		}
		read_page(&pieces, json, array, text, len, piece);
		FUZZ_CHECK(whole.all.len == pieces.all.len &&
				   memcmp(whole.all.data, pieces.all.data, whole.all.len) == 0,
				   "pieces of %d: expected\n%s\ngot\n%s", piece, whole.all.data,
				   pieces.all.data);
		shim_reset();
		json = sis_json_create();
	}
	shim_reset();
	return 0;
}
