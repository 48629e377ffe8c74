/*
 * retire.c
 *		A school that has closed: CALL sis_sync.retire_school().
 *
 * What is left of the school is archived, as a run of its own: its record, its
 * sections, the students and staff who have no other school that is set up,
 * and what goes with them.  No threshold is asked: somebody has decided.
 *
 * When a school closes, the next feed lacks it, the run ends in SI003, and the
 * roster still has everybody at that school, though most have moved.  So the
 * rows that the newest run has staged are asked too: who is at another school
 * there stays, to be moved by the next run.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/spi.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "notify.h"
#include "retire.h"
#include "run.h"
#include "runlog.h"
#include "slot.h"
#include "utils/builtins.h"
#include "write.h"

typedef struct Retire
{
	SisRun	   *run;
	char	   *school;			/* source_id */
	int			slot;			/* of the rows staged last; -1: none */
	SisParams	params;			/* $1 sync_id, $2 school, $3 schools that
								 * stay, $4 run of the staged rows */
	SisRelation leaving[SIS_N_RECORD_TYPES];
	SisRelation persons;		/* students and staff among them */
} Retire;

/* ----------
 * What is known of where people are
 * ----------
 */

static bool
staged_rows_are_there(Retire *retire, int64 run_id)
{
	SisParams	params = {0};
	int64		rows,
				active;

	retire->slot = sis_slot_of(run_id);
	if (retire->slot < 0 || !sis_slot_share(retire->slot))
		return false;
	sis_stage_leaf_count(SIS_STUDENT, retire->slot, run_id, &rows, &active);
	sis_param_int8(&params, run_id);
	sis_exec_as_owner("SELECT staged_rows FROM sis_sync.run_count WHERE run_id = $1 AND record_type = 'student'",
					  &params, SPI_OK_SELECT);
	return SPI_processed == 1 && sis_value_int8(0, 1) == rows;
}

/*
 * Finds the rows staged by the newest run, if that run has read its source to
 * the end.  Without them the roster must be what the newest run has made it:
 * else those who have moved could not be told from those who have left.
 */
static int64
find_staged(Retire *retire)
{
	SisRun	   *run = retire->run;
	SisParams	params = {0};
	int64		newest = 0;
	bool		applied = false;

	retire->slot = -1;
	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, run->id);
	if (sis_exec_as_owner("SELECT r.id, r.status = 'succeeded' OR r.error_code IN ('SI001', 'SI003', 'SI010', 'SI011'), "
						  "NOT r.dry_run AND r.phase IN ('applied', 'archive', 'done') "
						  "FROM sis_sync.run r WHERE r.sync = $1 AND r.id < $2 AND r.kind = 'sync' "
						  "ORDER BY r.id DESC LIMIT 1",
						  &params, SPI_OK_SELECT) > 0)
	{
		bool		whole = sis_value_bool(0, 2);

		newest = sis_value_int8(0, 1);
		applied = sis_value_bool(0, 3);
		if (whole && staged_rows_are_there(retire, newest))
			return newest;
	}
	retire->slot = -1;
	if (!applied)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("it is not known where the students of the school are now"),
				 errdetail("The newest run (%lld) has written nothing to the roster, and no whole set of rows that it has staged is there.",
						   (long long) newest),
				 errhint("CALL sis_sync.run(%s); if that ends in SI003, retire the school before the next run.",
						 quote_literal_cstr(run->sync->name))));
	return 0;
}

