/*
 * approve.c
 *		What a run held back, and who let it go (sis_sync.approve).
 *
 * A run that trips writes down exactly what it held back.  Somebody who has
 * looked at that approves it: the next run that archives may let go those of
 * these records that are still gone, and they count against no limit.  Any
 * other record is judged as before.  The approval is spent in the commit of
 * that run, whether or not all of it was used; it lapses after seven days.
 *
 * Of a run that would have updated too much (SI012) an approval lets as many
 * updates be made; it is spent by the next run that makes any, and stands
 * beside one for records held back.
 */
#include "postgres.h"

#include "approve.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/source.h"
#include "base/spi.h"
#include "fmgr.h"
#include "hold.h"
#include "miscadmin.h"
#include "runlog.h"
#include "utils/builtins.h"

void
sis_approval_hold(const SisRun *run, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	SisParams	params = {0};
	const char *school;

	switch (type)
	{
		case SIS_SCHOOL:
			school = "d.source_id";
			break;
		case SIS_COURSE:
		case SIS_SECTION:
		case SIS_STUDENT:
		case SIS_STAFF:
		case SIS_ENROLLMENT:
			school = "d.school_source_id";
			break;
		default:
			school = "NULL";
			break;
	}
	sis_param_int8(&params, run->id);
	sis_param_text(&params, name);
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.pending_archive (run_id, record_type, source_id, school_source_id, reason) "
							   "SELECT $1, $2, d.source_id, %s, d.reason FROM gone_%s d%s "
							   "ON CONFLICT (run_id, record_type, source_id) DO NOTHING",
							   school, name,
							   run->hold == NULL ? "" :
							   psprintf(" WHERE %s", sis_hold_names_sql(type, "d.source_id"))),
					  &params, SPI_OK_INSERT);
}

/* The newest approval of what was held back, or of updates, if it counts. */
static int64
find_approval(const SisRun *run, bool of_updates)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_bool(&params, of_updates);
	if (sis_exec_as_owner("SELECT x.run_id FROM (SELECT a.* FROM sis_sync.approval a JOIN sis_sync.run r ON r.id = a.run_id "
						  "WHERE a.sync = $1 AND (r.error_code IS NOT DISTINCT FROM 'SI012') = $2 "
						  "ORDER BY a.run_id DESC LIMIT 1) x WHERE x.spent_run IS NULL AND x.expires_at > now()",
						  &params, SPI_OK_SELECT) == 0)
		return 0;
	return sis_value_int8(0, 1);
}

void
sis_approval_find(SisRun *run)
{
	run->approved = 0;
	run->approved_run = find_approval(run, false);
	run->approved_updates_run = find_approval(run, true);
}

const char *
sis_approval_names_sql(const SisRun *run, SisRecordType type,
					   const char *alias, const char *param)
{
	if (run->approved_run == 0)
		return "false";
	return psprintf("EXISTS (SELECT 1 FROM sis_sync.pending_archive p WHERE p.run_id = %s "
					"AND p.record_type = '%s' AND p.source_id = %s.source_id)",
					param, sis_record_desc(type)->name, alias);
}

static void
spend(const SisRun *run, int64 approved_run)
{
	SisParams	params = {0};

	sis_param_int8(&params, approved_run);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner("UPDATE sis_sync.approval SET spent_run = $2, spent_at = now() WHERE run_id = $1",
					  &params, SPI_OK_UPDATE);
}

void
sis_approval_spend_updates(SisRun *run)
{
	if (run->approved_updates_run == 0)
		return;
	spend(run, run->approved_updates_run);
	sis_run_note(run, "The updates that run %lld held back were made as approved.",
				 (long long) run->approved_updates_run);
}

void
sis_approval_spend(SisRun *run)
{
	if (run->approved_run == 0)
		return;
	spend(run, run->approved_run);
	sis_run_note(run, "%lld of the records held back by run %lld were still gone, and were archived, as approved.",
				 (long long) run->approved, (long long) run->approved_run);
}

