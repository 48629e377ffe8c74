/*
 * record.c
 *		The nine record types and their columns, and the values of one record.
 */
#include "postgres.h"

#include "base/record.h"
#include "utils/builtins.h"

#define TEXT(n)		{ n, SIS_KIND_TEXT }
#define DATE(n)		{ n, SIS_KIND_DATE }
#define BOOLEAN(n)	{ n, SIS_KIND_BOOLEAN }
#define LIST(n)		{ n, SIS_KIND_LIST }
#define FIRST		TEXT("source_id"), TEXT("sis_id")
#define LAST		{ "extra", SIS_KIND_JSONB }

static const SisColumn school_columns[] = {
	FIRST, TEXT("name"), TEXT("school_number"), TEXT("state_id"),
	TEXT("nces_id"), TEXT("low_grade"), TEXT("high_grade"), TEXT("phone"),
	TEXT("address"), TEXT("city"), TEXT("state"), TEXT("zip"),
	TEXT("principal_name"), TEXT("principal_email"), LAST
};

static const SisColumn term_columns[] = {
	FIRST, TEXT("name"), TEXT("term_type"), DATE("start_date"),
	DATE("end_date"), TEXT("parent_source_id"), TEXT("school_year"), LAST
};

static const SisColumn course_columns[] = {
	FIRST, TEXT("name"), TEXT("course_code"), TEXT("school_source_id"),
	LIST("grades"), LIST("subjects"), LAST
};

static const SisColumn section_columns[] = {
	FIRST, TEXT("name"), TEXT("section_code"), TEXT("section_type"),
	TEXT("course_source_id"), TEXT("school_source_id"),
	LIST("term_source_ids"), LIST("grades"), LIST("subjects"),
	LIST("periods"), TEXT("location"), LAST
};

static const SisColumn student_columns[] = {
	FIRST, TEXT("given_name"), TEXT("middle_name"), TEXT("family_name"),
	TEXT("preferred_given_name"), TEXT("preferred_family_name"),
	TEXT("student_number"), TEXT("state_id"), TEXT("username"),
	TEXT("email"), TEXT("phone"), TEXT("grade"), DATE("birth_date"),
	TEXT("gender"), TEXT("school_source_id"), LIST("school_source_ids"),
	BOOLEAN("enabled"), LAST
};

static const SisColumn staff_columns[] = {
	FIRST, TEXT("given_name"), TEXT("middle_name"), TEXT("family_name"),
	TEXT("staff_number"), TEXT("state_id"), TEXT("username"),
	TEXT("email"), TEXT("phone"), TEXT("title"), LIST("roles"),
	TEXT("school_source_id"), LIST("school_source_ids"),
	BOOLEAN("enabled"), LAST
};

static const SisColumn contact_columns[] = {
	FIRST, TEXT("given_name"), TEXT("family_name"), TEXT("email"),
	LIST("phones"), TEXT("username"), LAST
};

static const SisColumn student_contact_columns[] = {
	FIRST, TEXT("student_source_id"), TEXT("contact_source_id"),
	TEXT("relationship"), TEXT("contact_type"), LAST
};

static const SisColumn enrollment_columns[] = {
	FIRST, TEXT("section_source_id"), TEXT("school_source_id"),
	TEXT("person_source_id"), TEXT("role"), BOOLEAN("is_primary"),
	DATE("begin_date"), DATE("end_date"), LAST
};

#define DESC(name, guard, link, governed) \
	{ #name, guard, link, governed, lengthof(name##_columns), name##_columns }

static const SisRecordDesc record_descs[SIS_N_RECORD_TYPES] = {
	[SIS_SCHOOL] = DESC(school, false, false, true),
	[SIS_TERM] = DESC(term, false, false, false),
	[SIS_COURSE] = DESC(course, false, false, false),
	[SIS_SECTION] = DESC(section, true, false, true),
	[SIS_STUDENT] = DESC(student, true, false, true),
	[SIS_STAFF] = DESC(staff, true, false, true),
	[SIS_CONTACT] = DESC(contact, false, false, true),
	[SIS_STUDENT_CONTACT] = DESC(student_contact, false, true, true),
	[SIS_ENROLLMENT] = DESC(enrollment, true, true, true)
};

const SisRecordDesc *
sis_record_desc(SisRecordType type)
{
	return &record_descs[type];
}

int
sis_record_column(SisRecordType type, const char *name)
{
	const SisRecordDesc *desc = sis_record_desc(type);

	for (int i = 0; i < desc->ncolumns; i++)
	{
		if (strcmp(desc->columns[i].name, name) == 0)
			return i;
	}
	elog(ERROR, "record type \"%s\" has no column \"%s\"", desc->name, name);
	return -1;					/* keep compiler quiet */
}

const char *
sis_kind_sql(SisColumnKind kind)
{
	switch (kind)
	{
		case SIS_KIND_TEXT:
			return "text";
		case SIS_KIND_DATE:
			return "date";
		case SIS_KIND_BOOLEAN:
			return "boolean";
		case SIS_KIND_LIST:
			return "text[]";
		case SIS_KIND_JSONB:
			return "jsonb";
	}
	elog(ERROR, "unexpected column kind %d", (int) kind);
	return NULL;				/* keep compiler quiet */
}

bool
sis_record_type_by_name(const char *name, SisRecordType *type)
{
	for (int i = 0; i < SIS_N_RECORD_TYPES; i++)
	{
		if (strcmp(record_descs[i].name, name) == 0)
		{
			*type = (SisRecordType) i;
			return true;
		}
	}
	return false;
}

SisRecord *
sis_record_create(void)
{
	SisRecord  *record = palloc0(sizeof(SisRecord));

	for (int i = 0; i < SIS_MAX_COLUMNS; i++)
		initStringInfo(&record->lists[i]);
	return record;
}

void
sis_record_reset(SisRecord *record, SisRecordType type,
				 const char *source, int64 line)
{
	int			ncolumns = sis_record_desc(type)->ncolumns;

	record->type = type;
	record->source = source;
	record->line = line;
	record->part = SIS_PART_BASE;
	record->deleted = false;
	record->repeats = false;
	record->keep = 0;
	record->too_long = 0;
	record->last_modified.data = NULL;
	record->last_modified.len = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		record->values[i].data = NULL;
		record->values[i].len = 0;
		record->lists[i].len = 0;
		record->nitems[i] = 0;
	}
}

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