/* The other schools that are set up, or, with all_schools, all that are there. */
static void
find_staying_schools(Retire *retire, int64 staged_run, char ***schools, int *n)
{
	SisRun	   *run = retire->run;
	SisParams	params = {0};
	uint64		rows;

	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, retire->school);
	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, staged_run);
	rows = sis_exec_on_roster(psprintf("WITH known AS (SELECT t.source_id, btrim(t.sis_id) AS sis_id FROM %s t "
									   "WHERE t.sync_id = $1 AND t.archived_at IS NULL%s) "
									   "SELECT DISTINCT k.source_id FROM known k WHERE k.source_id <> $2 AND %s",
									   run->roster->tables[SIS_SCHOOL],
									   retire->slot < 0 ? "" :
									   psprintf(" UNION SELECT s.source_id, btrim(s.sis_id) FROM %s s WHERE s.run_id = $4 AND s.status = 'active'",
												sis_stage_leaf(SIS_SCHOOL, retire->slot)),
									   run->sync->all_schools ? "$3 IS NOT NULL" :
									   "EXISTS (SELECT 1 FROM sis_sync.sync_school c WHERE c.sync = $3 AND c.active "
									   "AND (btrim(c.school_id) = k.sis_id OR (btrim(c.school_id) = k.source_id "
									   "AND NOT EXISTS (SELECT 1 FROM known o WHERE o.sis_id = btrim(c.school_id)))))"),
							  &params);
	*schools = palloc(sizeof(char *) * Max(rows, 1));
	*n = (int) rows;
	for (uint64 i = 0; i < rows; i++)
		(*schools)[i] = sis_value(i, 1);
}

/* ----------
 * What is left
 * ----------
 */

/*
 * Joins to alias t, a person: n, in whose sections he is (here, elsewhere);
 * s, where the newest run has staged him at a school that stays.
 */
static char *
person_joins(const Retire *retire, SisRecordType type)
{
	char *const *tables = retire->run->roster->tables;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, " LEFT JOIN (SELECT e.person_source_id AS source_id, bool_or(x.school_source_id = $2) AS here, "
					 "bool_or(x.school_source_id = ANY ($3)) AS elsewhere FROM %s e "
					 "JOIN %s x ON x.sync_id = $1 AND x.source_id = e.section_source_id AND x.archived_at IS NULL "
					 "WHERE e.sync_id = $1 AND e.archived_at IS NULL GROUP BY 1) n ON n.source_id = t.source_id",
					 tables[SIS_ENROLLMENT], tables[SIS_SECTION]);
	if (retire->slot >= 0)
		appendStringInfo(&sql, " LEFT JOIN (SELECT p.source_id FROM %s p WHERE p.run_id = $4 AND p.status = 'active' "
						 "AND (p.school_source_id = ANY ($3) OR p.school_source_ids::text[] && $3) "
						 "UNION SELECT e.person_source_id FROM %s e JOIN %s x ON x.source_id = e.section_source_id "
						 "WHERE e.run_id = $4 AND e.status = 'active' AND x.run_id = $4 AND x.status = 'active' "
						 "AND x.school_source_id = ANY ($3)) s ON s.source_id = t.source_id",
						 sis_stage_leaf(type, retire->slot),
						 sis_stage_leaf(SIS_ENROLLMENT, retire->slot),
						 sis_stage_leaf(SIS_SECTION, retire->slot));
	return sql.data;
}

/* Who is here only as a guest in a section is of no other school that is set
 * up; with all_schools everybody has one. */
static char *
person_left_sql(const Retire *retire)
{
	return psprintf("(t.school_source_id = $2 OR $2 = ANY (t.school_source_ids)%s) "
					"AND (t.school_source_id = ANY ($3) OR t.school_source_ids && $3) IS NOT TRUE "
					"AND n.elsewhere IS NOT TRUE%s",
					retire->run->sync->all_schools ? "" : " OR n.here",
					retire->slot < 0 ? "" : " AND s.source_id IS NULL");
}

static char *
section_left_sql(const Retire *retire)
{
	return psprintf("t.school_source_id = $2%s",
					retire->slot < 0 ? "" :
					psprintf(" AND NOT EXISTS (SELECT 1 FROM %s s WHERE s.run_id = $4 AND s.status = 'active' "
							 "AND s.source_id = t.source_id AND s.school_source_id = ANY ($3))",
							 sis_stage_leaf(SIS_SECTION, retire->slot)));
}

/* Those of a type who are there and stay. */
static char *
staying_sql(const Retire *retire, SisRecordType type)
{
	return psprintf("SELECT p.source_id FROM %s p WHERE p.sync_id = $1 AND p.archived_at IS NULL "
					"AND NOT EXISTS (SELECT 1 FROM leaving_%s l WHERE l.source_id = p.source_id)",
					retire->run->roster->tables[type],
					sis_record_desc(type)->name);
}

