/*
 * explain.c
 *		sis_sync.explain_failure(): a run's end in words, and what to do next.
 *
 * For whoever looks after a district's sync and has never seen this one: what
 * happened, how far it is from the limit, who it is about, what has likely
 * caused it, and the statements to type next.  What is known of each error
 * stands in explain_words.c; this file adds the figures and the names.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/value.h"
#include "catalog/namespace.h"
#include "explain_words.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "runlog.h"
#include "utils/builtins.h"
#include "utils/rls.h"

/* So many records of a type, schools, reasons … are shown. */
#define MAX_SAMPLES	5

typedef struct Explained
{
	SisRun	   *run;
	SisPastRun	past;
	char	   *started;
	char	   *run_by;
	char	   *reason;
	char	   *message;
	char	   *detail;
	char	   *hint;
	StringInfoData text;
} Explained;

static void
load_words_of_run(Explained *ex)
{
	SisParams	params = {0};

	sis_param_int8(&params, ex->run->id);
	sis_exec_as_owner("SELECT to_char(started_at, 'YYYY-MM-DD HH24:MI TZ'), run_by, reason, message, detail, hint "
					  "FROM sis_sync.run WHERE id = $1",
					  &params, SPI_OK_SELECT);
	ex->started = sis_value(0, 1);
	ex->run_by = sis_value(0, 2);
	ex->reason = sis_value(0, 3);
	ex->message = sis_value(0, 4);
	ex->detail = sis_value(0, 5);
	ex->hint = sis_value(0, 6);
}

static void
heading(Explained *ex, const char *text)
{
	appendStringInfo(&ex->text, "\n%s\n", text);
}

/*
 * Appends a text with the marks of explain_words.h replaced.
 */
static void
append_words(Explained *ex, const char *words)
{
	const SisSync *sync = ex->run->sync;
	struct
	{
		const char *mark;
		char	   *value;
	}			marks[] = {
		{"{run}", psprintf("%lld", (long long) ex->run->id)},
		{"{sync}", quote_literal_cstr(sync->name)},
		{"{server}", (char *) quote_identifier(sync->server)},
		{"{server_literal}", quote_literal_cstr(sync->server)},
		{"{roster}", (char *) quote_identifier(sync->target_schema)},
		{"{roster_literal}", quote_literal_cstr(quote_identifier(sync->target_schema))}
	};

	while (*words != '\0')
	{
		bool		found = false;

		for (int i = 0; i < (int) lengthof(marks) && !found; i++)
		{
			size_t		len = strlen(marks[i].mark);

			found = strncmp(words, marks[i].mark, len) == 0;
			if (found)
			{
				appendStringInfoString(&ex->text, marks[i].value);
				words += len;
			}
		}
		if (!found)
			appendStringInfoChar(&ex->text, *words++);
	}
	appendStringInfoChar(&ex->text, '\n');
}

/* ----------
 * Names, for those who may read the roster
 * ----------
 */