/* Has this run, and none of the kinds that hold nothing, held records back? */
static void
check_held(const SisRun *run, const SisPastRun *past)
{
	bool		tripped = past->error_code != NULL &&
		(strcmp(past->error_code, "SI001") == 0 ||
		 strcmp(past->error_code, "SI011") == 0);

	/* verify() of the four steps reports a coming trip, and goes on */
	if (past->error_code != NULL && strcmp(past->error_code, "SI012") == 0)
		return;
	if (past->holds && (tripped || strcmp(past->status, "running") == 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("run %lld has held nothing back", (long long) run->id),
			 errdetail("Only a run that ended in SI001, SI011 or SI012 has something to approve; records that it held back stand in sis_sync.pending_archive."),
			 errhint("Look for one with SELECT id, error_code, message FROM sis_sync.run WHERE sync = %s AND error_code IN ('SI001', 'SI011', 'SI012') ORDER BY id DESC LIMIT 1.",
					 quote_literal_cstr(run->sync->name))));
}

static void
check_not_approved(const SisRun *run)
{
	SisParams	params = {0};
	int64		spent_run;
	bool		lapsed;

	sis_param_int8(&params, run->id);
	if (sis_exec_as_owner("SELECT spent_run, expires_at <= now(), approved_by, "
						  "to_char(approved_at, 'YYYY-MM-DD HH24:MI TZ') "
						  "FROM sis_sync.approval WHERE run_id = $1",
						  &params, SPI_OK_SELECT) == 0)
		return;
	spent_run = sis_value_int8(0, 1);
	lapsed = sis_value_bool(0, 2);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("run %lld has been approved already", (long long) run->id),
			 spent_run != 0 ?
			 errdetail("Role \"%s\" did so at %s; run %lld has used it, and an approval counts once.",
					   sis_value(0, 3), sis_value(0, 4), (long long) spent_run) :
			 errdetail("Role \"%s\" did so at %s; %s.",
					   sis_value(0, 3), sis_value(0, 4),
					   lapsed ? "it has lapsed since" :
					   "the next run that archives will use it"),
			 spent_run == 0 && !lapsed ?
			 errhint("CALL sis_sync.run(%s).", quote_literal_cstr(run->sync->name)) :
			 errhint("CALL sis_sync.run(%s), and approve that run if it holds records back.",
					 quote_literal_cstr(run->sync->name))));
}

static void
approve(int64 run_id, const char *reason)
{
	SisPastRun	past;
	SisRun	   *run = sis_runlog_read(run_id, &past);
	SisParams	params = {0};

	sis_source_check_usage(run->sync->server);
	check_not_approved(run);
	sis_runlog_check_last_word(run, &past);
	check_held(run, &past);

	sis_param_int8(&params, run_id);
	sis_param_text(&params, run->sync->name);
	sis_param_text(&params, reason);
	sis_param_text(&params, GetUserNameFromId(GetUserId(), false));
	if (sis_exec_as_owner("INSERT INTO sis_sync.approval (run_id, sync, reason, approved_by) "
						  "VALUES ($1, $2, $3, $4) ON CONFLICT (run_id) DO NOTHING",
						  &params, SPI_OK_INSERT) == 0)
		check_not_approved(run);	/* by somebody else, just now */
}

SIS_FUNCTION(sis_approve);
Datum
sis_approve(PG_FUNCTION_ARGS)
{
	char	   *reason = NULL;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the run to approve must not be null")));
	if (!PG_ARGISNULL(1))
		reason = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (reason == NULL || reason[strspn(reason, " \t\r\n")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an approval needs a reason"),
				 errhint("Say in a few words why these records may go: SELECT sis_sync.approve(%lld, 'class of 2026 has left').",
						 (long long) PG_GETARG_INT64(0))));
	sis_connect(0);
	approve(PG_GETARG_INT64(0), reason);
	SPI_finish();
	PG_RETURN_VOID();
}
