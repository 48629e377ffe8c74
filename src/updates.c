/*
 * updates.c
 *		How many records of a type a run may update (sync.update_threshold).
 *
 * A source in which a column was moved, or all names come in capitals, archives
 * nobody and yet spoils every record.  Beyond the percentage nothing is done.
 * approve() lets as many updates of each type be made as the run held back:
 * their number, not these records, since the same fault or the same reform
 * shows in others tomorrow.
 */
#include "postgres.h"

#include "base/error.h"
#include "base/spi.h"
#include "guard.h"
#include "scope.h"
#include "utils/builtins.h"

typedef struct UpdateLimit
{
	char	   *percent;
	int64		in_force;
	int64		allowed;
	int64		approved;
	int64		updates;
} UpdateLimit;

/* False when no threshold is set. */
static bool
load_limit(const SisRun *run, SisRecordType type, int64 in_force, UpdateLimit *limit)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, in_force);
	sis_param_int8(&params, run->approved_updates_run);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_exec_as_owner("SELECT trim_scale(s.update_threshold)::text, greatest(div($2 * s.update_threshold, 100), "
					  "CASE WHEN s.update_threshold > 0 THEN s.min_allowed ELSE 0 END)::int8, "
					  "(SELECT c.to_update FROM sis_sync.run_count c WHERE c.run_id = $3 AND c.record_type = $4) "
					  "FROM sis_sync.sync s WHERE s.name = $1",
					  &params, SPI_OK_SELECT);
	limit->percent = sis_value(0, 1);
	limit->allowed = sis_value_int8(0, 2);
	limit->approved = sis_value_int8(0, 3);
	limit->in_force = in_force;
	return limit->percent != NULL;
}

/* What has ended is not in N, and its updates do not count either. */
static int64
count_updates(const SisRun *run, SisRecordType type)
{
	SisParams	params;

	sis_scope_params(run, &params);
	sis_exec_on_roster(psprintf("SELECT count(*) FROM changes_%s d WHERE d.act = 'u' "
								"AND d.source_id IN (SELECT t.source_id FROM (%s) t WHERE t.in_force)",
								sis_record_desc(type)->name,
								sis_scope_stored_sql(run, type, false)),
					   &params);
	return sis_value_int8(0, 1);
}

/* The columns that differ most often: they tell what happened. */
static char *
columns_of(SisRecordType type)
{
	sis_exec_as_owner(psprintf("SELECT string_agg(x.key || ' in ' || x.n, ', ' ORDER BY x.n DESC, x.key) FROM ("
							   "SELECT k.key, count(*) AS n FROM changes_%s d, LATERAL jsonb_object_keys(d.before::jsonb) AS k (key) "
							   "WHERE d.act = 'u' AND k.key <> ALL (ARRAY['fingerprint', 'updated_run']) GROUP BY k.key "
							   "ORDER BY 2 DESC, 1 LIMIT 5) x",
							   sis_record_desc(type)->name),
					  NULL, SPI_OK_SELECT);
	return sis_value(0, 1);
}

static char *
sentence(SisRecordType type, const UpdateLimit *limit)
{
	return psprintf("%lld of %lld records of type %s would be updated, %s percent allows %lld",
					(long long) limit->updates, (long long) limit->in_force,
					sis_record_desc(type)->name, limit->percent,
					(long long) limit->allowed);
}

static SisFailure *
verdict(SisRun *run, SisRecordType first, const char *message,
		const char *detail)
{
	SisFailure *failure = palloc0(sizeof(SisFailure));

	sis_fail(failure, SIS_ERR_UPDATES, sis_record_desc(first)->name,
			 psprintf("%sNothing was changed.", detail),
			 psprintf("See old and new values: SELECT * FROM sis_sync.preview(%lld) WHERE action = 'update'. "
					  "If they are right, SELECT sis_sync.approve(%lld, 'why they are right') and run the sync again; "
					  "to let any be made, UPDATE sis_sync.sync SET update_threshold = NULL WHERE name = %s.",
					  (long long) run->id, (long long) run->id,
					  quote_literal_cstr(run->sync->name)),
			 "update threshold reached: %s", message);
	return failure;
}

SisFailure *
sis_guard_updates(SisRun *run, const SisDelta *delta)
{
	char	   *message = NULL;
	SisRecordType first = SIS_SCHOOL;
	StringInfoData detail;

	if (run->applied)
		return NULL;			/* what would be updated has been */
	initStringInfo(&detail);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;
		UpdateLimit		limit;

		limit.updates = run->counts[t].updated;
		if (limit.updates == 0)
			continue;
		if (!load_limit(run, type, delta->types[t].in_force, &limit))
			return NULL;
		if (limit.updates <= Max(limit.allowed, limit.approved))
			continue;
		limit.updates = count_updates(run, type);
		if (limit.updates <= Max(limit.allowed, limit.approved))
			continue;
		if (message == NULL)
		{
			message = sentence(type, &limit);
			first = type;
		}
		appendStringInfo(&detail, "%s (%s).\n", sentence(type, &limit),
						 columns_of(type));
	}
	if (message == NULL)
		return NULL;
	sis_guard_nothing_done(run);
	return verdict(run, first, message, detail.data);
}
