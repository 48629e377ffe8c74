/*
 * explain_records.c
 *		The records that a run is about, in figures and names, for the words of
 *		sis_sync.explain_failure().
 *
 * Names are shown to those who may read the roster, and to nobody else.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/value.h"
#include "catalog/namespace.h"
#include "explain.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rls.h"

/* So many schools that tripped are listed. */
#define MAX_SCHOOLS	20

/* Why a record is gone: as pending_archive has it, a fact's name, and words. */
typedef struct Reason
{
	const char *logged;
	const char *fact;
	const char *words;
} Reason;

static const Reason reasons[] = {
	{"not in the feed", "is_missing", "not in the export"},
	{"deleted in the source", "is_deleted", "deleted in the source"},
	{"left scope", "has_moved", "now at a school that is not set up"},
	{"goes with its end", NULL, "goes with its person, section or student"}
};

static const char *
reason_in_words(const char *logged)
{
	for (int i = 0; i < (int) lengthof(reasons); i++)
	{
		if (strcmp(reasons[i].logged, logged) == 0)
			return reasons[i].words;
	}
	return logged;
}

/* The list's next line, where it stands after two spaces. */
static void
next_line(StringInfo list)
{
	if (list->len > 0)
		appendStringInfoString(list, "\n  ");
}

static const char *
or_null(const StringInfoData *list)
{
	return list->len > 0 ? list->data : NULL;
}

/* ----------
 * Names
 * ----------
 */

bool
sis_may_read_roster(const SisSync *sync)
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
		default:
			return "t.name";
	}
}

static void
append_samples(const SisExplained *ex, SisRecordType type, StringInfo list)
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
									name, SIS_EXPLAIN_SAMPLES),
						   &params);
	if (n == 0)
		return;
	total = sis_value_int8(0, 5);
	next_line(list);
	appendStringInfo(list, "%s, %lld in all:", name, (long long) total);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *known_as = sis_value(i, 2);
		char	   *school = sis_value(i, 3);

		appendStringInfo(list, "\n    - %s (ID %s%s%s): %s",
						 known_as != NULL && known_as[0] != '\0' ?
						 sis_printable(known_as) : "without a name",
						 sis_printable(sis_value(i, 1)), school ? ", school " : "",
						 school ? sis_printable(school) : "",
						 reason_in_words(sis_value(i, 4)));
	}
	if (total > (int64) n)
		appendStringInfo(list, "\n    - and %lld more", (long long) (total - (int64) n));
}

/* Links have no names: they are in the figures only. */
static void
facts_names(SisExplained *ex)
{
	StringInfoData list;

	if (!sis_may_read_roster(ex->run->sync))
	{
		sis_fact(ex, "who", psprintf("Names are shown to those who may read the tables of schema %s; the IDs are in sis_sync.pending_archive.",
									 quote_identifier(ex->run->sync->target_schema)));
		return;
	}
	ex->run->roster = sis_roster_open_to_read(ex->run->sync->target_schema);
	initStringInfo(&list);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		if (!sis_record_desc((SisRecordType) t)->is_link)
			append_samples(ex, (SisRecordType) t, &list);
	}
	sis_fact(ex, "who", or_null(&list));
}

/* ----------
 * What was held back
 * ----------
 */

/* {held}: "155 records: 31 student, …"; why they are gone, all and each. */
static void
facts_held(SisExplained *ex)
{
	SisParams	params = {0};
	StringInfoData types,
				why;
	int64		total = 0;
	uint64		n;

	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner("SELECT record_type, count(*) FROM sis_sync.pending_archive "
						  "WHERE run_id = $1 GROUP BY 1 ORDER BY 2 DESC, 1",
						  &params, SPI_OK_SELECT);
	initStringInfo(&types);
	for (uint64 i = 0; i < n; i++)
	{
		appendStringInfo(&types, "%s%s %s", i > 0 ? ", " : "",
						 sis_value(i, 2), sis_value(i, 1));
		total += sis_value_int8(i, 2);
	}
	sis_fact(ex, "held", total == 0 ? NULL :
			 psprintf("%lld record%s: %s", (long long) total,
					  total == 1 ? "" : "s", types.data));

	n = sis_exec_as_owner("SELECT reason, count(*) FROM sis_sync.pending_archive "
						  "WHERE run_id = $1 GROUP BY 1 ORDER BY 2 DESC, 1",
						  &params, SPI_OK_SELECT);
	initStringInfo(&why);
	for (uint64 i = 0; i < n; i++)
		appendStringInfo(&why, "%s%s %s", i > 0 ? ", " : "",
						 n == 1 ? "all of them" : sis_value(i, 2),
						 reason_in_words(sis_value(i, 1)));
	sis_fact(ex, "held_why", or_null(&why));
	for (int r = 0; r < (int) lengthof(reasons); r++)
	{
		bool		occurs = false;

		for (uint64 i = 0; i < n && !occurs; i++)
			occurs = strcmp(sis_value(i, 1), reasons[r].logged) == 0;
		if (reasons[r].fact != NULL)
			sis_fact_if(ex, reasons[r].fact, occurs);
	}
}

