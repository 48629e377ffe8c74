/*
 * csv_header.c
 *		The header of one file of a CSV set, and what it decides.
 *
 * Which field goes into which column of which record type is worked out once,
 * as the steps that each row then follows.
 *
 * A header is named in an error only when the layout knows it.  A file whose
 * header line is missing has a person in its place.
 */
#include "postgres.h"

#include "base/value.h"
#include "provider/csvset.h"

/* ----------
 * What keeps a file from being read
 * ----------
 */

bool
sis_csv_fail(const SisCsv *csv, const char *source, SisFailure *failure)
{
	long long	line = (long long) sis_csv_line(csv);

	switch (sis_csv_problem(csv))
	{
		case SIS_CSV_UNCLOSED_QUOTE:
			return sis_fail(failure, SIS_ERR_MALFORMED, NULL,
							"The rows that follow cannot be told apart.",
							"A quote inside a quoted field must be doubled, and each opened quote closed.",
							"file \"%s\" has a quote on line %lld that is not closed, or closed in the wrong place",
							source, line);
		case SIS_CSV_CUT:
			return sis_fail(failure, SIS_ERR_INCOMPLETE, NULL,
							psprintf("A quote in the row on line %lld is still open at the end: the file was cut, or the quote is not closed.",
									 line),
							"Have the file sent again.",
							"file \"%s\" ends inside a quoted value", source);
		case SIS_CSV_TOO_LONG:
			return sis_fail(failure, SIS_ERR_MALFORMED, NULL,
							psprintf("A row may have at most %d bytes.",
									 SIS_CSV_MAX_ROW),
							NULL,
							"file \"%s\" has a row on line %lld that is too long",
							source, line);
		case SIS_CSV_UTF16:
			return sis_fail(failure, SIS_ERR_MALFORMED, NULL, NULL,
							"Have it exported as UTF-8.",
							"file \"%s\" is encoded in UTF-16 or UTF-32",
							source);
		case SIS_CSV_HTML:
			return sis_fail(failure, SIS_ERR_MALFORMED, NULL, NULL,
							"It may be a sign-in or error page, saved in the file's place.",
							"file \"%s\" is a web page", source);
		default:
			/* a read that failed has written down why */
			return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, NULL, NULL,
							"could not read file \"%s\"", source);
	}
}

/* ----------
 * Columns and fields
 * ----------
 */

/* Makes a header comparable: lower case, and the separators all alike. */
static char *
normal_header(const SisCsvTable *table, const char *data, int len)
{
	SisValue	value = sis_trim(data, len);
	char	   *result = palloc(value.len + 1);

	for (int i = 0; i < value.len; i++)
	{
		char		c = pg_ascii_tolower((unsigned char) value.data[i]);

		if (table->loose_headers && (c == ' ' || c == '-'))
			c = '_';
		result[i] = c;
	}
	result[value.len] = '\0';
	return result;
}

static void
append_name(StringInfo buf, const SisCsvColumn *column)
{
	appendStringInfo(buf, "%s\"%.*s\"", buf->len > 0 ? ", " : "",
					 sis_csv_name_length(column->header), column->header);
}

/*
 * Finds the field of a column by the first of its names that is there; -1
 * when none is.  False when there are two of that name.
 */
static bool
find_field(const SisCsvTable *table, char **headers, const char *names,
		   int *field)
{
	*field = -1;
	while (*names != '\0' && *field < 0)
	{
		int			len = sis_csv_name_length(names);
		char	   *wanted = normal_header(table, names, len);

		for (int i = 0; i < table->nheader; i++)
		{
			/* status and dateLastModified say nothing of the content */
			if (strcmp(headers[i], wanted) != 0 || i == table->status_field ||
				i == table->modified_field)
				continue;
			if (*field >= 0)
				return false;
			*field = i;
		}
		pfree(wanted);
		names += len;
		if (*names == '|')
			names++;
	}
	return true;
}

