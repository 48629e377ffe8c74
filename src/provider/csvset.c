/*
 * csvset.c
 *		A set of CSV files: which files there are, what its manifest says of
 *		them, which layout they follow.
 *
 * All that can be known without reading rows is judged before the first row
 * is read: the files that must be there, and what the manifest promises.  A
 * set that fails this was cut short or put together wrongly, and none of it is
 * taken.
 *
 * The manifest has the last word: a file that it calls absent is not read even
 * when it is there, and its types are left alone.  Where it has no word, a
 * file that is there is a whole list, and one that is not says nothing; or, in
 * a package with a file of changes (delta), that nothing has changed.
 */
#include "postgres.h"

#include <time.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/progress.h"
#include "base/value.h"
#include "format/encoding.h"
#include "provider/csvset.h"
#include "provider/fileset.h"

#define MANIFEST		"manifest.csv"
#define MAX_LISTED		20		/* files named in a detail */
#define MAX_MANIFEST	1000	/* files in it; the standard has 21 */

typedef enum FileMode
{
	MODE_NONE,					/* no manifest, or no word in it */
	MODE_ABSENT,
	MODE_BULK,
	MODE_DELTA
} FileMode;

typedef struct ManifestEntry
{
	char	   *file;			/* "users.csv" */
	FileMode	mode;
} ManifestEntry;

typedef struct CsvSet
{
	SisSink    *sink;
	int			encoding;
	const SisFileSet *files;
	bool		is_v1p2;		/* by the manifest */
	bool		is_delta;		/* the manifest has a file of changes */
	List	   *manifest;		/* of ManifestEntry */
	const SisCsvLayout *layout;
	void	   *state;			/* the layout's */
	SisRecord  *record;
	pg_time_t	newest;			/* time of change of what was read */
} CsvSet;

/* ----------
 * The files
 * ----------
 */

static const SisSetFile *
find_file(const CsvSet *set, const char *name)
{
	for (int i = 0; i < set->files->nfiles; i++)
	{
		if (pg_strcasecmp(set->files->files[i].name, name) == 0)
			return &set->files->files[i];
	}
	return NULL;
}

static int
compare_names(const void *a, const void *b)
{
	return pg_strcasecmp(*(const char *const *) a, *(const char *const *) b);
}

/* On some systems Users.csv and users.csv are two files; which is meant? */
static bool
check_names(const CsvSet *set)
{
	const SisFileSet *files = set->files;
	const char **names = palloc(Max(files->nfiles, 1) * sizeof(char *));

	for (int i = 0; i < files->nfiles; i++)
		names[i] = files->files[i].name;
	qsort(names, files->nfiles, sizeof(char *), compare_names);
	for (int i = 1; i < files->nfiles; i++)
	{
		if (pg_strcasecmp(names[i - 1], names[i]) == 0)
			return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL, NULL,
							"Take one of them out of the folder.",
							"files \"%s\" and \"%s\" differ in nothing but case",
							names[i - 1], names[i]);
	}
	pfree(names);
	return true;
}

/* "orgs.csv", "users.csv" and so on: what there is, for a detail. */
static char *
list_files(const CsvSet *set)
{
	const SisFileSet *files = set->files;
	StringInfoData buf;

	if (files->nfiles == 0)
		return pstrdup("There is no CSV file.");
	initStringInfo(&buf);
	appendStringInfoString(&buf, "There are: ");
	for (int i = 0; i < Min(files->nfiles, MAX_LISTED); i++)
		appendStringInfo(&buf, "%s\"%s\"", i > 0 ? ", " : "",
						 files->files[i].name);
	if (files->nfiles > MAX_LISTED)
		appendStringInfo(&buf, " and %d more",
						 files->nfiles - MAX_LISTED);
	appendStringInfoChar(&buf, '.');
	return buf.data;
}

/* Says something of a file in run.note. */
static void
note_file(CsvSet *set, const SisSetFile *file, const char *what)
{
	StringInfo	note = &set->sink->note;

	appendStringInfo(note, "%sFile \"%s\" %s.", note->len > 0 ? " " : "",
					 file->name, what);
}

/* Counts the characters of a file; false on failure. */
static bool
look_at_encoding(CsvSet *set, const SisSetFile *file, SisEncodingLook *look)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "sis_sync CSV encoding",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SisSetReader reader;
	bool		success;

	success = sis_fileset_open(set->files, file, &reader,
							   set->sink->failure) &&
		sis_encoding_look(reader.read, reader.arg, look);
	MemoryContextSwitchTo(old);
	if (success)
		MemoryContextDelete(context);
	return success;
}