static bool
may_read_roster(const SisSync *sync)
{
	Oid			nspid = get_namespace_oid(sync->target_schema, true);

	if (!OidIsValid(nspid) ||
		sis_namespace_aclcheck(nspid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		return false;
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		Oid			relid = get_relname_relid(sis_record_desc((SisRecordType) t)->name, nspid);

		if (!OidIsValid(relid) ||
			pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
			check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
			return false;
	}
	return true;
}

/* A text over alias t by which people know a record. */
static const char *
name_sql(SisRecordType type)
{
	switch (type)
	{
		case SIS_STUDENT:
		case SIS_STAFF:
		case SIS_CONTACT:
			return "concat_ws(' ', t.given_name, t.family_name)";
		case SIS_ENROLLMENT:
			return "concat_ws(' ', t.role, t.person_source_id, 'in section', t.section_source_id)";
		case SIS_STUDENT_CONTACT:
			return "concat_ws(' ', 'contact', t.contact_source_id, 'of student', t.student_source_id)";
		default:
			return "t.name";
	}
}

static void
append_samples(Explained *ex, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	SisParams	params = {0};
	uint64		n;
	int64		total;

	sis_param_int8(&params, ex->run->id);
	sis_param_int8(&params, ex->run->sync->id);
	n = sis_exec_on_roster(psprintf("SELECT p.source_id, %s, p.school_source_id, p.reason, count(*) OVER () "
									"FROM sis_sync.pending_archive p LEFT JOIN %s t ON t.sync_id = $2 AND t.source_id = p.source_id "
									"WHERE p.run_id = $1 AND p.record_type = '%s' ORDER BY p.source_id LIMIT %d",
									name_sql(type), ex->run->roster->tables[type],
									name, MAX_SAMPLES),
						   &params);
	if (n == 0)
		return;
	total = sis_value_int8(0, 5);
	appendStringInfo(&ex->text, "  %s, %lld in all:\n", name, (long long) total);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *known_as = sis_value(i, 2);
		char	   *school = sis_value(i, 3);

		appendStringInfo(&ex->text, "    - %s (ID %s%s%s): %s\n",
						 known_as != NULL && known_as[0] != '\0' ? known_as : "without a name",
						 sis_value(i, 1), school ? ", school " : "",
						 school ? school : "", sis_value(i, 4));
	}
	if (total > (int64) n)
		appendStringInfo(&ex->text, "    - and %lld more\n", (long long) (total - (int64) n));
}

static void
append_who(Explained *ex)
{
	heading(ex, "WHO IT IS");
	if (!may_read_roster(ex->run->sync))
	{
		append_words(ex, "  Names are shown to those who may read roster {roster}; the IDs are in sis_sync.pending_archive.");
		return;
	}
	ex->run->roster = sis_roster_open_to_read(ex->run->sync->target_schema);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		append_samples(ex, (SisRecordType) t);
}

/* ----------
 * Figures
 * ----------
 */

static void
append_limit(Explained *ex, const char *of, const char *type, int64 to_archive,
			 int64 in_force, int64 allowed)
{
	if (to_archive > allowed)
		appendStringInfo(&ex->text, "  %s, type %s: %lld of %lld would be archived, %lld may be: %lld too many.\n",
						 of, type, (long long) to_archive, (long long) in_force,
						 (long long) allowed, (long long) (to_archive - allowed));
	else
		appendStringInfo(&ex->text, "  %s, type %s: all %lld of %lld would be archived; a school that loses everybody always stops.\n",
						 of, type, (long long) to_archive, (long long) in_force);
}

static void
append_limits(Explained *ex)
{
	SisParams	params = {0};
	uint64		n;

	heading(ex, "HOW FAR FROM THE LIMIT");
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const SisCounts *counts = &ex->run->counts[t];

		if (counts->to_archive > counts->allowed)
			append_limit(ex, "  Whole district", sis_record_desc((SisRecordType) t)->name,
						 counts->to_archive, counts->in_force, counts->allowed);
	}
	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner("SELECT school_source_id, record_type, to_archive, in_force, allowed, count(*) OVER () "
						  "FROM sis_sync.run_school WHERE run_id = $1 AND tripped "
						  "ORDER BY to_archive DESC, school_source_id, record_type LIMIT 20",
						  &params, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
		append_limit(ex, psprintf("  School %s", sis_value(i, 1)), sis_value(i, 2),
					 sis_value_int8(i, 3), sis_value_int8(i, 4), sis_value_int8(i, 5));
	if (n > 0 && sis_value_int8(0, 6) > (int64) n)
		appendStringInfo(&ex->text, "    And %lld more: see sis_sync.run_school.\n",
						 (long long) (sis_value_int8(0, 6) - (int64) n));

	n = sis_exec_as_owner("SELECT record_type, reason, count(*) FROM sis_sync.pending_archive "
						  "WHERE run_id = $1 GROUP BY 1, 2 ORDER BY 3 DESC",
						  &params, SPI_OK_SELECT);
	if (n > 0)
		appendStringInfoString(&ex->text, "  Held back, and why they seem to be gone:\n");
	for (uint64 i = 0; i < n; i++)
		appendStringInfo(&ex->text, "    %s %s: %s\n", sis_value(i, 3),
						 sis_value(i, 1), sis_value(i, 2));
}

static void
append_rejects(Explained *ex)
{
	SisParams	params = {0};
	uint64		n;

	heading(ex, "WHAT WAS REJECTED");
	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner(psprintf("SELECT record_type, reason, coalesce(column_name, ''), count(*), source, min(line) "
								   "FROM sis_sync.reject WHERE run_id = $1 AND NOT loaded "
								   "GROUP BY 1, 2, 3, 5 ORDER BY 4 DESC, 1, 2 LIMIT %d", MAX_SAMPLES),
						  &params, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *column = sis_value(i, 3);
		char	   *line = sis_value(i, 6);

		appendStringInfo(&ex->text, "  %s rows of type %s, file %s, first in line %s: %s%s%s\n",
						 sis_value(i, 4), sis_value(i, 1), sis_value(i, 5),
						 line ? line : "?", column, column[0] ? ": " : "",
						 sis_value(i, 2));
	}
}

static void
append_pairs(Explained *ex)
{
	SisParams	params = {0};
	uint64		n;
	bool		names = may_read_roster(ex->run->sync);

	heading(ex, "OLD AND NEW IDs");
	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner(psprintf("SELECT record_type, old_source_id, new_source_id, matched_on, "
								   "concat_ws(' ', given_name, family_name), count(*) OVER () "
								   "FROM sis_sync.rekey_twin WHERE run_id = $1 ORDER BY 1, 2 LIMIT %d",
								   MAX_SAMPLES),
						  &params, SPI_OK_SELECT);
	if (n == 0)
		append_words(ex, "  No pair was found: the new records share nothing with those that are gone.");
	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = sis_value(i, 5);

		appendStringInfo(&ex->text, "  %s %s is now %s%s%s (the same %s)\n",
						 sis_value(i, 1), sis_value(i, 2), sis_value(i, 3),
						 names && name[0] ? ": " : "", names ? name : "",
						 sis_value(i, 4));
	}
	if (n > 0 && sis_value_int8(0, 6) > (int64) n)
		append_words(ex, psprintf("  And %lld more: SELECT * FROM sis_sync.rekey_twin WHERE run_id = {run};",
								  (long long) (sis_value_int8(0, 6) - (int64) n)));
}

