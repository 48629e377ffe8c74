/*
 * json.c
 *		One page of JSON, as bytes that come in pieces, to one record at a time.
 *
 * How it works.  The page's own structure is followed here: the object, its
 * keys, the array.  Of a value (a record, or a member beside the array) the
 * scanner (jsonscan.c) finds the end; its bytes then go to json-c as they lie,
 * by a tokener that is used again and again.  This is three times as fast as
 * one document of the page, and the bytes of a record are at hand, to be
 * verified before json-c sees them.
 *
 * json-c's memory is malloc's: all of it hangs on the reader, which a callback
 * of its memory context frees.
 *
 * This file must not include utils/builtins.h, whose json_object() is another.
 */
#include "postgres.h"

#include <math.h>

#include <json-c/json.h>

#include "utils/memutils.h"

#include "format/json.h"
#include "format/jsonscan.h"

typedef enum State
{
	STATE_START,				/* before all, where a mark may stand */
	STATE_OBJECT,				/* before the object */
	STATE_FIRST_KEY,			/* a key or the object's end */
	STATE_KEY,					/* a key */
	STATE_COLON,
	STATE_MEMBER,				/* the value of a key */
	STATE_COMMA,				/* "," or the object's end */
	STATE_FIRST_RECORD,			/* a record or the array's end */
	STATE_RECORD,				/* a record */
	STATE_RECORD_COMMA,			/* "," or the array's end */
	STATE_DONE					/* behind the object */
} State;

typedef struct Beside
{
	struct json_object *key;
	struct json_object *value;
} Beside;

struct SisJson
{
	struct json_tokener *tokener;
	bool		is_spoilt;		/* the tokener has to be made anew */
	struct json_object *record;	/* the current one, or NULL */
	Beside		beside[SIS_JSON_MAX_BESIDE];
	int			nbeside;
	MemoryContextCallback callback;

	const char *array;			/* member with the records, or NULL */
	bool		skim;			/* records are passed over */
	bool		seen_array;
	bool		in_array;		/* the value under way is the array's */
	bool		is_key;			/* the string under way is a key */
	State		state;
	SisJsonResult last;			/* END or FAILED, once it was returned */
	SisJsonProblem problem;
	int64		count;

	const char *data;			/* not taken yet */
	int			len;
	bool		finished;
	int64		offset;			/* of data[0] in the page */

	SisJsonScan scan;
	StringInfoData carry;		/* a value that began in earlier bytes */
	StringInfoData clean;		/* a copy for json-c */
};

/* ----------
 * Life
 * ----------
 */

static void
forget_record(SisJson *json)
{
	if (json->record != NULL)
		json_object_put(json->record);
	json->record = NULL;
}

static void
forget_beside(SisJson *json)
{
	for (int i = 0; i < json->nbeside; i++)
	{
		json_object_put(json->beside[i].key);
		json_object_put(json->beside[i].value);
	}
	json->nbeside = 0;
}

static void
free_json(void *arg)
{
	SisJson    *json = arg;

	forget_record(json);
	forget_beside(json);
	if (json->tokener != NULL)
		json_tokener_free(json->tokener);
	json->tokener = NULL;
}

SisJson *
sis_json_create(void)
{
	SisJson    *json = palloc0(sizeof(SisJson));

	json->callback.func = free_json;
	json->callback.arg = json;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &json->callback);
	json->is_spoilt = true;
	initStringInfo(&json->carry);
	initStringInfo(&json->clean);
	json->last = SIS_JSON_END;
	return json;
}

void
sis_json_begin(SisJson *json, const char *array)
{
	forget_record(json);
	forget_beside(json);
	json->array = array;
	json->skim = false;
	json->seen_array = false;
	json->in_array = false;
	json->is_key = false;
	json->state = STATE_START;
	json->last = SIS_JSON_MORE;
	json->problem = SIS_JSON_OK;
	json->count = 0;
	json->data = "";
	json->len = 0;
	json->finished = false;
	json->offset = 0;
	memset(&json->scan, 0, sizeof(json->scan));
	resetStringInfo(&json->carry);
}

void
sis_json_skim(SisJson *json)
{
	json->skim = true;
}

void
sis_json_feed(SisJson *json, const char *data, int len)
{
	Assert(json->len == 0 || json->last != SIS_JSON_MORE);
	json->data = data;
	json->len = len;
}

