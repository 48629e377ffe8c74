/*
 * rename.c
 *		Gives records other source IDs in place; CALL sis_sync.rekey().
 *
 * How it works: all that will be renamed is worked out first, in relations of
 * old and new IDs, and then written, one UPDATE a type.  IDs that are made of
 * others (base/record.h) begin with them: a link's with both its ends, that of
 * a contact without one of his own with his student's.  New IDs are taken by
 * nobody before, so no UPDATE meets a key on its way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/source.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "notify.h"
#include "rename.h"
#include "run.h"
#include "runlog.h"
#include "utils/builtins.h"
#include "write.h"

static char *
relation_name(SisRecordType type)
{
	return psprintf("rename_%s", sis_record_desc(type)->name);
}

static SisRelation
open_relation(SisRecordType type, int ncolumns, const char *sql,
			  const SisParams *params)
{
	static const char *const names[] = {
		"source_id", "new_id", "end1", "end2", "new_end1", "new_end2"
	};
	TupleDesc	desc = CreateTemplateTupleDesc(ncolumns);

	for (int i = 0; i < ncolumns; i++)
	{
		TupleDescInitEntry(desc, i + 1, names[i], TEXTOID, -1, 0);
		TupleDescInitEntryCollation(desc, i + 1, C_COLLATION_OID);
	}
	return sis_relation_open(relation_name(type), desc, sql, params);
}

SisRelation
sis_rename_open(SisRecordType type, const char *sql, const SisParams *params)
{
	return open_relation(type, 2, sql, params);
}

/* ----------
 * What follows from the persons' new IDs
 * ----------
 */

/* A part of a made ID, as sis_made_id() writes it. */
static char *
part_sql(const char *id)
{
	return psprintf("replace(replace(%s, '\\', '\\\\'), '/', '\\/')", id);
}

/* Contacts without an ID of their own have one made of their student's. */
static char *
contacts_sql(const SisRun *run)
{
	return psprintf("SELECT DISTINCT x.source_id, x.new_id FROM ("
					"SELECT t.contact_source_id AS source_id, "
					"%s || substr(t.contact_source_id, length(%s) + 1) AS new_id "
					"FROM %s t JOIN rename_student r ON r.source_id = t.student_source_id "
					"WHERE t.sync_id = $1 AND starts_with(t.contact_source_id, %s || '/')) x "
					"JOIN %s c ON c.sync_id = $1 AND c.source_id = x.source_id AND c.sis_managed "
					"LEFT JOIN %s n ON n.sync_id = $1 AND n.source_id = x.new_id "
					"WHERE n.source_id IS NULL",
					part_sql("r.new_id"), part_sql("r.source_id"),
					run->roster->tables[SIS_STUDENT_CONTACT],
					part_sql("r.source_id"),
					run->roster->tables[SIS_CONTACT],
					run->roster->tables[SIS_CONTACT]);
}

/*
 * Links with their ends as they are and will be; from is an SQL text of
 * columns and joins.  An ID made of the ends follows them, unless taken.
 */
static char *
links_sql(const SisRun *run, SisRecordType type, const char *end1,
		  const char *end2, const char *new_end1, const char *new_end2,
		  const char *joins)
{
	char	   *made = psprintf("%s || '/' || %s", part_sql("l.end1"),
								part_sql("l.end2"));
	char	   *new_made = psprintf("%s || '/' || %s", part_sql("l.new_end1"),
									part_sql("l.new_end2"));

	return psprintf("SELECT m.source_id, CASE WHEN n.source_id IS NULL THEN m.new_id ELSE m.source_id END, "
					"m.end1, m.end2, m.new_end1, m.new_end2 FROM ("
					"SELECT l.*, CASE WHEN l.source_id = %s OR starts_with(l.source_id, %s || '/') "
					"THEN %s || substr(l.source_id, length(%s) + 1) ELSE l.source_id END AS new_id FROM ("
					"SELECT t.source_id, t.%s AS end1, t.%s AS end2, %s AS new_end1, %s AS new_end2 "
					"FROM %s t%s WHERE t.sync_id = $1 AND t.sis_managed) l "
					"WHERE l.new_end1 <> l.end1 OR l.new_end2 <> l.end2) m "
					"LEFT JOIN %s n ON n.sync_id = $1 AND n.source_id = m.new_id",
					made, made, new_made, made,
					end1, end2, new_end1, new_end2,
					run->roster->tables[type], joins,
					run->roster->tables[type]);
}