/* The schools that came, beside those that are set up. */
static void
append_schools(Explained *ex)
{
	SisParams	params = {0};
	uint64		n;

	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner("SELECT coalesce(sis_id, source_id), name FROM sis_sync.stage_school "
						  "WHERE run_id = $1 AND status = 'active' ORDER BY 1 LIMIT 20",
						  &params, SPI_OK_SELECT);
	heading(ex, "SCHOOLS IN THE SOURCE");
	if (n == 0)
		append_words(ex, "  None that can be shown: the staged rows of this run are gone.");
	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = sis_value(i, 2);

		appendStringInfo(&ex->text, "  %s%s%s\n", sis_printable(sis_value(i, 1)),
						 name ? ": " : "", name ? sis_printable(name) : "");
	}
}

/* What a run did that did not fail. */
static void
append_counts(Explained *ex)
{
	heading(ex, "WHAT IT DID");
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const SisCounts *counts = &ex->run->counts[t];

		if (counts->created + counts->updated + counts->restored + counts->archived > 0)
			appendStringInfo(&ex->text, "  %s: %lld created, %lld updated, %lld restored, %lld archived\n",
							 sis_record_desc((SisRecordType) t)->name,
							 (long long) counts->created, (long long) counts->updated,
							 (long long) counts->restored, (long long) counts->archived);
	}
}

/* ----------
 * The whole text
 * ----------
 */

static void
append_title(Explained *ex, const SisExplanation *words)
{
	const char *status = ex->past.status;

	appendStringInfo(&ex->text, "Run %lld of sync \"%s\", %s, by %s: ",
					 (long long) ex->run->id, ex->run->sync->name, ex->started,
					 ex->run_by);
	if (ex->past.error_code != NULL)
		appendStringInfo(&ex->text, "failed, %s (%s).\n",
						 ex->reason ? ex->reason : words->title,
						 ex->past.error_code);
	else
		appendStringInfo(&ex->text, "%s.\n", strcmp(status, "running") == 0 ?
						 "has not ended" : status);
	if (ex->run->dry_run)
		appendStringInfoString(&ex->text, "It was a dry run: it has changed nothing, and shows what a real one would come to.\n");
	if (ex->past.undone_by != 0)
		appendStringInfo(&ex->text, "What it did was undone by run %lld.\n",
						 (long long) ex->past.undone_by);
	if (ex->past.later != 0 && ex->past.error_code != NULL)
		appendStringInfo(&ex->text, "It is not the last word: run %lld came after it. Explain that one first.\n",
						 (long long) ex->past.later);
}

