/*
 * csv_table.c
 *		The rows of one file of a CSV set, as records and rejects.
 *
 * A row follows the steps that its file's header has decided, and nothing is
 * allocated for it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/json.h"

#include "base/value.h"
#include "provider/csvset.h"

int
sis_csv_type_index(const SisCsvFile *file, SisRecordType type)
{
	for (int k = 0; k < file->ntypes; k++)
	{
		if (file->types[k] == type)
			return k;
	}
	return -1;
}

/* A field can be used when it is valid UTF-8 (a zero byte is not). */
static bool
is_readable(const SisCsvTable *table, int field)
{
	const SisCsvField *f = &table->fields[field];

	return table->sound || (table->aligned &&
							pg_verify_mbstr(PG_UTF8, f->data, f->len, true));
}

bool
sis_csv_readable(const SisCsvTable *table, int column, SisValue *value)
{
	int			field = table->field_of[column];

	if (!table->aligned || (field >= 0 && !is_readable(table, field)))
		return false;
	*value = sis_csv_value(table, column);
	return true;
}

static void
append_json_string(SisCsvTable *table, StringInfo buf, const char *data,
				   int len)
{
	/* escape_json() wants it terminated */
	resetStringInfo(&table->word);
	appendBinaryStringInfo(&table->word, data, len);
	escape_json(buf, table->word.data);
}

static void
append_json_pair(SisCsvTable *table, StringInfo buf, const char *key,
				 int keylen, const SisCsvField *field)
{
	appendStringInfoString(buf, buf->len == 0 ? "{" : ", ");
	append_json_string(table, buf, key, keylen);
	appendStringInfoString(buf, ": ");
	append_json_string(table, buf, field->data, field->len);
}

/* The columns of the row that go to "extra"; made once for all its records. */
static void
make_extra(SisCsvTable *table)
{
	resetStringInfo(&table->extra);
	for (int i = 0; i < table->nextras; i++)
	{
		const SisCsvExtra *extra = &table->extras[i];
		const SisCsvField *field = &table->fields[extra->field];

		if (field->len > 0)
			append_json_pair(table, &table->extra, extra->key,
							 strlen(extra->key), field);
	}
	if (table->extra.len > 0)
		appendStringInfoChar(&table->extra, '}');
	table->extra_made = true;
}

/* The mapped columns of a rejected row that can be read, or NULL. */
static const char *
make_row_json(SisCsvTable *table)
{
	const SisCsvFile *file = table->file;

	/* a value under the wrong header might be a password */
	if (!table->aligned)
		return NULL;

	resetStringInfo(&table->json);
	for (int c = 0; c < file->ncolumns; c++)
	{
		const char *header = file->columns[c].header;
		int			field = table->field_of[c];

		if (field >= 0 && table->fields[field].len > 0 &&
			is_readable(table, field))
			append_json_pair(table, &table->json, header,
							 sis_csv_name_length(header), &table->fields[field]);
	}
	if (table->json.len == 0)
		return NULL;
	appendStringInfoChar(&table->json, '}');
	return table->json.data;
}

static void
set_split(SisRecord *record, int column, const char *data, int len)
{
	const char *end = data + len;

	while (data < end)
	{
		const char *comma = memchr(data, ',', end - data);
		const char *item_end = comma ? comma : end;

		sis_record_add(record, column, data, item_end - data);
		data = item_end + 1;
	}
}

static void
follow_step(SisRecord *record, const SisCsvStep *step,
			const SisCsvField *field)
{
	const char *data = field->data;

	if (step->lower != NULL)
	{
		resetStringInfo(step->lower);
		for (int i = 0; i < field->len; i++)
			appendStringInfoCharMacro(step->lower,
									  pg_ascii_tolower((unsigned char) data[i]));
		data = step->lower->data;
	}

	if (step->split)
		set_split(record, step->column, data, field->len);
	else if (step->list)
		sis_record_add(record, step->column, data, field->len);
	else if (record->values[step->column].data == NULL)
		sis_record_set(record, step->column, data, field->len);
}

