/*
 * erase.c
 *		Forgetting: erase_person(), erase_archived(), drop_sync().
 *
 * All three work in the caller's transaction.  Who is erased is nowhere on
 * record afterwards; that somebody was, when and by whom, is (a run of the
 * kind "erase").  What the source still holds comes back with the next run.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "erased.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "notify.h"
#include "retention.h"
#include "run.h"
#include "runlog.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "write.h"

static const SisRecordType persons[] = {SIS_STUDENT, SIS_STAFF, SIS_CONTACT};

/* Removes what is named, and writes down that it was done. */
static int64
remove_and_log(SisRun *run, const char *sql, const SisParams *params)
{
	SisRelation erased = sis_erased_open(run, sql, params);
	SisErasedRows rows = sis_erased_remove(run);
	int64		all = rows.roster + rows.staged + rows.logged;

	sis_relation_close(&erased);
	sis_write_check_constraints(run);
	sis_run_note(run, "Erased %lld rows of the roster, %lld staged and %lld of the log.",
				 (long long) rows.roster, (long long) rows.staged,
				 (long long) rows.logged);
	sis_runlog_counts(run);
	sis_runlog_succeeded(run);
	sis_notify_end(run->id);
	sis_progress_end();
	if (all > 0)
		ereport(NOTICE,
				(errmsg("erased %lld rows of the roster, %lld staged and %lld of the log",
						(long long) rows.roster, (long long) rows.staged,
						(long long) rows.logged),
				 errdetail("What the source still holds comes back with the next run.")));
	return all;
}

/* ----------
 * A person
 * ----------
 */

static SisRecordType
person_type(const char *name)
{
	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		if (strcmp(sis_record_desc(persons[i])->name, name) == 0)
			return persons[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("record type \"%s\" is no person's", name),
			 errhint("It is student, staff or contact.")));
}

/*
 * The type of the person of that ID.  -1 when the roster has none: then staging
 * and log may still name him, as any of them.  Where it has several, they may
 * be one person or, in Clever's files, different ones.
 */
static int
find_person_type(const SisRun *run, const char *source_id)
{
	int			found = -1;

	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		SisParams	params = {0};

		sis_param_int8(&params, run->sync->id);
		sis_param_text(&params, source_id);
		if (sis_exec_on_roster(psprintf("SELECT 1 FROM %s WHERE sync_id = $1 AND source_id = $2",
										run->roster->tables[persons[i]]),
							   &params) == 0)
			continue;
		if (found >= 0)
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
					 errmsg("more than one record has the ID \"%s\"", source_id),
					 errdetail("There are one of type %s and one of type %s, which may be different people.",
							   sis_record_desc((SisRecordType) found)->name,
							   sis_record_desc(persons[i])->name),
					 errhint("Say which: sis_sync.erase_person(%s, %s, record_type => '%s').",
							 quote_literal_cstr(run->sync->name),
							 quote_literal_cstr(source_id),
							 sis_record_desc((SisRecordType) found)->name)));
		found = persons[i];
	}
	return found;
}

/* A contact without an ID of its own has one made of the student's. */
static char *
made_contacts_sql(const char *table)
{
	return psprintf("SELECT 'contact', c.source_id FROM %s c JOIN person p ON p.record_type = 'student' "
					"AND starts_with(c.source_id, replace(replace(p.source_id, '\\', '\\\\'), '/', '\\/') || '/') "
					"WHERE c.sync_id = $1", table);
}

/* $1 sync_id, $2 source_id, $3 record types */
static char *
person_sql(const SisRun *run)
{
	return psprintf("WITH self AS (SELECT u.t AS record_type, $2 COLLATE \"C\" AS source_id FROM unnest($3) AS u (t)), "
					"person AS (SELECT * FROM self UNION SELECT c.record_type, c.source_id FROM (WITH person AS (SELECT * FROM self) %s UNION %s) c (record_type, source_id)) "
					"SELECT record_type, source_id FROM person UNION %s",
					made_contacts_sql(run->roster->tables[SIS_CONTACT]),
					made_contacts_sql("sis_sync.stage_contact"),
					sis_erased_links_sql(run));
}

static int64
erase_person(const char *sync, const char *source_id, const char *type_name)
{
	SisRun	   *run = sis_run_begin(sync, SIS_RUN_ERASE, 0);
	SisParams	params = {0};
	char	   *types[lengthof(persons)];
	int			ntypes = 0;
	int			type;
	int64		n;

	type = type_name != NULL ? (int) person_type(type_name) :
		find_person_type(run, source_id);
	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		if (type < 0 || type == (int) persons[i])
			types[ntypes++] = (char *) sis_record_desc(persons[i])->name;
	}
	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, source_id);
	sis_param_text_array(&params, types, ntypes);
	n = remove_and_log(run, person_sql(run), &params);
	if (n == 0)
		ereport(WARNING,
				(errmsg("nothing was erased: sync \"%s\" has nobody of the ID \"%s\"",
						sync, source_id),
				 errhint("It is the source_id of the roster's row.")));
	return n;
}