/* False when a column that must be there is not. */
static bool
check_required(const SisCsvTable *table)
{
	const SisCsvFile *file = table->file;
	StringInfoData known;
	StringInfoData missing;
	StringInfoData one_of;
	bool		has_one = false;
	int			nmissing = 0;

	initStringInfo(&known);
	initStringInfo(&missing);
	initStringInfo(&one_of);
	for (int c = 0; c < file->ncolumns; c++)
	{
		const SisCsvColumn *column = &file->columns[c];

		if (sis_csv_has(table, c))
		{
			append_name(&known, column);
			has_one |= (column->flags & SIS_CSV_ONE_OF) != 0;
		}
		else if ((column->flags & SIS_CSV_REQUIRED) != 0)
		{
			append_name(&missing, column);
			nmissing++;
		}
		if ((column->flags & SIS_CSV_ONE_OF) != 0)
			append_name(&one_of, column);
	}
	if (nmissing == 0 && (has_one || one_of.len == 0))
		return true;

	if (nmissing == 0)
		return sis_fail(table->sink->failure, SIS_ERR_MALFORMED, NULL,
						psprintf("Its known columns are: %s.", known.data),
						NULL,
						"file \"%s\" has none of the columns %s",
						table->source, one_of.data);
	return sis_fail(table->sink->failure, SIS_ERR_MALFORMED, NULL,
					known.len > 0 ?
					psprintf("Its known columns are: %s.", known.data) :
					"None of its columns is known.",
					known.len > 0 ? NULL :
					"The first line of the file must name its columns.",
					nmissing == 1 ? "file \"%s\" has no column %s" :
					"file \"%s\" lacks the columns %s",
					table->source, missing.data);
}

/* False when the header is one field that holds another separator. */
static bool
check_separator(const SisCsvTable *table)
{
	static const struct
	{
		char		c;
		const char *name;
	}			separators[] = {{';', "semicolons"}, {'\t', "tabs"},
	{'|', "vertical bars"}};

	for (int i = 0; i < (int) lengthof(separators); i++)
	{
		if (table->nheader == 1 &&
			memchr(table->fields[0].data, separators[i].c,
				   table->fields[0].len) != NULL)
			return sis_fail(table->sink->failure, SIS_ERR_MALFORMED, NULL,
							"The columns of a CSV file are separated by commas.",
							"A spreadsheet program may have saved it in the manner of another country.",
							"file \"%s\" seems to be separated by %s",
							table->source, separators[i].name);
	}
	return true;
}

/* Finds the columns that the sync wants kept as they come. */
static void
find_extras(SisCsvTable *table, char **headers)
{
	const SisSink *sink = table->sink;

	table->extras = palloc(Max(sink->wants->nextra_columns, 1) *
						   sizeof(SisCsvExtra));
	for (int e = 0; e < sink->wants->nextra_columns; e++)
	{
		const char *key = sink->wants->extra_columns[e];
		char	   *wanted = normal_header(table, key, strlen(key));

		if (wanted[0] == '\0' || sis_is_password_name(wanted))
			continue;
		for (int i = 0; i < table->nheader; i++)
		{
			/* status and dateLastModified say nothing of the content */
			if (strcmp(headers[i], wanted) != 0 || i == table->status_field ||
				i == table->modified_field)
				continue;
			table->extras[table->nextras].field = i;
			table->extras[table->nextras++].key = key;
			break;
		}
	}
}

static void
add_step(SisCsvPlan *plan, SisRecordType type, const SisCsvColumn *from,
		 int field, int column)
{
	SisCsvStep *step = &plan->steps[plan->nsteps++];

	step->field = field;
	step->column = column;
	step->list = sis_record_desc(type)->columns[column].kind == SIS_KIND_LIST;
	step->split = (from->flags & SIS_CSV_SPLIT) != 0;
	step->lower = (from->flags & SIS_CSV_LOWER) != 0 ? makeStringInfo() : NULL;
}

/*
 * Works out how a row becomes a record of one of the file's types: the steps,
 * and the columns that it has no word on.  Those are the columns of a missing
 * header; and in a file that brings only a part of the record, all others.
 */