/* ----------
 * The threshold
 * ----------
 */

static void
append_limit(StringInfo list, const char *of, const char *type, int64 to_archive,
			 int64 in_force, int64 allowed)
{
	next_line(list);
	if (to_archive > allowed)
		appendStringInfo(list, "%s, type %s: %lld of %lld would be archived, %lld may be: %lld too many.",
						 of, type, (long long) to_archive, (long long) in_force,
						 (long long) allowed, (long long) (to_archive - allowed));
	else
		appendStringInfo(list, "%s, type %s: all %lld of %lld would be archived; a school that loses everybody always stops.",
						 of, type, (long long) to_archive, (long long) in_force);
}

static void
facts_limits(SisExplained *ex)
{
	SisParams	params = {0};
	StringInfoData list;
	bool		whole_school = false;
	uint64		n;

	initStringInfo(&list);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const SisCounts *counts = &ex->run->counts[t];

		if (counts->to_archive > counts->allowed)
			append_limit(&list, "Whole district", sis_record_desc((SisRecordType) t)->name,
						 counts->to_archive, counts->in_force, counts->allowed);
	}
	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner("SELECT school_source_id, record_type, to_archive, in_force, allowed, to_archive >= in_force "
						  "FROM sis_sync.run_school WHERE run_id = $1 AND tripped "
						  "ORDER BY to_archive DESC, school_source_id, record_type",
						  &params, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		whole_school |= sis_value_bool(i, 6);
		if (i < MAX_SCHOOLS)
			append_limit(&list, psprintf("School %s", sis_printable(sis_value(i, 1))), sis_value(i, 2),
						 sis_value_int8(i, 3), sis_value_int8(i, 4), sis_value_int8(i, 5));
	}
	if (n > MAX_SCHOOLS)
	{
		next_line(&list);
		appendStringInfo(&list, "And %lld more: see sis_sync.run_school.",
						 (long long) (n - MAX_SCHOOLS));
	}
	sis_fact(ex, "limits", or_null(&list));
	sis_fact_if(ex, "whole_school", whole_school);
	sis_fact_if(ex, "creep", ex->detail != NULL && strstr(ex->detail, " would be archived within ") != NULL);
}

/*
 * {raise}: the statement by which this run would pass, until {season}; NULL
 * where only 100 percent would do, which is no limit at all.  {needed}: the
 * percent that the type furthest from its limit needs.
 */
static void
facts_raise(SisExplained *ex)
{
	SisParams	params = {0};
	StringInfoData values;
	char	   *season = NULL;
	int64		needed = 0;
	uint64		n;

	sis_param_int8(&params, ex->run->id);
	sis_param_text(&params, ex->run->sync->name);
	n = sis_exec_as_owner("SELECT x.record_type, max(x.percent)::int8, to_char(now() + '14 days', 'YYYY-MM-DD') FROM ("
						  "SELECT record_type, ceil(to_archive * 100.0 / greatest(in_force, 1)) AS percent "
						  "FROM sis_sync.run_count WHERE run_id = $1 AND to_archive > allowed "
						  "UNION ALL "
						  "SELECT r.record_type, CASE WHEN r.to_archive >= r.in_force AND r.in_force >= 5 THEN 100 "
						  "ELSE ceil(r.to_archive * 100.0 / greatest(r.in_force, s.school_min_records, 1)) END "
						  "FROM sis_sync.run_school r JOIN sis_sync.sync s ON s.name = $2 WHERE r.run_id = $1 AND r.tripped) x "
						  "GROUP BY 1 ORDER BY 2 DESC, 1",
						  &params, SPI_OK_SELECT);
	initStringInfo(&values);
	for (uint64 i = 0; i < n; i++)
	{
		season = sis_value(i, 3);
		needed = Max(needed, sis_value_int8(i, 2));
		appendStringInfo(&values, "%s(%s, '%s', %s, '%s')", i > 0 ? ", " : "",
						 quote_literal_cstr(ex->run->sync->name), sis_value(i, 1),
						 sis_value(i, 2), season);
	}
	sis_fact(ex, "season", season);
	sis_fact_count(ex, "needed", needed < 100 ? needed : 0);
	sis_fact(ex, "raise", needed == 0 || needed >= 100 ? NULL :
			 psprintf("INSERT INTO sis_sync.sync_threshold (sync, record_type, percent, valid_until) VALUES %s "
					  "ON CONFLICT (sync, record_type) DO UPDATE SET percent = excluded.percent, valid_until = excluded.valid_until;",
					  values.data));
}

void
sis_facts_threshold(SisExplained *ex)
{
	facts_limits(ex);
	facts_held(ex);
	facts_raise(ex);
	facts_names(ex);
}

/* ----------
 * IDs that have changed
 * ----------
 */