/* A boolean over alias t: does the record leave with the school? */
static char *
left_sql(const Retire *retire, SisRecordType type)
{
	switch (type)
	{
		case SIS_SCHOOL:
			return "t.source_id = $2";
		case SIS_SECTION:
			return section_left_sql(retire);
		case SIS_STUDENT:
		case SIS_STAFF:
			return person_left_sql(retire);
		case SIS_CONTACT:
			return psprintf("t.source_id IN (SELECT l.contact_source_id FROM %s l JOIN leaving_student s ON s.source_id = l.student_source_id "
							"WHERE l.sync_id = $1 AND l.archived_at IS NULL) "
							"AND NOT EXISTS (SELECT 1 FROM %s l WHERE l.sync_id = $1 AND l.archived_at IS NULL "
							"AND l.contact_source_id = t.source_id AND l.student_source_id IN (%s))",
							retire->run->roster->tables[SIS_STUDENT_CONTACT],
							retire->run->roster->tables[SIS_STUDENT_CONTACT],
							staying_sql(retire, SIS_STUDENT));
		case SIS_STUDENT_CONTACT:
			return "(t.student_source_id IN (SELECT source_id FROM leaving_student) "
				"OR t.contact_source_id IN (SELECT source_id FROM leaving_contact))";
		case SIS_ENROLLMENT:
			return "(t.section_source_id IN (SELECT source_id FROM leaving_section) "
				"OR t.person_source_id IN (SELECT source_id FROM leaving_person))";
		case SIS_TERM:
		case SIS_COURSE:
			break;				/* the district's: the next run judges them */
	}
	return "false";
}

static SisRelation
open_left(Retire *retire, const char *name, const char *sql)
{
	TupleDesc	desc = CreateTemplateTupleDesc(2);

	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(desc, 2, "before", TEXTOID, -1, 0);
	return sis_relation_open(name, desc, sql, &retire->params);
}

static void
find_left(Retire *retire, SisRecordType type)
{
	bool		person = type == SIS_STUDENT || type == SIS_STAFF;

	retire->leaving[type] =
		open_left(retire, psprintf("leaving_%s", sis_record_desc(type)->name),
				  psprintf("SELECT t.source_id, json_build_object('archived_at', NULL, 'fingerprint', t.fingerprint)::text "
						   "FROM %s t%s WHERE t.sync_id = $1 AND t.sis_managed AND t.archived_at IS NULL AND %s",
						   retire->run->roster->tables[type],
						   person ? person_joins(retire, type) : "",
						   left_sql(retire, type)));

	/* who is student and staff has one ID, and may stay as the other */
	if (type == SIS_STAFF)
		retire->persons =
			open_left(retire, "leaving_person",
					  psprintf("SELECT x.source_id, NULL::text FROM "
							   "(SELECT source_id FROM leaving_student UNION SELECT source_id FROM leaving_staff "
							   "EXCEPT (%s UNION ALL %s)) x",
							   staying_sql(retire, SIS_STUDENT),
							   staying_sql(retire, SIS_STAFF)));
}

static void
archive_left(Retire *retire, SisRecordType type)
{
	SisRun	   *run = retire->run;
	const SisRelation *leaving = &retire->leaving[type];
	SisParams	params = {0};

	if (tuplestore_tuple_count(leaving->store) == 0)
		return;
	sis_write_lock(run, type, leaving->name);
	sis_param_int8(&params, run->sync->id);
	sis_param_int8(&params, run->id);
	run->counts[type].archived =
		sis_write_logged(run, type, "archive",
						 psprintf("UPDATE %s t SET archived_at = now(), archived_reason = '%s', archived_run = $2 "
								  "FROM %s d WHERE t.sync_id = $1 AND t.source_id = d.source_id "
								  "AND t.sis_managed AND " SIS_ROW_IS_LIVE_SQL " "
								  "RETURNING t.source_id, t.archived_reason, d.before, " SIS_ROW_AS_LEFT,
								  run->roster->tables[type],
								  sis_record_desc(type)->is_link ?
								  "goes with its end" : "school retired",
								  leaving->name),
						 &params);
}

/* ----------
 * The school's setting
 * ----------
 */