static char *
student_contacts_sql(const SisRun *run)
{
	return links_sql(run, SIS_STUDENT_CONTACT, "student_source_id",
					 "contact_source_id",
					 "coalesce(s.new_id, t.student_source_id)",
					 "coalesce(c.new_id, t.contact_source_id)",
					 " LEFT JOIN rename_student s ON s.source_id = t.student_source_id"
					 " LEFT JOIN rename_contact c ON c.source_id = t.contact_source_id");
}

/* Who is both student and staff has one ID: the role tells which is meant. */
static char *
enrollments_sql(const SisRun *run)
{
	return links_sql(run, SIS_ENROLLMENT, "section_source_id",
					 "person_source_id", "t.section_source_id",
					 "coalesce(CASE WHEN t.role = 'student' THEN s.new_id ELSE f.new_id END, "
					 "s.new_id, f.new_id, t.person_source_id)",
					 " LEFT JOIN rename_student s ON s.source_id = t.person_source_id"
					 " LEFT JOIN rename_staff f ON f.source_id = t.person_source_id");
}

/* ----------
 * Writing
 * ----------
 */

/* set and before: further assignments, and pairs of json_build_object(). */
static void
rename_type(SisRun *run, SisRecordType type, const char *set,
			const char *before)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->sync->id);
	sis_write_lock(run, type, relation_name(type));
	run->counts[type].updated =
		sis_write_logged(run, type, "rekey",
						 psprintf("UPDATE %s t SET source_id = d.new_id, fingerprint = ~t.fingerprint, "
								  "updated_at = now(), %s FROM %s d "
								  "WHERE t.sync_id = $1 AND t.source_id = d.source_id AND t.sis_managed "
								  "RETURNING t.source_id, 'a new ID'::text, "
								  "json_build_object('source_id', d.source_id, %s, 'fingerprint', ~t.fingerprint)::text, "
								  SIS_ROW_AS_LEFT,
								  run->roster->tables[type], set,
								  relation_name(type), before),
						 &params);
}

/* An ID of the district's that is the source's ID goes with it. */
static void
rename_records(SisRun *run, SisRecordType type)
{
	rename_type(run, type,
				"sis_id = CASE WHEN t.sis_id = t.source_id THEN d.new_id ELSE t.sis_id END",
				"'sis_id', CASE WHEN t.sis_id = d.new_id THEN d.source_id ELSE t.sis_id END");
}

static void
rename_links(SisRun *run, SisRecordType type, const char *end1,
			 const char *end2)
{
	rename_type(run, type,
				psprintf("%s = d.new_end1, %s = d.new_end2", end1, end2),
				psprintf("'%s', d.end1, '%s', d.end2", end1, end2));
}

/* A deletion that waited for an ID which nobody has any more is settled. */
static void
forget_deletions(const SisRun *run, SisRecordType type)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_exec_as_owner(psprintf("DELETE FROM sis_sync.pending_delete p USING %s d "
							   "WHERE p.sync = $1 AND p.record_type = $2 AND p.source_id = d.source_id",
							   relation_name(type)), &params, SPI_OK_DELETE);
}

void
sis_rename(SisRun *run)
{
	static const SisRecordType renamed[] = {
		SIS_STUDENT, SIS_STAFF, SIS_CONTACT, SIS_STUDENT_CONTACT, SIS_ENROLLMENT
	};
	SisParams	params = {0};
	SisRelation contacts,
				student_contacts,
				enrollments;

	sis_param_int8(&params, run->sync->id);
	contacts = open_relation(SIS_CONTACT, 2, contacts_sql(run), &params);
	student_contacts = open_relation(SIS_STUDENT_CONTACT, 6,
									 student_contacts_sql(run), &params);
	enrollments = open_relation(SIS_ENROLLMENT, 6, enrollments_sql(run),
								&params);

	rename_records(run, SIS_STUDENT);
	rename_records(run, SIS_STAFF);
	rename_records(run, SIS_CONTACT);
	rename_links(run, SIS_STUDENT_CONTACT, "student_source_id",
				 "contact_source_id");
	rename_links(run, SIS_ENROLLMENT, "section_source_id", "person_source_id");
	if (!IsTransactionBlock())
		sis_write_check_constraints(run);
	for (int i = 0; i < (int) lengthof(renamed); i++)
		forget_deletions(run, renamed[i]);

	sis_relation_close(&enrollments);
	sis_relation_close(&student_contacts);
	sis_relation_close(&contacts);
}