SisRecord *
sis_csv_begin(SisCsvTable *table, int k)
{
	const SisCsvPlan *plan = &table->plans[k];
	SisRecord  *record = table->record;

	sis_record_reset(record, table->file->types[k], table->source,
					 table->line);
	record->part = table->file->part;
	record->deleted = table->deleted;
	record->keep = plan->keep;
	if (table->modified_field >= 0)
	{
		const SisCsvField *field = &table->fields[table->modified_field];

		record->last_modified = sis_trim(field->data, field->len);
	}

	for (int i = 0; i < plan->nsteps; i++)
	{
		const SisCsvField *field = &table->fields[plan->steps[i].field];

		if (field->len > 0)
			follow_step(record, &plan->steps[i], field);
	}

	if (table->nextras > 0 && k < table->file->nprimary)
	{
		if (!table->extra_made)
			make_extra(table);
		sis_record_set(record, sis_record_desc(record->type)->ncolumns - 1,
					   table->extra.data, table->extra.len);
	}
	return record;
}

void
sis_csv_put(SisCsvTable *table)
{
	sis_record_finish(table->record);
	table->sink->put(table->sink, table->record);
}

static bool
row_id(SisCsvTable *table, SisValue *id)
{
	id->data = NULL;
	id->len = 0;
	if (!table->aligned)
		return false;
	if (table->file->id_of != NULL)
		return table->file->id_of(table, id);
	return sis_csv_readable(table, 0, id) && id->data != NULL;
}

static void
reject(SisCsvTable *table, int types, SisValue id, int column,
	   const char *reason)
{
	SisReject	reject = {0};

	reject.types = types;
	reject.source = table->source;
	reject.line = table->line;
	reject.source_id = id;
	reject.reason = reason;
	reject.row = make_row_json(table);
	if (column >= 0)
	{
		const char *header = table->file->columns[column].header;

		resetStringInfo(&table->word);
		appendBinaryStringInfo(&table->word, header, sis_csv_name_length(header));
		reject.column = table->word.data;
	}
	table->sink->reject(table->sink, &reject);
}

void
sis_csv_reject(SisCsvTable *table, int types, int column, const char *reason)
{
	SisValue	id;
	SisValue	no_id = {NULL, 0};

	if (!row_id(table, &id))
		reject(table, types | table->beside, no_id, column, reason);
	else
	{
		reject(table, types, id, column, reason);
		if (table->beside != 0)
			reject(table, table->beside, no_id, column, reason);
	}
}

/* True when a row names, or may name, a record of a type beside its own. */
static bool
is_named(const SisCsvTable *table, const SisCsvPlan *plan)
{
	for (int i = 0; i < plan->nnames; i++)
	{
		if (!table->aligned || table->fields[plan->names[i]].len > 0)
			return true;
	}
	return false;
}

/*
 * Counts the row, and returns the types beside the primary ones that it has,
 * or may have, records of.
 */
static int
count_row(const SisCsvTable *table)
{
	const SisCsvFile *file = table->file;
	int			beside = 0;

	table->sink->row_read(table->sink, table->types);
	for (int k = file->nprimary; k < file->ntypes; k++)
	{
		int			bit = SIS_TYPE_BIT(file->types[k]);

		if (!is_named(table, &table->plans[k]))
			continue;
		table->sink->row_read(table->sink, bit);
		beside |= bit;
	}
	return beside;
}

static int
primary_types(SisCsvTable *table)
{
	int			types = 0;

	if (table->file->types_of != NULL)
		return table->file->types_of(table);
	for (int k = 0; k < table->file->nprimary; k++)
		types |= SIS_TYPE_BIT(table->file->types[k]);
	return types;
}