static void
facts_matches(SisExplained *ex)
{
	SisParams	params = {0};
	StringInfoData list;
	int64		unmatched = 0;
	bool		zeros = false;
	uint64		n;

	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner("SELECT p.record_type, count(*), count(k.old_source_id), "
						  "coalesce(bool_or(ltrim(k.old_source_id, '0') = ltrim(k.new_source_id, '0')), false) "
						  "FROM sis_sync.pending_archive p LEFT JOIN sis_sync.rekey_pair k ON k.run_id = p.run_id "
						  "AND k.record_type = p.record_type AND k.old_source_id = p.source_id "
						  "WHERE p.run_id = $1 GROUP BY 1 ORDER BY 1 DESC",
						  &params, SPI_OK_SELECT);
	initStringInfo(&list);
	for (uint64 i = 0; i < n; i++)
	{
		int64		gone = sis_value_int8(i, 2);
		int64		matched = sis_value_int8(i, 3);

		next_line(&list);
		appendStringInfo(&list, "%s: of %lld that are gone, %lld have a match among the new ones, %lld have none.",
						 sis_value(i, 1), (long long) gone, (long long) matched,
						 (long long) (gone - matched));
		unmatched += gone - matched;
		zeros |= sis_value_bool(i, 4);
	}
	sis_fact(ex, "matches", or_null(&list));
	sis_fact_count(ex, "unmatched", unmatched);
	sis_fact_if(ex, "zeros", zeros);
}

static void
facts_pairs(SisExplained *ex)
{
	SisParams	params = {0};
	StringInfoData list;
	bool		names = sis_may_read_roster(ex->run->sync);
	uint64		n;

	sis_param_int8(&params, ex->run->id);
	n = sis_exec_as_owner(psprintf("SELECT record_type, old_source_id, new_source_id, matched_on, "
								   "concat_ws(' ', given_name, family_name), count(*) OVER () "
								   "FROM sis_sync.rekey_match WHERE run_id = $1 ORDER BY 1 DESC, 2 LIMIT %d",
								   SIS_EXPLAIN_SAMPLES),
						  &params, SPI_OK_SELECT);
	initStringInfo(&list);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = sis_value(i, 5);

		next_line(&list);
		appendStringInfo(&list, "%s %s is now %s%s%s (the same %s)",
						 sis_value(i, 1), sis_printable(sis_value(i, 2)),
						 sis_printable(sis_value(i, 3)),
						 names && name[0] ? ": " : "",
						 names ? sis_printable(name) : "", sis_value(i, 4));
	}
	if (n > 0 && sis_value_int8(0, 6) > (int64) n)
	{
		next_line(&list);
		appendStringInfo(&list, "And %lld more.",
						 (long long) (sis_value_int8(0, 6) - (int64) n));
	}
	sis_fact(ex, "pairs", or_null(&list));
}

void
sis_facts_rekeyed(SisExplained *ex)
{
	facts_held(ex);
	facts_matches(ex);
	facts_pairs(ex);
}

/* ----------
 * Rejected rows, and what was done
 * ----------
 */

void
sis_facts_rejects(SisExplained *ex)
{
	SisParams	params = {0};
	StringInfoData list;
	uint64		n;

	sis_param_int8(&params, ex->run->id);
	sis_exec_as_owner("SELECT coalesce(bool_or(reason LIKE '%not valid UTF-8%'), false) "
					  "FROM sis_sync.reject WHERE run_id = $1 AND NOT loaded",
					  &params, SPI_OK_SELECT);
	sis_fact_if(ex, "bytes", sis_value_bool(0, 1));
	n = sis_exec_as_owner(psprintf("SELECT record_type, reason, coalesce(column_name, ''), count(*), source, min(line) "
								   "FROM sis_sync.reject WHERE run_id = $1 AND NOT loaded "
								   "GROUP BY 1, 2, 3, 5 ORDER BY 4 DESC, 1, 2 LIMIT %d", SIS_EXPLAIN_SAMPLES),
						  &params, SPI_OK_SELECT);
	initStringInfo(&list);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *column = sis_value(i, 3);
		char	   *line = sis_value(i, 6);

		next_line(&list);
		appendStringInfo(&list, "%s rows of type %s, in %s%s%s: %s%s%s",
						 sis_value(i, 4), sis_value(i, 1),
						 sis_printable(sis_value(i, 5)), line ? ", first in line " : "", line ? line : "",
						 column, column[0] ? ": " : "", sis_value(i, 2));
	}
	sis_fact(ex, "rejects", or_null(&list));
	sis_facts_source(ex);
}

void
sis_facts_counts(SisExplained *ex)
{
	bool		dry = ex->run->dry_run;
	StringInfoData list;

	initStringInfo(&list);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const SisCounts *counts = &ex->run->counts[t];
		int64		archived = dry ? counts->to_archive : counts->archived;

		if (counts->created + counts->updated + counts->restored + archived == 0)
			continue;
		next_line(&list);
		appendStringInfo(&list, "%s: %lld created, %lld updated, %lld restored, %lld archived",
						 sis_record_desc((SisRecordType) t)->name,
						 (long long) counts->created, (long long) counts->updated,
						 (long long) counts->restored, (long long) archived);
	}
	sis_fact(ex, "did", or_null(&list));
	sis_fact_if(ex, "undone", ex->past.undone_by != 0);
}