/* ----------
 * CALL sis_sync.rekey()
 * ----------
 */

static void
check_rekeyed(const SisRun *of, const SisPastRun *past)
{
	sis_runlog_check_last_word(of, past);
	if (past->error_code == NULL || strcmp(past->error_code, "SI011") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld has found no new IDs", (long long) of->id),
				 errdetail("Only a run that ended in SI011 has; its pairs stand in sis_sync.rekey_pair."),
				 errhint("Look for one with SELECT id, message FROM sis_sync.run WHERE sync = %s AND error_code = 'SI011' ORDER BY id DESC LIMIT 1.",
						 quote_literal_cstr(of->sync->name))));
}

/* The pairs of the run that still hold; the others are written down. */
static SisRelation
open_pairs(const SisRun *run, int64 of_run, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	SisParams	params = {0};
	SisRelation pairs;

	sis_param_int8(&params, run->sync->id);
	sis_param_int8(&params, of_run);
	sis_param_text(&params, name);
	pairs = sis_rename_open(type,
							psprintf("SELECT p.old_source_id, p.new_source_id FROM sis_sync.rekey_pair p "
									 "JOIN %s t ON t.sync_id = $1 AND t.source_id = p.old_source_id "
									 "LEFT JOIN %s n ON n.sync_id = $1 AND n.source_id = p.new_source_id "
									 "WHERE p.run_id = $2 AND p.record_type = $3 AND t.sis_managed "
									 "AND t.archived_at IS NULL AND n.source_id IS NULL",
									 run->roster->tables[type],
									 run->roster->tables[type]),
							&params);

	memset(&params, 0, sizeof(params));
	sis_param_int8(&params, of_run);
	sis_param_text(&params, name);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.skipped (run_id, record_type, source_id, reason) "
							   "SELECT $3, $2, p.old_source_id, 'the record has left, or its new ID is taken' "
							   "FROM sis_sync.rekey_pair p LEFT JOIN %s d ON d.source_id = p.old_source_id "
							   "WHERE p.run_id = $1 AND p.record_type = $2 AND d.source_id IS NULL",
							   relation_name(type)),
					  &params, SPI_OK_INSERT);
	return pairs;
}

static void
rekey(int64 of_run)
{
	SisPastRun	past;
	SisRun	   *of = sis_runlog_read(of_run, &past);
	SisRun	   *run = sis_run_begin(of->sync->name, SIS_RUN_REKEY, of_run);
	SisRelation students,
				staff;
	int64		renamed;

	of = sis_runlog_read(of_run, &past);	/* as it is now that it is ours */
	check_rekeyed(of, &past);
	students = open_pairs(run, of_run, SIS_STUDENT);
	staff = open_pairs(run, of_run, SIS_STAFF);
	sis_rename(run);
	sis_relation_close(&staff);
	sis_relation_close(&students);

	renamed = run->counts[SIS_STUDENT].updated + run->counts[SIS_STAFF].updated;
	if (renamed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("none of the pairs of run %lld holds any more", (long long) of_run),
				 errhint("CALL sis_sync.run(%s), and decide on that run.",
						 quote_literal_cstr(run->sync->name))));
	sis_run_note(run, "%lld students and staff have the new IDs that run %lld found.",
				 (long long) renamed, (long long) of_run);
	sis_runlog_counts(run);
	sis_runlog_succeeded(run);
	sis_notify_end(run->id);
	sis_progress_end();
}

SIS_FUNCTION(sis_rekey);
Datum
sis_rekey(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the run must not be null")));
	sis_connect(0);
	rekey(PG_GETARG_INT64(0));
	SPI_finish();
	PG_RETURN_VOID();
}