static void
append_message(Explained *ex)
{
	if (ex->message != NULL)
		appendStringInfo(&ex->text, "  The error was: %s.\n", ex->message);
	if (ex->detail != NULL)
	{
		StringInfoData indented;

		initStringInfo(&indented);
		for (const char *c = ex->detail; *c != '\0'; c++)
		{
			appendStringInfoChar(&indented, *c);
			if (*c == '\n')
				appendStringInfoString(&indented, "    ");
		}
		appendStringInfo(&ex->text, "    %s\n", indented.data);
	}
}

static void
append_approval(Explained *ex)
{
	SisParams	params = {0};

	sis_param_int8(&params, ex->run->id);
	if (sis_exec_as_owner("SELECT approved_by, reason, spent_run, expires_at <= now(), "
						  "to_char(expires_at, 'YYYY-MM-DD HH24:MI TZ') FROM sis_sync.approval WHERE run_id = $1",
						  &params, SPI_OK_SELECT) == 0)
		return;
	appendStringInfo(&ex->text, "  It was approved by %s (%s)", sis_value(0, 1), sis_value(0, 2));
	if (sis_value(0, 3) != NULL)
		appendStringInfo(&ex->text, ", and run %s has used that.\n", sis_value(0, 3));
	else if (sis_value_bool(0, 4))
		appendStringInfo(&ex->text, ", but that lapsed at %s.\n", sis_value(0, 5));
	else
		appendStringInfo(&ex->text, "; the next run uses that until %s.\n", sis_value(0, 5));
}

static void
append_figures(Explained *ex, const SisExplanation *words)
{
	switch (words->figures)
	{
		case SIS_FIGURES_LIMITS:
			append_limits(ex);
			append_who(ex);
			break;
		case SIS_FIGURES_PAIRS:
			append_pairs(ex);
			append_who(ex);
			break;
		case SIS_FIGURES_REJECTS:
			append_rejects(ex);
			break;
		case SIS_FIGURES_SCHOOLS:
			append_schools(ex);
			break;
		case SIS_FIGURES_COUNTS:
			append_counts(ex);
			break;
		case SIS_FIGURES_NONE:
			break;
	}
}

static char *
explain(int64 run_id)
{
	Explained	ex = {0};
	const SisExplanation *words;

	ex.run = sis_runlog_read(run_id, &ex.past);
	sis_runlog_check_reader(ex.run);
	load_words_of_run(&ex);
	words = sis_explanation_of(ex.past.status, ex.past.error_code);
	initStringInfo(&ex.text);

	append_title(&ex, words);
	heading(&ex, "WHAT HAPPENED");
	append_words(&ex, words->what);
	append_message(&ex);
	append_approval(&ex);
	if (ex.run->note.len > 0)
		appendStringInfo(&ex.text, "  Note: %s\n", ex.run->note.data);
	append_figures(&ex, words);
	if (words->cause != NULL)
	{
		heading(&ex, "WHAT LIKELY CAUSED IT");
		append_words(&ex, words->cause);
	}
	heading(&ex, "WHAT TO DO NEXT");
	if (ex.run->dry_run && (words->figures == SIS_FIGURES_LIMITS ||
							words->figures == SIS_FIGURES_PAIRS))
		append_words(&ex, "  0. A dry run cannot be decided on. Run the sync, then have that run explained:\n"
					 "    CALL sis_sync.run({sync});");
	append_words(&ex, words->next);
	if (ex.hint != NULL && words->shows_hint)
		appendStringInfo(&ex.text, "  The error itself advises: %s\n", ex.hint);
	return ex.text.data;
}

SIS_FUNCTION(sis_explain_failure);
Datum
sis_explain_failure(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	text	   *result;
	char	   *words;
	MemoryContext old;

	sis_connect(0);
	words = explain(PG_GETARG_INT64(0));
	old = MemoryContextSwitchTo(cxt);
	result = cstring_to_text(words);
	MemoryContextSwitchTo(old);
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}