void
sis_json_finish(SisJson *json)
{
	json->finished = true;
}

/* ----------
 * Taking bytes
 * ----------
 */

static void
take(SisJson *json, int n)
{
	json->data += n;
	json->len -= n;
	json->offset += n;
}

static void
skip_blanks(SisJson *json)
{
	int			n = 0;

	while (n < json->len && sis_json_is_blank(json->data[n]))
		n++;
	take(json, n);
}

static bool
fail(SisJson *json, SisJsonProblem problem)
{
	json->problem = problem;
	return false;
}

/*
 * Collects the value under way.  True when it is complete: *value is where it
 * lies, in the bytes at hand or in carry.
 */
static bool
collect(SisJson *json, SisValue *value)
{
	bool		done;
	int			n = sis_json_scan(&json->scan, json->data, json->len, &done);

	if (json->carry.len + n > SIS_JSON_MAX_VALUE)
		return fail(json, SIS_JSON_TOO_LONG);
	if (!done || json->carry.len > 0)
	{
		appendBinaryStringInfo(&json->carry, json->data, n);
		value->data = json->carry.data;
		value->len = json->carry.len;
	}
	else
	{
		value->data = json->data;
		value->len = n;
	}
	take(json, n);
	return done;
}

/* ----------
 * Parsing a value
 * ----------
 */

/*
 * Counts the keys of an object, and of all objects in it.  False when there is
 * a number that is none: json-c takes NaN and Infinity.
 */
static bool
inspect(struct json_object *node, int *nkeys)
{
	if (json_object_is_type(node, json_type_object))
	{
		struct json_object_iterator i = json_object_iter_begin(node);
		struct json_object_iterator end = json_object_iter_end(node);

		*nkeys += json_object_object_length(node);
		for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i))
		{
			if (!inspect(json_object_iter_peek_value(&i), nkeys))
				return false;
		}
	}
	else if (json_object_is_type(node, json_type_array))
	{
		int			length = (int) json_object_array_length(node);

		for (int i = 0; i < length; i++)
		{
			if (!inspect(json_object_array_get_idx(node, i), nkeys))
				return false;
		}
	}
	else if (json_object_is_type(node, json_type_double))
		return isfinite(json_object_get_double(node));
	return true;
}

/*
 * Makes the tokener ready.  Its own reset forgets no half of a surrogate pair,
 * which would then show up in the next record (json-c 0.16).
 */