/*
 * The encoding of a file.  Where the server's options say WIN1252, the whole
 * of it has a say: any bytes at all can be read so, and a file that has become
 * UTF-8 since would become broken text.  Where they do not, bytes that are not
 * UTF-8 are rejects, and nothing is guessed.  Negative on failure.
 */
static int
choose_encoding(CsvSet *set, const SisSetFile *file)
{
	SisEncodingLook look;

	if (set->encoding != PG_WIN1252)
		return set->encoding;
	if (!look_at_encoding(set, file, &look))
		return -1;
	if (look.characters > look.strays)
	{
		note_file(set, file,
				  psprintf("was read as UTF-8, though the server's option \"encoding\" is WIN1252: %lld of its characters are UTF-8 and %lld bytes are not",
						   (long long) look.characters,
						   (long long) look.strays));
		return PG_UTF8;
	}
	if (look.strays > 0)
		note_file(set, file, "was read as Windows-1252");
	return PG_WIN1252;
}

/* Says of a file with rows that are not UTF-8 what it may be instead. */
static bool
note_bad_bytes(CsvSet *set, const SisSetFile *file, int64 rows)
{
	SisEncodingLook look;

	if (!look_at_encoding(set, file, &look))
		return false;
	if (look.characters == 0)
		note_file(set, file,
				  psprintf("has %lld rows that are not UTF-8, and seems to be Windows-1252: if so, set the server's option \"encoding\" to WIN1252",
						   (long long) rows));
	else
		note_file(set, file,
				  psprintf("has %lld rows that are not UTF-8, the others are",
						   (long long) rows));
	return true;
}

/* A SisRead that shows how much has been read. */
static int
read_shown(void *arg, char *buf, int len)
{
	SisSetReader *reader = arg;
	int			n = reader->read(reader->arg, buf, len);

	if (n > 0)
		sis_progress_bytes(n);
	return n;
}

/*
 * Opens one file as CSV text.  What is allocated, the descriptor included,
 * goes with the current memory context.
 */
static SisCsv *
open_csv(CsvSet *set, const SisSetFile *file, int encoding)
{
	SisFailure *failure = set->sink->failure;
	SisSetReader *reader = palloc(sizeof(SisSetReader));

	if (file->size == 0)
	{
		sis_fail(failure, SIS_ERR_INCOMPLETE, NULL,
				 "A file without records still has a header.", NULL,
				 "file \"%s\" is empty", file->name);
		return NULL;
	}
	if (!sis_fileset_open(set->files, file, reader, failure))
		return NULL;
	/* from a file of the future all that come later would be too old */
	set->newest = Max(set->newest, Min(file->mtime, (pg_time_t) time(NULL)));
	return sis_csv_open(read_shown, reader, encoding);
}

/* ----------
 * The manifest (OneRoster)
 * ----------
 */

static FileMode
manifest_mode(const CsvSet *set, const char *file)
{
	ListCell   *lc;

	foreach(lc, set->manifest)
	{
		const ManifestEntry *entry = lfirst(lc);

		if (pg_strcasecmp(entry->file, file) == 0)
			return entry->mode;
	}
	return MODE_NONE;
}

static SisValue
field_value(const SisCsvField *field)
{
	SisValue	value;

	value.data = field->data;
	value.len = field->len;
	return value;
}

/* The rest of a property after that prefix; data NULL: it has another. */
static SisValue
after_prefix(SisValue property, const char *prefix)
{
	int			len = (int) strlen(prefix);
	SisValue	rest = {NULL, 0};

	if (property.len > len &&
		pg_strncasecmp(property.data, prefix, len) == 0)
	{
		rest.data = property.data + len;
		rest.len = property.len - len;
	}
	return rest;
}

static bool
take_manifest_mode(CsvSet *set, const char *source, int64 line,
				   SisValue file, SisValue value)
{
	ManifestEntry *entry = palloc(sizeof(ManifestEntry));
	FileMode	before;

	entry->file = psprintf("%.*s.csv", file.len, file.data);
	if (sis_value_is(value, "absent"))
		entry->mode = MODE_ABSENT;
	else if (sis_value_is(value, "bulk"))
		entry->mode = MODE_BULK;
	else if (sis_value_is(value, "delta"))
	{
		entry->mode = MODE_DELTA;
		set->is_delta = true;
	}
	else
		return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL,
						"The modes of a file are bulk, delta and absent.",
						NULL, "file \"%s\" has an unknown mode on line %lld",
						source, (long long) line);

	before = manifest_mode(set, entry->file);
	if (before == MODE_NONE && list_length(set->manifest) == MAX_MANIFEST)
		return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL,
						psprintf("At most %d are taken.", MAX_MANIFEST), NULL,
						"file \"%s\" names too many files", source);
	if (before == MODE_NONE)
		set->manifest = lappend(set->manifest, entry);
	else if (before != entry->mode)
		return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL, NULL,
						NULL,
						"file \"%s\" names a file twice, with another mode on line %lld",
						source, (long long) line);
	return true;
}