SIS_FUNCTION(sis_erase_person);
Datum
sis_erase_person(PG_FUNCTION_ARGS)
{
	int64		n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("sync and source_id must not be null")));
	sis_connect(0);
	n = erase_person(text_to_cstring(PG_GETARG_TEXT_PP(0)),
					 text_to_cstring(PG_GETARG_TEXT_PP(1)),
					 PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)));
	SPI_finish();
	PG_RETURN_INT64(n);
}

/* ----------
 * What was archived longer ago
 * ----------
 */

/* $1 sync_id, $2 interval: people and links, and the links of those people */
static char *
archived_sql(const SisRun *run)
{
	StringInfoData people,
				links;

	initStringInfo(&people);
	initStringInfo(&links);
	for (int t = SIS_STUDENT; t < SIS_N_RECORD_TYPES; t++)
	{
		StringInfo	sql = sis_record_desc((SisRecordType) t)->is_link ? &links : &people;

		appendStringInfo(sql, "%sSELECT '%s'::text AS record_type, t.source_id FROM %s t "
						 "WHERE t.sync_id = $1 AND t.sis_managed AND t.archived_at < now() - $2",
						 sql->len > 0 ? " UNION ALL " : "",
						 sis_record_desc((SisRecordType) t)->name,
						 run->roster->tables[t]);
	}
	return psprintf("WITH person AS (%s) SELECT record_type, source_id FROM person UNION %s UNION %s",
					people.data, links.data, sis_erased_links_sql(run));
}

SIS_FUNCTION(sis_erase_archived);
Datum
sis_erase_archived(PG_FUNCTION_ARGS)
{
	SisParams	params = {0};
	SisRun	   *run;
	int64		n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("sync and older_than must not be null")));
	sis_check_age(PG_GETARG_INTERVAL_P(1));
	sis_connect(0);
	run = sis_run_begin(text_to_cstring(PG_GETARG_TEXT_PP(0)), SIS_RUN_ERASE, 0);
	sis_param_int8(&params, run->sync->id);
	sis_param(&params, INTERVALOID, PG_GETARG_DATUM(1), false);
	n = remove_and_log(run, archived_sql(run), &params);
	SPI_finish();
	PG_RETURN_INT64(n);
}

/* ----------
 * A sync
 * ----------
 */

/* Archives, or erases, the managed records of a sync; the application's stay. */
static int64
leave_roster(SisRun *run, bool erase)
{
	SisParams	params = {0};
	int64		n = 0;

	sis_param_int8(&params, run->sync->id);
	for (int t = SIS_N_RECORD_TYPES - 1; t >= 0; t--)
	{
		SisRecordType type = (SisRecordType) t;
		const char *table = run->roster->tables[type];

		if (erase)
			n += (int64) sis_write(run, type,
								   psprintf("DELETE FROM %s WHERE sync_id = $1 AND sis_managed", table),
								   &params, SPI_OK_DELETE);
		else
			n += (int64)
				sis_write_in_key_order(run, type,
									   psprintf("UPDATE %s SET archived_at = now(), archived_reason = 'sync dropped', archived_run = NULL "
												"WHERE sync_id = $1 AND sis_managed AND archived_at IS NULL",
												table),
									   &params);
		CHECK_FOR_INTERRUPTS();
	}
	sis_write_check_constraints(run);
	return n;
}

static void
leave_staging(const SisRun *run)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_slots_clear("p.sync = $1", &params);
	if (sis_exec_as_owner("SELECT 1 FROM sis_sync.stage_slot WHERE sync = $1",
						  &params, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_IN_PROGRESS),
				 errmsg("somebody looks at the staged rows of sync \"%s\"", run->sync->name),
				 errhint("Drop it when that preview has ended.")));
}

static int64
drop_sync(const char *name, bool erase)
{
	SisRun	   *run = sis_run_hold(name, SIS_RUN_ERASE, 0);
	SisParams	params = {0};
	int64		n = 0;

	/* a roster that was dropped has no records to leave */
	if (OidIsValid(get_namespace_oid(run->sync->target_schema, true)))
	{
		run->roster = sis_roster_open(run->sync->target_schema, RowExclusiveLock);
		n = leave_roster(run, erase);
	}
	leave_staging(run);
	sis_param_text(&params, name);
	sis_exec_as_owner("DELETE FROM sis_sync.sync WHERE name = $1", &params,
					  SPI_OK_DELETE);
	return n;
}

SIS_FUNCTION(sis_drop_sync);
Datum
sis_drop_sync(PG_FUNCTION_ARGS)
{
	int64		n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("sync and erase must not be null")));
	sis_connect(0);
	n = drop_sync(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_BOOL(1));
	SPI_finish();
	PG_RETURN_INT64(n);
}