static void
make_plan(SisCsvTable *table, int k)
{
	const SisCsvFile *file = table->file;
	SisCsvPlan *plan = &table->plans[k];
	SisRecordType type = file->types[k];
	int			extra = sis_record_desc(type)->ncolumns - 1;
	uint64		mapped = 0;
	uint64		present = 0;

	plan->steps = palloc(SIS_MAX_COLUMNS * file->ncolumns *
						 sizeof(SisCsvStep));
	plan->names = palloc(file->ncolumns * sizeof(int));
	for (int c = 0; c < file->ncolumns; c++)
	{
		const SisCsvColumn *from = &file->columns[c];
		const char *to = from->to[k];
		int			field = table->field_of[c];

		if (to == NULL)
			continue;
		if (field >= 0 && (from->flags & SIS_CSV_NAMES) != 0)
			plan->names[plan->nnames++] = field;
		while (*to != '\0')
		{
			bool		by_function = (*to == '*');
			const char *start = by_function ? to + 1 : to;
			int			len = (int) strcspn(start, " ");
			int			column = sis_record_column(type,
												   pnstrdup(start, len));

			mapped |= SIS_COLUMN_BIT(column);
			if (field >= 0)
				present |= SIS_COLUMN_BIT(column);
			if (field >= 0 && !by_function)
				add_step(plan, type, from, field, column);
			to = start + len;
			to += strspn(to, " ");
		}
	}

	if (file->part != SIS_PART_BASE)
		mapped = SIS_COLUMN_BIT(extra) - 1;
	plan->keep = mapped & ~present & ~SIS_COLUMN_BIT(SIS_COL_SOURCE_ID);
	if (table->nextras == 0 &&
		(file->part != SIS_PART_BASE || table->sink->wants->nextra_columns > 0))
		plan->keep |= SIS_COLUMN_BIT(extra);
}

/*
 * A file offers its primary types, and the types it names beside where it has
 * the columns that name them.
 */
static void
set_offers(SisCsvTable *table)
{
	const SisCsvFile *file = table->file;

	if (file->part != SIS_PART_BASE)
		return;
	for (int k = 0; k < file->ntypes; k++)
	{
		if (k < file->nprimary || table->plans[k].nnames > 0)
			table->sink->offer[file->types[k]] = table->delta ?
				SIS_OFFER_DELTA : SIS_OFFER_FULL;
	}
}

/* Works out all that the header decides. */
static bool
take_header(SisCsvTable *table)
{
	const SisCsvFile *file = table->file;
	char	  **headers;

	table->fields = sis_csv_fields(table->csv);
	table->nheader = sis_csv_nfields(table->csv);
	while (table->nheader > 0 && table->fields[table->nheader - 1].len == 0)
		table->nheader--;		/* a comma too many at its end */

	headers = palloc(Max(table->nheader, 1) * sizeof(char *));
	for (int i = 0; i < table->nheader; i++)
		headers[i] = normal_header(table, table->fields[i].data,
								   table->fields[i].len);

	table->status_field = -1;
	table->modified_field = -1;
	table->field_of = palloc(file->ncolumns * sizeof(int));
	for (int c = 0; c < file->ncolumns; c++)
	{
		const SisCsvColumn *column = &file->columns[c];
		int			field;

		if (!find_field(table, headers, column->header, &field))
			return sis_fail(table->sink->failure, SIS_ERR_MALFORMED, NULL,
							NULL, NULL,
							"file \"%s\" has the column \"%.*s\" more than once",
							table->source, sis_csv_name_length(column->header),
							column->header);
		table->field_of[c] = field;
		if (field < 0)
			continue;
		if ((column->flags & SIS_CSV_STATUS) != 0)
			table->status_field = field;
		if ((column->flags & SIS_CSV_MODIFIED) != 0)
			table->modified_field = field;
	}
	if (!check_separator(table) || !check_required(table))
		return false;

	/* a part that only says which role a person has brings nothing else */
	if (file->part != SIS_PART_ROLE)
		find_extras(table, headers);
	for (int k = 0; k < file->ntypes; k++)
		make_plan(table, k);
	set_offers(table);
	if (file->begin != NULL)
		file->begin(table);
	return true;
}

bool
sis_csv_header_read(SisCsvTable *table)
{
	switch (sis_csv_next(table->csv))
	{
		case SIS_CSV_ROW:
			return take_header(table);
		case SIS_CSV_BAD_ROW:
			return sis_fail(table->sink->failure, SIS_ERR_MALFORMED, NULL,
							NULL, "The first line of the file must name its columns.",
							"file \"%s\" has a header that cannot be read",
							table->source);
		case SIS_CSV_END:
			return sis_fail(table->sink->failure, SIS_ERR_INCOMPLETE, NULL,
							"A file without records still has a header.",
							NULL, "file \"%s\" is empty", table->source);
		case SIS_CSV_FAILED:
			break;
	}
	return sis_csv_fail(table->csv, table->source, table->sink->failure);
}