/* Takes one property; those that say nothing about files are passed over. */
static bool
take_manifest_row(CsvSet *set, const SisCsv *csv, const char *source)
{
	const SisCsvField *fields = sis_csv_fields(csv);
	SisValue	property;
	SisValue	value = {NULL, 0};
	SisValue	file;

	property = field_value(&fields[0]);
	if (sis_csv_nfields(csv) > 1)
		value = field_value(&fields[1]);

	file = after_prefix(property, "file.");
	if (file.data != NULL)
		return take_manifest_mode(set, source, sis_csv_line(csv), file, value);
	if (sis_value_is(property, "oneroster.version"))
		set->is_v1p2 = value.len >= 3 && strncmp(value.data, "1.2", 3) == 0;
	return true;
}

/*
 * A row that cannot be read is no matter as long as it names the system it
 * came from; any other might be about a file.
 */
static bool
take_bad_manifest_row(CsvSet *set, const SisCsv *csv, const char *source)
{
	if (sis_csv_nfields(csv) > 0 &&
		after_prefix(field_value(&sis_csv_fields(csv)[0]),
					 "source.").data != NULL)
		return true;
	return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL, NULL, NULL,
					"file \"%s\" cannot be read on line %lld",
					source, (long long) sis_csv_line(csv));
}

static bool
read_manifest(CsvSet *set)
{
	const SisSetFile *file = find_file(set, MANIFEST);
	MemoryContext file_context;
	MemoryContext old;
	SisCsv	   *csv;

	if (file == NULL)
		return true;
	sis_progress_expect_bytes(Max(file->size, 0));
	file_context = AllocSetContextCreate(CurrentMemoryContext,
										 "sis_sync CSV manifest",
										 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(file_context);
	csv = open_csv(set, file, PG_UTF8);
	MemoryContextSwitchTo(old);
	if (csv == NULL)
		return false;
	for (;;)
	{
		switch (sis_csv_next(csv))
		{
			case SIS_CSV_ROW:
				if (!take_manifest_row(set, csv, file->name))
					return false;
				break;
			case SIS_CSV_BAD_ROW:
				if (!take_bad_manifest_row(set, csv, file->name))
					return false;
				break;
			case SIS_CSV_END:
				MemoryContextDelete(file_context);
				return true;
			case SIS_CSV_FAILED:
				return sis_csv_fail(csv, file->name, set->sink->failure);
		}
	}
}

/* ----------
 * The layout
 * ----------
 */

static bool
set_oneroster(CsvSet *set)
{
	if (!read_manifest(set))
		return false;
	if (find_file(set, "roles.csv") != NULL &&
		manifest_mode(set, "roles.csv") != MODE_ABSENT)
		set->is_v1p2 = true;
	set->layout = set->is_v1p2 ? &sis_csv_oneroster_v1p2 :
		&sis_csv_oneroster_v1p1;
	return true;
}

/* Takes the layout that was named, or else the one the files tell. */
static bool
set_layout(CsvSet *set, const char *named)
{
	bool		oneroster;
	bool		clever;

	if (named != NULL)
	{
		oneroster = pg_strcasecmp(named, "oneroster") == 0;
		clever = pg_strcasecmp(named, "clever") == 0;
		if (!oneroster && !clever)
			return sis_fail(set->sink->failure, SIS_ERR_NOT_CONFIGURED, NULL,
							"The layouts are oneroster and clever.", NULL,
							"layout \"%s\" does not exist", named);
	}
	else
	{
		/* a package of changes may have neither */
		oneroster = find_file(set, "orgs.csv") != NULL ||
			find_file(set, "users.csv") != NULL ||
			find_file(set, MANIFEST) != NULL;
		clever = find_file(set, "schools.csv") != NULL &&
			find_file(set, "students.csv") != NULL;
	}

	if (oneroster && clever)
		return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL,
						list_files(set),
						"Name the layout in the server's option \"layout\", or take the other files out of the folder.",
						"%s holds files of both layouts, OneRoster and Clever",
						set->files->place);
	if (!oneroster && !clever)
		return sis_fail(set->sink->failure, SIS_ERR_INCOMPLETE, NULL,
						list_files(set),
						"OneRoster has \"orgs.csv\" and \"users.csv\", Clever has \"schools.csv\" and \"students.csv\": check the server's option \"path\", or name the layout in its option \"layout\".",
						"%s holds no set of CSV files",
						set->files->place);
	if (oneroster)
		return set_oneroster(set);
	set->layout = &sis_csv_clever;
	return true;
}