SisValue
sis_trim_ends(const char *data, int len)
{
	SisValue	value;

	for (;;)
	{
		if (len > 0 && is_space(data[0]))
			data++, len--;
		else if (len > 1 && data[0] == '\xC2' && data[1] == '\xA0')
			data += 2, len -= 2;
		else
			break;
	}
	for (;;)
	{
		if (len > 0 && is_space(data[len - 1]))
			len--;
		else if (len > 1 && data[len - 2] == '\xC2' && data[len - 1] == '\xA0')
			len -= 2;
		else
			break;
	}
	value.data = len > 0 ? data : NULL;
	value.len = len;
	return value;
}

void
sis_list_append(StringInfo buf, SisValue item)
{
	appendStringInfoString(buf, buf->len == 0 ? "{\"" : ",\"");
	for (int i = 0; i < item.len; i++)
	{
		if (item.data[i] == '"' || item.data[i] == '\\')
			appendStringInfoCharMacro(buf, '\\');
		appendStringInfoCharMacro(buf, item.data[i]);
	}
	appendStringInfoCharMacro(buf, '"');
}

/* The element from start on, with its comma or brace: is it there before? */
static bool
is_repeated(StringInfo buf, int start)
{
	const char *written = buf->data + start + 1;
	int			wlen = buf->len - start - 1;
	int			i = 1;

	while (i < start)
	{
		int			end = i + 1;

		while (buf->data[end] != '"')
			end += buf->data[end] == '\\' ? 2 : 1;
		if (end + 1 - i == wlen && memcmp(buf->data + i, written, wlen) == 0)
			return true;
		i = end + 2;			/* over the comma to the next quote */
	}
	return false;
}

void
sis_record_add(SisRecord *record, int column, const char *data, int len)
{
	const SisColumn *col = &sis_record_desc(record->type)->columns[column];
	StringInfo	buf = &record->lists[column];
	SisValue	item = sis_trim(data, len);
	int			start = buf->len;

	if (item.data == NULL)
		return;
	if (col->kind != SIS_KIND_LIST)
	{
		if (record->values[column].data == NULL)
			record->values[column] = item;
		return;
	}
	if (item.len > SIS_MAX_VALUE_BYTES ||
		record->nitems[column] == SIS_MAX_ITEMS)
	{
		record->too_long |= SIS_COLUMN_BIT(column);
		return;
	}
	sis_list_append(buf, item);
	if (is_repeated(buf, start))
	{
		buf->len = start;
		buf->data[start] = '\0';
	}
	else
		record->nitems[column]++;
}

void
sis_record_finish(SisRecord *record)
{
	const SisRecordDesc *desc = sis_record_desc(record->type);

	for (int i = 0; i < desc->ncolumns; i++)
	{
		StringInfo	buf = &record->lists[i];

		if (desc->columns[i].kind != SIS_KIND_LIST || buf->len == 0)
			continue;
		appendStringInfoCharMacro(buf, '}');
		record->values[i].data = buf->data;
		record->values[i].len = buf->len;
	}
}

SisValue
sis_made_id(StringInfo buf, const SisValue *parts, int nparts)
{
	SisValue	id;

	resetStringInfo(buf);
	for (int p = 0; p < nparts; p++)
	{
		if (p > 0)
			appendStringInfoCharMacro(buf, '/');
		for (int i = 0; i < parts[p].len; i++)
		{
			if (parts[p].data[i] == '/' || parts[p].data[i] == '\\')
				appendStringInfoCharMacro(buf, '\\');
			appendStringInfoCharMacro(buf, parts[p].data[i]);
		}
	}
	id.data = buf->data;
	id.len = buf->len;
	return id;
}