static void
reset_tokener(SisJson *json)
{
	if (json->is_spoilt)
	{
		if (json->tokener != NULL)
			json_tokener_free(json->tokener);
		json->tokener = json_tokener_new_ex(SIS_JSON_MAX_DEPTH);
		if (json->tokener == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
		json->is_spoilt = false;
	}
	json_tokener_set_flags(json->tokener, JSON_TOKENER_STRICT);
	json_tokener_reset(json->tokener);
}

/*
 * Strict, json-c takes no control character in a string since 0.18, which
 * sources send and records are judged by, and 0.18 itself takes no byte of
 * UTF-8.  So the grammar is judged with other bytes in their place, and then
 * the value is read without being strict.  False when it is no JSON.
 */
static bool
is_strict(SisJson *json, SisValue value)
{
	int			i = 0;
	char	   *copy;
	struct json_object *node;

	while (i < value.len && value.data[i] >= ' ' &&
		   !IS_HIGHBIT_SET(value.data[i]))
		i++;
	if (i == value.len || json_c_version_num() < (18 << 8))
		return true;
	copy = palloc(value.len);
	for (i = 0; i < value.len; i++)
	{
		unsigned char c = value.data[i];

		copy[i] = c == '\t' || c == '\n' || c == '\r' ? ' ' :
			c < ' ' || IS_HIGHBIT_SET(c) ? 'x' : c;
	}
	node = json_tokener_parse_ex(json->tokener, copy, value.len);
	pfree(copy);
	if (node != NULL)
		json_object_put(node);
	if (json_tokener_get_error(json->tokener) != json_tokener_success)
		return false;
	json_tokener_set_flags(json->tokener, 0);
	json_tokener_reset(json->tokener);
	return true;
}

/*
 * Parses a value into *node (NULL: the JSON null), which the caller owns.
 * False when it is no JSON.
 */
static bool
parse(SisJson *json, SisValue value, struct json_object **node)
{
	enum json_tokener_error error;

	*node = NULL;
	if (json->scan.bad_number)
		return fail(json, SIS_JSON_SYNTAX);
	reset_tokener(json);
	if (json->scan.is_scalar)
	{
		/* a number ends where json-c sees another byte: a zero will do */
		char	   *copy = pnstrdup(value.data, value.len);

		*node = json_tokener_parse_ex(json->tokener, copy, value.len + 1);
		pfree(copy);
	}
	else if (is_strict(json, value))
		*node = json_tokener_parse_ex(json->tokener, value.data, value.len);
	else
		*node = NULL;
	error = json_tokener_get_error(json->tokener);
	if (error == json_tokener_success &&
		(int) json_tokener_get_parse_end(json->tokener) >= value.len)
		return true;
	if (*node != NULL)
		json_object_put(*node);
	*node = NULL;
	json->is_spoilt = true;
	return fail(json, error == json_tokener_error_depth ?
				SIS_JSON_TOO_DEEP : SIS_JSON_SYNTAX);
}

static void
end_value(SisJson *json)
{
	resetStringInfo(&json->carry);
	memset(&json->scan, 0, sizeof(json->scan));
}

static bool
take_record(SisJson *json, SisValue value)
{
	SisJsonProblem problem;
	int			ncolons = json->scan.ncolons;
	int			nkeys = 0;

	if (json->count == SIS_JSON_MAX_RECORDS)
		return fail(json, SIS_JSON_TOO_MANY);
	if (json->skim)
	{
		json->count++;
		end_value(json);
		return true;
	}
	problem = sis_json_check(&json->scan, &value, &json->clean);
	if (!parse(json, value, &json->record))
		return false;
	json->count++;
	json->is_spoilt = problem != SIS_JSON_OK;
	end_value(json);
	if (!inspect(json->record, &nkeys))
		return fail(json, SIS_JSON_SYNTAX);
	if (problem == SIS_JSON_OK && nkeys != ncolons)
		problem = SIS_JSON_DOUBLE_KEY;
	json->problem = problem;
	return true;
}

static Beside *
find_beside(const SisJson *json, const char *key)
{
	for (int i = 0; i < json->nbeside; i++)
	{
		const Beside *beside = &json->beside[i];

		if (strcmp(json_object_get_string(beside->key), key) == 0)
			return unconstify(Beside *, beside);
	}
	return NULL;
}

/* A key: its member is beside the array, or is the array. */
static bool
take_key(SisJson *json, SisValue value)
{
	struct json_object *key;

	if (sis_json_check(&json->scan, &value, &json->clean) != SIS_JSON_OK)
		return fail(json, SIS_JSON_SYNTAX);
	if (json->nbeside == SIS_JSON_MAX_BESIDE)
		return fail(json, SIS_JSON_TOO_MANY);
	if (!parse(json, value, &key))
		return false;
	end_value(json);
	json->in_array = json->array != NULL &&
		strcmp(json_object_get_string(key), json->array) == 0;
	if ((json->in_array && json->seen_array) ||
		find_beside(json, json_object_get_string(key)) != NULL)
	{
		json_object_put(key);
		return fail(json, SIS_JSON_SHAPE);
	}
	if (json->in_array)
		json_object_put(key);
	else
	{
		json->beside[json->nbeside].key = key;
		json->beside[json->nbeside++].value = NULL;
	}
	return true;
}

static bool
take_beside(SisJson *json, SisValue value)
{
	bool		good = sis_json_check(&json->scan, &value, &json->clean) == SIS_JSON_OK;

	if (!parse(json, value, &json->beside[json->nbeside - 1].value))
		return false;
	end_value(json);
	if (!good)
		return fail(json, SIS_JSON_SYNTAX);
	return true;
}

/* ----------
 * The page
 * ----------
 */

/* Skips a byte order mark, or what has come of it. */
static void
skip_mark(SisJson *json)
{
	static const char mark[] = "\xEF\xBB\xBF";

	while (json->offset < 3 && json->len > 0 &&
		   json->data[0] == mark[json->offset])
		take(json, 1);
	if (json->len > 0)
		json->state = STATE_OBJECT;
}

/* Takes one byte that is a sign of the page's own structure. */
static bool
take_sign(SisJson *json)
{
	char		c = json->data[0];

	switch (json->state)
	{
		case STATE_OBJECT:
			if (c == '<')
				return fail(json, SIS_JSON_HTML);
			if (c == '[')
				return fail(json, SIS_JSON_SHAPE);
			if (c != '{')
				return fail(json, SIS_JSON_SYNTAX);
			json->state = STATE_FIRST_KEY;
			break;
		case STATE_FIRST_KEY:
			if (c != '}')
				return fail(json, SIS_JSON_SYNTAX);
			json->state = STATE_DONE;
			break;
		case STATE_COLON:
			if (c != ':')
				return fail(json, SIS_JSON_SYNTAX);
			json->state = STATE_MEMBER;
			break;
		case STATE_MEMBER:		/* of the array */
			if (c != '[')
				return fail(json, SIS_JSON_SHAPE);
			json->seen_array = true;
			json->state = STATE_FIRST_RECORD;
			break;
		case STATE_COMMA:
			if (c != ',' && c != '}')
				return fail(json, SIS_JSON_SYNTAX);
			json->state = c == ',' ? STATE_KEY : STATE_DONE;
			break;
		case STATE_FIRST_RECORD:	/* its end */
			json->state = STATE_COMMA;
			break;
		case STATE_RECORD_COMMA:
			if (c != ',' && c != ']')
				return fail(json, SIS_JSON_SYNTAX);
			json->state = c == ',' ? STATE_RECORD : STATE_COMMA;
			break;
		default:
			return fail(json, SIS_JSON_SYNTAX);
	}
	take(json, 1);
	return true;
}

/* Does a value stand here, or go on here? */
static bool
at_value(const SisJson *json)
{
	switch (json->state)
	{
		case STATE_FIRST_KEY:
			return json->scan.begun || json->data[0] == '"';
		case STATE_KEY:
			return true;
		case STATE_MEMBER:
			return !json->in_array;
		case STATE_FIRST_RECORD:
			return json->scan.begun || json->data[0] != ']';
		case STATE_RECORD:
			return true;
		default:
			return false;
	}
}

/* Takes a complete value; true when it is a record. */
static bool
take_value(SisJson *json, SisValue value, bool *is_record)
{
	*is_record = false;
	if (json->state == STATE_FIRST_KEY || json->state == STATE_KEY)
	{
		if (value.data[0] != '"')
			return fail(json, SIS_JSON_SYNTAX);
		json->state = STATE_COLON;
		return take_key(json, value);
	}
	if (json->state == STATE_MEMBER)
	{
		json->state = STATE_COMMA;
		return take_beside(json, value);
	}
	json->state = STATE_RECORD_COMMA;
	*is_record = true;
	return take_record(json, value);
}

static SisJsonResult
next(SisJson *json)
{
	forget_record(json);
	json->problem = SIS_JSON_OK;
	if (json->state == STATE_START)
		skip_mark(json);
	for (;;)
	{
		SisValue	value;
		bool		is_record;

		if (!json->scan.begun)
			skip_blanks(json);
		if (json->len == 0)
			break;
		if (!at_value(json))
		{
			if (!take_sign(json))
				return SIS_JSON_FAILED;
			continue;
		}
		if (collect(json, &value))
		{
			/* nothing at all between two commas, say */
			if (value.len == 0)
				(void) fail(json, SIS_JSON_SYNTAX);
			else if (!take_value(json, value, &is_record))
				return SIS_JSON_FAILED;
			else if (is_record && !json->skim)
				return SIS_JSON_RECORD;
		}
		if (json->problem != SIS_JSON_OK)
			return SIS_JSON_FAILED;
	}
	if (!json->finished)
		return SIS_JSON_MORE;
	if (json->state != STATE_DONE)
		(void) fail(json, SIS_JSON_CUT);
	else if (json->array != NULL && !json->seen_array)
		(void) fail(json, SIS_JSON_SHAPE);
	else
		return SIS_JSON_END;
	return SIS_JSON_FAILED;
}

SisJsonResult
sis_json_next(SisJson *json)
{
	SisJsonResult result;

	if (json->last == SIS_JSON_END || json->last == SIS_JSON_FAILED)
		return json->last;
	result = next(json);
	if (result == SIS_JSON_END || result == SIS_JSON_FAILED)
		json->last = result;
	return result;
}

const SisJsonNode *
sis_json_record(const SisJson *json)
{
	return (const SisJsonNode *) json->record;
}

SisJsonProblem
sis_json_problem(const SisJson *json)
{
	return json->problem;
}

const char *
sis_json_problem_text(SisJsonProblem problem)
{
	switch (problem)
	{
		case SIS_JSON_OK:
			break;
		case SIS_JSON_BAD_BYTES:
			return "not valid UTF-8";
		case SIS_JSON_NUL:
			return "contains a zero byte";
		case SIS_JSON_DOUBLE_KEY:
			return "a key stands twice";
		case SIS_JSON_SYNTAX:
			return "not valid JSON";
		case SIS_JSON_HTML:
			return "a web page instead of JSON";
		case SIS_JSON_CUT:
			return "the JSON text ends too early";
		case SIS_JSON_SHAPE:
			return "JSON of another shape than expected";
		case SIS_JSON_TOO_DEEP:
			return "JSON is nested too deeply";
		case SIS_JSON_TOO_LONG:
			return "a JSON value is too long";
		case SIS_JSON_TOO_MANY:
			return "too many JSON values in one page";
	}
	return "";
}

SisValue
sis_json_id(const SisJson *json, const SisJsonNode *node)
{
	SisValue	value = sis_json_value(node);
	SisValue	none = {NULL, 0};

	/* it may be one of two */
	if (value.data == NULL || json->problem == SIS_JSON_DOUBLE_KEY)
		return none;
	if (json->problem != SIS_JSON_OK &&
		(memchr(value.data, '\0', value.len) != NULL ||
		 strstr(value.data, SIS_JSON_REPLACEMENT) != NULL))
		return none;
	return sis_trim(value.data, value.len);
}

int64
sis_json_count(const SisJson *json)
{
	return json->count;
}

int64
sis_json_offset(const SisJson *json)
{
	return json->offset;
}

const SisJsonNode *
sis_json_beside(const SisJson *json, const char *key)
{
	const Beside *beside = find_beside(json, key);

	return beside != NULL ? (const SisJsonNode *) beside->value : NULL;
}

/* ----------
 * Values
 * ----------
 */

/* json-c takes no const, and changes nothing that can be seen. */
static struct json_object *
object(const SisJsonNode *node)
{
	return unconstify(struct json_object *, (const struct json_object *) node);
}

SisJsonKind
sis_json_kind(const SisJsonNode *node)
{
	switch (json_object_get_type(object(node)))
	{
		case json_type_null:
			return SIS_JSON_NULL;
		case json_type_boolean:
			return SIS_JSON_BOOLEAN;
		case json_type_int:
		case json_type_double:
			return SIS_JSON_NUMBER;
		case json_type_string:
			return SIS_JSON_STRING;
		case json_type_array:
			return SIS_JSON_ARRAY;
		case json_type_object:
			return SIS_JSON_OBJECT;
	}
	return SIS_JSON_NULL;
}

const SisJsonNode *
sis_json_member(const SisJsonNode *node, const char *key)
{
	struct json_object *member = NULL;

	if (sis_json_kind(node) == SIS_JSON_OBJECT)
		(void) json_object_object_get_ex(object(node), key, &member);
	return (const SisJsonNode *) member;
}

int
sis_json_length(const SisJsonNode *node)
{
	return sis_json_kind(node) == SIS_JSON_ARRAY ?
		(int) json_object_array_length(object(node)) : 0;
}

const SisJsonNode *
sis_json_item(const SisJsonNode *node, int i)
{
	if (sis_json_kind(node) != SIS_JSON_ARRAY)
		return NULL;
	return (const SisJsonNode *) json_object_array_get_idx(object(node), i);
}

SisValue
sis_json_value(const SisJsonNode *node)
{
	SisValue	value = {NULL, 0};

	switch (sis_json_kind(node))
	{
		case SIS_JSON_STRING:
			value.data = json_object_get_string(object(node));
			value.len = json_object_get_string_len(object(node));
			break;
		case SIS_JSON_BOOLEAN:
			value.data = json_object_get_boolean(object(node)) ? "true" : "false";
			value.len = (int) strlen(value.data);
			break;
		case SIS_JSON_NUMBER:
			value.data = json_object_get_string(object(node));
			value.len = value.data != NULL ? (int) strlen(value.data) : 0;
			break;
		default:
			break;
	}
	return value;
}

const char *
sis_json_text(const SisJsonNode *node)
{
	const char *text = json_object_to_json_string_ext(object(node),
													  JSON_C_TO_STRING_PLAIN |
													  JSON_C_TO_STRING_NOSLASHESCAPE);

	return text != NULL ? text : "null";
}