static const char *
defect(SisCsvTable *table, int nfields)
{
	switch (sis_csv_problem(table->csv))
	{
		case SIS_CSV_BAD_BYTES:
			table->bad_bytes++;
			return table->encoding == PG_UTF8 ? "not valid UTF-8" :
				"not Windows-1252";
		case SIS_CSV_NUL:
			return "contains a zero byte";
		case SIS_CSV_BAD_QUOTE:
			return "text beside a quoted field";
		default:
			resetStringInfo(&table->reason);
			appendStringInfo(&table->reason,
							 "row has %d fields, header has %d",
							 nfields, table->nheader);
			return table->reason.data;
	}
}

/*
 * Rejects a row that cannot be used.  What it names beside its own record has
 * no ID that could be read, so that these types archive nothing tonight.
 */
static void
reject_defective(SisCsvTable *table, int nfields)
{
	const char *reason = defect(table, nfields);
	int			column = -1;

	if (table->types == 0)
		return;					/* a row that would have been passed over */
	for (int c = table->file->ncolumns - 1; table->aligned && c >= 0; c--)
	{
		if (sis_csv_has(table, c) && !is_readable(table, table->field_of[c]))
			column = c;
	}
	sis_csv_reject(table, table->types, column, reason);
}

/* Fields beyond the header do not count while they are empty. */
static bool
fits_header(const SisCsvTable *table, int nfields)
{
	if (nfields < table->nheader)
		return false;
	for (int i = table->nheader; i < nfields; i++)
	{
		if (table->fields[i].len > 0)
			return false;
	}
	return true;
}

static bool
is_deleted(const SisCsvTable *table)
{
	SisValue	value;

	if (table->status_field < 0 ||
		table->fields[table->status_field].len == 0)
		return false;
	value.data = table->fields[table->status_field].data;
	value.len = table->fields[table->status_field].len;
	return sis_value_is(value, "tobedeleted") || sis_value_is(value, "inactive");
}

/*
 * Takes a row.  False when it shows that the file was cut: too few fields,
 * and no line end behind the last of them.
 */
static bool
take_row(SisCsvTable *table, bool good)
{
	int			nfields = sis_csv_nfields(table->csv);

	table->fields = sis_csv_fields(table->csv);
	table->line = sis_csv_line(table->csv);
	table->aligned = fits_header(table, nfields) &&
		(good || sis_csv_problem(table->csv) != SIS_CSV_BAD_QUOTE);
	if (nfields > 0 && nfields < table->nheader &&
		sis_csv_ends_here(table->csv))
		return sis_fail(table->sink->failure, SIS_ERR_INCOMPLETE, NULL,
						psprintf("The row on line %lld has fewer fields than the header, and no line end.",
								 (long long) table->line),
						"Have the file sent again.",
						"file \"%s\" ends in the middle of a row",
						table->source);
	table->sound = good && table->aligned;
	table->deleted = table->aligned && is_deleted(table);
	table->extra_made = false;

	table->types = primary_types(table);
	table->beside = count_row(table);

	if (!table->sound)
		reject_defective(table, nfields);
	else if (table->file->row != NULL)
		table->file->row(table);
	else
	{
		sis_csv_begin(table, 0);
		sis_csv_put(table);
	}
	return true;
}

bool
sis_csv_table_read(SisCsvTable *table)
{
	initStringInfo(&table->extra);
	initStringInfo(&table->json);
	initStringInfo(&table->word);
	initStringInfo(&table->reason);

	if (!sis_csv_header_read(table))
		return false;
	for (;;)
	{
		SisCsvResult result = sis_csv_next(table->csv);

		if (result == SIS_CSV_END)
			return true;
		if (result == SIS_CSV_FAILED)
			return sis_csv_fail(table->csv, table->source,
								table->sink->failure);
		if (!take_row(table, result == SIS_CSV_ROW))
			return false;
		CHECK_FOR_INTERRUPTS();
	}
}