/* ----------
 * Is the set whole?
 * ----------
 */

static bool
is_wanted(const CsvSet *set, const SisCsvFile *file)
{
	return !file->demographics || set->sink->wants->include_demographics;
}

static void
append_file(StringInfo buf, const char *name)
{
	appendStringInfo(buf, "%s\"%s\"", buf->len > 0 ? ", " : "",
					 sis_printable(name));
}

/* Each file that the manifest sends must be there, read by us or not. */
static bool
check_promised(const CsvSet *set)
{
	StringInfoData missing;
	ListCell   *lc;

	initStringInfo(&missing);
	foreach(lc, set->manifest)
	{
		const ManifestEntry *entry = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		/* an OneRoster set has 21 files: no need to name hundreds */
		if (missing.len < 2000 && entry->mode != MODE_ABSENT &&
			find_file(set, entry->file) == NULL)
			append_file(&missing, entry->file);
	}
	if (missing.len == 0)
		return true;
	return sis_fail(set->sink->failure, SIS_ERR_INCOMPLETE, NULL,
					list_files(set),
					"The upload may have been cut short: run the sync again when the set is whole.",
					"files are missing that the manifest names: %s",
					missing.data);
}

static bool
check_required_files(const CsvSet *set)
{
	StringInfoData missing;

	/* changes are no whole roster, and need not look like one */
	if (set->is_delta)
		return true;
	initStringInfo(&missing);
	for (int i = 0; i < set->layout->nfiles; i++)
	{
		const SisCsvFile *file = &set->layout->files[i];

		if (!file->required)
			continue;
		if (manifest_mode(set, file->name) == MODE_ABSENT)
			return sis_fail(set->sink->failure, SIS_ERR_INCOMPLETE, NULL,
							NULL, NULL,
							"the manifest says that \"%s\" is absent, and no roster is whole without it",
							file->name);
		if (find_file(set, file->name) == NULL)
			append_file(&missing, file->name);
	}
	if (missing.len == 0)
		return true;
	return sis_fail(set->sink->failure, SIS_ERR_INCOMPLETE, NULL,
					list_files(set),
					"If these are files of another layout, name it in the server's option \"layout\".",
					"%s lacks files of the layout %s: %s",
					set->files->place, set->layout->name, missing.data);
}

/*
 * Users and their roles (1.2) make one record together: changes of the one
 * cannot be told from a whole list of the other.
 */
static bool
check_modes(const CsvSet *set)
{
	FileMode	users = manifest_mode(set, "users.csv");
	FileMode	roles = manifest_mode(set, "roles.csv");

	/* changes taken for a whole list would have all else leave */
	for (int i = 0; set->is_delta && i < set->layout->nfiles; i++)
	{
		const char *name = set->layout->files[i].name;

		if (find_file(set, name) != NULL &&
			manifest_mode(set, name) == MODE_NONE)
			return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL, NULL,
							"Have the manifest say whether it is bulk, delta or absent.",
							"the package holds changes, and its manifest has no word on \"%s\"",
							name);
	}

	if (!set->is_v1p2 || !set->is_delta || users == roles ||
		users == MODE_ABSENT || roles == MODE_ABSENT)
		return true;
	return sis_fail(set->sink->failure, SIS_ERR_MALFORMED, NULL, NULL,
					"Have the source export both as bulk or both as delta.",
					"the manifest gives \"users.csv\" and \"roles.csv\" different modes");
}

/* ----------
 * Reading it
 * ----------
 */

/* A type whose only file is said to be absent is left alone. */
static void
set_absent(CsvSet *set, const SisCsvFile *file)
{
	for (int k = 0; k < file->ntypes; k++)
	{
		SisOffer   *offer = &set->sink->offer[file->types[k]];

		if (file->part == SIS_PART_BASE && *offer == SIS_OFFER_MISSING)
			*offer = SIS_OFFER_ABSENT;
	}
}

/* In a package of changes, what has no file has not changed. */
static void
set_unchanged(CsvSet *set)
{
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		if (set->sink->offer[type] != SIS_OFFER_FULL)
			set->sink->offer[type] = SIS_OFFER_DELTA;
	}
}

