/*
 * explain_schools.c
 *		Which schools a sync is set up for and which came, for the words of
 *		sis_sync.explain_failure().
 */
#include "postgres.h"

#include "base/spi.h"
#include "base/value.h"
#include "explain.h"
#include "guard.h"
#include "utils/builtins.h"

/* So many schools of the source are listed. */
#define MAX_SCHOOLS	20

/* The newest run of the sync whose staged schools can still be read. */
static int64
run_with_schools(const SisExplained *ex)
{
	SisParams	params = {0};

	sis_param_text(&params, ex->run->sync->name);
	sis_param_int8(&params, ex->run->id);
	sis_exec_as_owner("SELECT max(s.run_id) FROM sis_sync.stage_school s JOIN sis_sync.run r ON r.id = s.run_id "
					  "WHERE r.sync = $1 AND s.run_id <= $2 AND s.status = 'active'",
					  &params, SPI_OK_SELECT);
	return sis_value_int8(0, 1);
}

/* Lists the schools that came, and returns their IDs, of both kinds. */
static char **
facts_received(SisExplained *ex, int64 run_id, int *nids)
{
	SisParams	params = {0};
	StringInfoData list;
	char	  **ids;
	uint64		n;

	sis_param_int8(&params, run_id);
	n = sis_exec_as_owner("SELECT coalesce(sis_id, source_id), source_id, name FROM sis_sync.stage_school "
						  "WHERE run_id = $1 AND status = 'active' ORDER BY 1",
						  &params, SPI_OK_SELECT);
	ids = palloc(sizeof(char *) * (2 * n + 1));
	*nids = 0;
	initStringInfo(&list);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *id = sis_value(i, 1);
		char	   *source_id = sis_value(i, 2);
		char	   *name = sis_value(i, 3);

		ids[(*nids)++] = id;
		ids[(*nids)++] = source_id;
		if (i == MAX_SCHOOLS)
			appendStringInfo(&list, "\n  and %lld more", (long long) (n - i));
		if (i >= MAX_SCHOOLS)
			continue;
		appendStringInfo(&list, "%s%s", i > 0 ? "\n  " : "", sis_printable(id));
		if (strcmp(id, source_id) != 0)
			appendStringInfo(&list, " (or %s)", sis_printable(source_id));
		if (name != NULL)
			appendStringInfo(&list, ": %s", sis_printable(name));
	}
	sis_fact(ex, "schools", n > 0 ? list.data : NULL);
	return ids;
}

/* How many students on record are at a school; -1: not known. */
static int64
count_students(SisExplained *ex, const char *school_id)
{
	SisParams	params = {0};

	if (!sis_may_read_roster(ex->run->sync))
		return -1;
	ex->run->roster = sis_roster_open_to_read(ex->run->sync->target_schema);
	sis_param_int8(&params, ex->run->sync->id);
	sis_param_text(&params, school_id);
	sis_exec_on_roster(psprintf("SELECT count(*) FROM %s s WHERE s.sync_id = $1 AND s.sis_managed AND s.archived_at IS NULL "
								"AND EXISTS (SELECT 1 FROM %s c WHERE c.sync_id = $1 AND (c.sis_id = btrim($2) OR c.source_id = btrim($2)) "
								"AND (c.source_id = s.school_source_id OR c.source_id = ANY (s.school_source_ids)))",
								ex->run->roster->tables[SIS_STUDENT],
								ex->run->roster->tables[SIS_SCHOOL]),
					   &params);
	return sis_value_int8(0, 1);
}

/* The schools that are set up and did not come, and how to correct each. */
static void
facts_missing(SisExplained *ex, char **ids, int nids)
{
	const char *sync = quote_literal_cstr(ex->run->sync->name);
	SisParams	params = {0};
	StringInfoData missing,
				renamed,
				retired,
				removed;
	char	  **names;
	uint64		rows,
				n = 0;

	sis_param_text(&params, ex->run->sync->name);
	rows = sis_exec_as_owner("SELECT c.school_id FROM sis_sync.sync_school c WHERE c.sync = $1 ORDER BY 1",
							 &params, SPI_OK_SELECT);
	names = palloc(sizeof(char *) * (rows + 1));
	for (uint64 i = 0; i < rows; i++)
	{
		char	   *id = sis_value(i, 1);

		/* which of them did not come was judged by the run */
		if (ex->detail != NULL &&
			strstr(ex->detail, psprintf("\"%s\"", sis_printable(id))) != NULL)
			names[n++] = id;
	}
	initStringInfo(&missing);
	initStringInfo(&renamed);
	initStringInfo(&retired);
	initStringInfo(&removed);
	for (uint64 i = 0; i < Min(n, SIS_EXPLAIN_SAMPLES); i++)
	{
		const char *near = sis_guard_nearest(names[i], ids, nids);
		const char *literal = quote_literal_cstr(names[i]);
		int64		students = count_students(ex, names[i]);

		appendStringInfo(&missing, "%s\"%s\"", i > 0 ? "\n  " : "",
						 sis_printable(names[i]));
		if (near != NULL)
			appendStringInfo(&missing, "; \"%s\" came, which is spelled most alike (that alone proves nothing)",
							 sis_printable(near));
		if (students >= 0)
			appendStringInfo(&missing, "; %lld students on record are at the school that was not found",
							 (long long) students);
		appendStringInfo(&renamed, "%sUPDATE sis_sync.sync_school SET school_id = <NEW ID> WHERE sync = %s AND school_id = %s;",
						 i > 0 ? "\n    " : "", sync, literal);
		appendStringInfo(&retired, "%sCALL sis_sync.retire_school(%s, %s, <WHY>);",
						 i > 0 ? "\n    " : "", sync, literal);
		appendStringInfo(&removed, "%sDELETE FROM sis_sync.sync_school WHERE sync = %s AND school_id = %s;",
						 i > 0 ? "\n    " : "", sync, literal);
	}
	if (n > SIS_EXPLAIN_SAMPLES)
		appendStringInfo(&missing, "\n  and %lld more",
						 (long long) (n - SIS_EXPLAIN_SAMPLES));
	sis_fact(ex, "schools_missing", n > 0 ? missing.data : NULL);
	sis_fact(ex, "schools_renamed", n > 0 ? renamed.data : NULL);
	sis_fact(ex, "schools_retired", n > 0 ? retired.data : NULL);
	sis_fact(ex, "schools_removed", n > 0 ? removed.data : NULL);
	sis_fact_if(ex, "no_school_is_left", n > 0 && n == (uint64) ex->run->sync->nschools &&
				!ex->run->sync->all_schools);
}

void
sis_facts_schools(SisExplained *ex)
{
	int64		run_id = run_with_schools(ex);
	int			nids;
	char	  **ids = facts_received(ex, run_id, &nids);

	facts_missing(ex, ids, nids);
	sis_facts_source(ex);
}
