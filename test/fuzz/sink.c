/*
 * sink.c
 *		A sink that takes what a provider makes of hostile input, and checks
 *		that each record keeps what providers promise.
 *
 * What goes on from here is cast by PostgreSQL: a value is text (UTF-8, no
 * zero byte), a list an array literal, "extra" a JSON object that jsonb takes.
 */
#include "postgres.h"

#include "fuzz.h"
#include "base/progress.h"
#include "sink.h"

static SisFailure failure;
static SisWants wants;
static SisSink sink;
static int	count;

/* An array literal as array_in() reads it, each item in double quotes. */
static bool
is_list(SisValue value)
{
	int			at = 0;
	int			items = 0;

	if (value.len < 2 || value.data[at++] != '{')
		return false;
	for (;;)
	{
		if (at >= value.len || value.data[at++] != '"')
			return false;
		for (; at < value.len && value.data[at] != '"'; at++)
		{
			if (value.data[at] == '\\')
				at++;
		}
		if (++at >= value.len || ++items > SIS_MAX_ITEMS)
			return false;
		if (value.data[at++] == '}')
			return at == value.len;
		if (value.data[at - 1] != ',')
			return false;
	}
}

static void
check_text(SisValue value, const char *what)
{
	if (value.data != NULL)
		FUZZ_CHECK(value.len > 0 && fuzz_is_text(value.data, value.len),
				   "%s is no text", what);
}

static void
take_record(SisSink *self, SisRecord *record)
{
	const SisRecordDesc *desc = sis_record_desc(record->type);

	count++;
	FUZZ_CHECK(record->line >= 1 && record->source != NULL, "its place");
	check_text(record->last_modified, "dateLastModified");
	for (int i = 0; i < desc->ncolumns; i++)
	{
		SisValue	value = record->values[i];
		const char *name = desc->columns[i].name;

		if (value.data == NULL)
			continue;
		check_text(value, name);
		if (desc->columns[i].kind == SIS_KIND_LIST)
			FUZZ_CHECK(is_list(value), "%s: %.*s", name, value.len, value.data);
		else if (desc->columns[i].kind == SIS_KIND_JSONB)
			FUZZ_CHECK(value.data[0] == '{' &&
					   fuzz_is_jsonb(value.data, value.len), "%s: %.*s", name,
					   value.len, value.data);
		else
			FUZZ_CHECK(sis_trim(value.data, value.len).len == value.len,
					   "%s is not trimmed", name);
	}
}

static void
take_reject(SisSink *self, const SisReject *row)
{
	count++;
	FUZZ_CHECK(row->types != 0 && row->reason != NULL && row->source != NULL,
			   "a reject without a type or a reason");
	check_text(row->source_id, "the ID of a reject");
	FUZZ_CHECK(row->row == NULL || fuzz_is_jsonb(row->row, strlen(row->row)),
			   "the row of a reject: %s", row->row);
}

static void
take_row(SisSink *self, int types)
{
	FUZZ_CHECK(types >= 0 && types < SIS_TYPE_BIT(SIS_N_RECORD_TYPES), "types");
}

SisSink *
fuzz_sink(char **extra_columns, int nextra_columns)
{
	count = 0;
	memset(&failure, 0, sizeof(failure));
	memset(&sink, 0, sizeof(sink));
	wants.include_demographics = true;
	wants.nextra_columns = nextra_columns;
	wants.extra_columns = extra_columns;
	sink.put = take_record;
	sink.reject = take_reject;
	sink.row_read = take_row;
	sink.failure = &failure;
	sink.wants = &wants;
	for (int i = 0; i < SIS_N_RECORD_TYPES; i++)
		sink.needs_parts[i] = SIS_PART_BASE;
	initStringInfo(&sink.note);
	return &sink;
}

int
fuzz_sink_count(void)
{
	return count;
}

/* Nobody watches. */
void
sis_progress_bytes(int64 n)
{
}

void
sis_progress_expect_bytes(int64 n)
{
}

void
sis_progress_type(SisRecordType type)
{
}