/*
 * Reads one file in a memory context of its own, so that no more than one is
 * open.  After a failure the context stays: its text is in there.
 */
static bool
read_file(CsvSet *set, const SisCsvFile *file,
		  const SisSetFile *set_file)
{
	MemoryContext file_context = AllocSetContextCreate(CurrentMemoryContext,
													   "sis_sync CSV file",
													   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(file_context);
	SisCsvTable *table = palloc0(sizeof(SisCsvTable));
	bool		success;

	table->file = file;
	table->source = set_file->name;
	table->sink = set->sink;
	table->state = set->state;
	table->record = set->record;
	table->encoding = choose_encoding(set, set_file);
	table->loose_headers = set->layout->loose_headers;
	table->delta = manifest_mode(set, file->name) == MODE_DELTA;
	sis_progress_type(file->types[0]);
	table->csv = table->encoding < 0 ? NULL :
		open_csv(set, set_file, table->encoding);
	success = table->csv != NULL && sis_csv_table_read(table) &&
		(table->bad_bytes == 0 || table->encoding != PG_UTF8 ||
		 note_bad_bytes(set, set_file, table->bad_bytes));

	MemoryContextSwitchTo(old);
	if (success)
		MemoryContextDelete(file_context);
	return success;
}

/* Will this file be read? */
static bool
is_read(const CsvSet *set, const SisCsvFile *file)
{
	return is_wanted(set, file) && find_file(set, file->name) != NULL &&
		manifest_mode(set, file->name) != MODE_ABSENT;
}

static bool
read_files(CsvSet *set)
{
	const SisCsvLayout *layout = set->layout;

	for (int i = 0; i < layout->nfiles; i++)
	{
		if (is_read(set, &layout->files[i]))
			sis_progress_expect_bytes(Max(find_file(set, layout->files[i].name)->size, 0));
	}
	set->record = sis_record_create();
	if (layout->start != NULL)
		set->state = layout->start(set->sink);
	for (int i = 0; i < layout->nfiles; i++)
	{
		const SisCsvFile *file = &layout->files[i];
		const SisSetFile *set_file = find_file(set, file->name);

		if (!is_wanted(set, file))
			continue;
		if (manifest_mode(set, file->name) == MODE_ABSENT)
			set_absent(set, file);
		else if (is_read(set, file) && !read_file(set, file, set_file))
			return false;
	}
	if (layout->finish != NULL)
		layout->finish(set->state, set->sink);
	return true;
}

/* What sis_csvset_fetch() leaves to sis_csvset_read(). */
typedef struct Fetched
{
	const SisSource *source;
	SisFileSet *files;
} Fetched;

static bool
is_in_layout(const SisCsvLayout *layout, const char *name)
{
	for (int i = 0; i < layout->nfiles; i++)
	{
		if (pg_strcasecmp(layout->files[i].name, name) == 0)
			return true;
	}
	return false;
}

/* May a file of that name be read?  Which layout it is shows later. */
static bool
may_be_read(const char *name)
{
	return pg_strcasecmp(name, MANIFEST) == 0 ||
		is_in_layout(&sis_csv_oneroster_v1p1, name) ||
		is_in_layout(&sis_csv_oneroster_v1p2, name) ||
		is_in_layout(&sis_csv_clever, name);
}

void *
sis_csvset_fetch(const SisSource *source, const SisWants *wants,
				 SisFailure *failure)
{
	Fetched    *fetched = palloc(sizeof(Fetched));

	fetched->source = source;
	fetched->files = sis_fileset_fetch(source, may_be_read, failure);
	return fetched->files != NULL ? fetched : NULL;
}

bool
sis_csvset_read(void *arg, SisSink *sink)
{
	const Fetched *fetched = arg;
	const char *encoding = sis_source_option(fetched->source, "encoding");
	CsvSet		set = {0};

	set.sink = sink;
	set.files = fetched->files;
	set.encoding = encoding != NULL ? pg_char_to_encoding(encoding) : PG_UTF8;
	if (!check_names(&set) ||
		!set_layout(&set, sis_source_option(fetched->source, "layout")) ||
		!check_promised(&set) ||
		!check_required_files(&set) ||
		!check_modes(&set))
		return false;

	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		sink->offer[type] = SIS_OFFER_MISSING;
	sink->district_id = NULL;
	if (!read_files(&set))
		return false;
	if (set.is_delta)
		set_unchanged(&set);
	/* a host that tells no times gives the beginning of time */
	sink->as_of = set.newest > 0 ? time_t_to_timestamptz(set.newest) : 0;
	return true;
}