static void
make_inactive(const Retire *retire)
{
	SisRun	   *run = retire->run;
	SisParams	params = {0};
	char	   *sis_id;

	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, retire->school);
	sis_exec_on_roster(psprintf("SELECT btrim(t.sis_id) FROM %s t WHERE t.sync_id = $1 AND t.source_id = $2",
								run->roster->tables[SIS_SCHOOL]), &params);
	sis_id = sis_value(0, 1);
	memset(&params, 0, sizeof(params));
	sis_param_text(&params, run->sync->name);
	sis_param_text(&params, retire->school);
	sis_param_text(&params, sis_id);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner("UPDATE sis_sync.sync_school SET active = false, retired_run = $4 "
					  "WHERE sync = $1 AND btrim(school_id) IN ($2, $3) AND active",
					  &params, SPI_OK_UPDATE);
}

int64
sis_retire_undo(const SisRun *undo, int64 of_run)
{
	SisParams	params = {0};

	sis_param_text(&params, undo->sync->name);
	sis_param_int8(&params, of_run);
	return (int64)
		sis_exec_as_owner("WITH RECURSIVE undone AS (SELECT r.id, r.of_run, r.kind, 0 AS depth FROM sis_sync.run r WHERE r.id = $2 "
						  "UNION ALL SELECT r.id, r.of_run, r.kind, u.depth + 1 FROM undone u JOIN sis_sync.run r ON r.id = u.of_run WHERE u.kind = 'undo') "
						  "UPDATE sis_sync.sync_school c SET active = (u.depth % 2 = 0) FROM undone u "
						  "WHERE u.kind = 'retire' AND c.sync = $1 AND c.retired_run = u.id AND c.active <> (u.depth % 2 = 0)",
						  &params, SPI_OK_UPDATE);
}

/* ----------
 * CALL sis_sync.retire_school()
 * ----------
 */

static void
note_result(const Retire *retire, const char *school, const char *reason)
{
	SisRun	   *run = retire->run;
	int64		others = 0;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		others += run->counts[t].archived;
	others -= run->counts[SIS_STUDENT].archived;
	sis_run_note(run, "School \"%s\" was retired (%s): %lld students and %lld other records were archived.",
				 school, reason,
				 (long long) run->counts[SIS_STUDENT].archived,
				 (long long) others);
}

static void
retire_school(const char *sync, const char *school, const char *reason)
{
	Retire		retire = {0};
	SisParams	params = {0};
	char	  **staying;
	int			nstaying;
	int64		staged_run;

	retire.run = sis_run_begin(sync, SIS_RUN_RETIRE, 0);
	retire.school = sis_roster_find_school(retire.run->roster,
										   retire.run->sync->id, school);
	staged_run = find_staged(&retire);
	find_staying_schools(&retire, staged_run, &staying, &nstaying);
	sis_param_int8(&params, retire.run->sync->id);
	sis_param_text(&params, retire.school);
	sis_param_text_array(&params, staying, nstaying);
	sis_param_int8(&params, staged_run);
	retire.params = params;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		find_left(&retire, (SisRecordType) t);
		CHECK_FOR_INTERRUPTS();
	}
	for (int t = SIS_N_RECORD_TYPES - 1; t >= 0; t--)
	{
		archive_left(&retire, (SisRecordType) t);
		CHECK_FOR_INTERRUPTS();
	}
	sis_write_check_constraints(retire.run);
	sis_relation_close(&retire.persons);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		sis_relation_close(&retire.leaving[t]);
	make_inactive(&retire);
	note_result(&retire, school, reason);
	sis_runlog_counts(retire.run);
	sis_runlog_succeeded(retire.run);
	sis_notify_end(retire.run->id);
	sis_progress_end();
}

SIS_FUNCTION(sis_retire_school);
Datum
sis_retire_school(PG_FUNCTION_ARGS)
{
	char	   *args[3];

	for (int i = 0; i < (int) lengthof(args); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("sync, school and reason must not be null")));
		args[i] = text_to_cstring(PG_GETARG_TEXT_PP(i));
	}
	if (args[2][strspn(args[2], " \t\r\n")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retiring a school needs a reason")));
	sis_connect(0);
	retire_school(args[0], args[1], args[2]);
	SPI_finish();
	PG_RETURN_VOID();
}
