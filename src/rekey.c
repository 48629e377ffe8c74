/*
 * rekey.c
 *		Have students or staff got new IDs?  (design, rule 8; SI011)
 *
 * An export whose IDs lost their leading zeros, or a source that makes new
 * ones, looks like everybody leaving and as many strangers coming.  It is
 * told by the numbers, or by twins: a record that is gone and one that is new
 * that share a number, an e-mail address, or name and birth date with each
 * other and with nobody else.
 */
#include "postgres.h"

#include "base/error.h"
#include "base/spi.h"
#include "guard.h"

/* Fewer than so many may change their IDs without a word. */
#define MIN_REKEYED	20

/* Keys of a record by which it may be known again: (kind, key) pairs. */
static char *
keys_sql(SisRecordType type, const char *alias)
{
	return psprintf("(VALUES (1, %s.sis_id), (2, %s.%s), (3, %s.state_id), (4, lower(%s.email))%s) AS k (kind, key)",
					alias, alias,
					type == SIS_STUDENT ? "student_number" : "staff_number",
					alias, alias,
					type == SIS_STUDENT ?
					psprintf(", (5, lower(%s.given_name || ' ' || %s.family_name) || ' ' || %s.birth_date)",
							 alias, alias, alias) : "");
}

/* How many of those that are gone have exactly one twin among the new. */
static int64
count_twins(SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;

	sis_exec_as_owner(psprintf("WITH gone AS (SELECT d.source_id, k.kind, k.key FROM gone_%s d, LATERAL %s "
							   "WHERE d.act = 'g' AND k.key IS NOT NULL), "
							   "gone1 AS (SELECT min(source_id) AS source_id, kind, key FROM gone GROUP BY kind, key HAVING count(*) = 1), "
							   "new AS (SELECT d.source_id, k.kind, k.key FROM creates_%s d, LATERAL %s "
							   "WHERE k.key IS NOT NULL), "
							   "new1 AS (SELECT min(source_id) AS source_id, kind, key FROM new GROUP BY kind, key HAVING count(*) = 1), "
							   "pairs AS (SELECT DISTINCT g.source_id AS gone, n.source_id AS new "
							   "FROM gone1 g JOIN new1 n ON n.kind = g.kind AND n.key = g.key), "
							   "single AS (SELECT gone, min(new) AS new FROM pairs GROUP BY gone HAVING count(*) = 1) "
							   "SELECT count(*) FROM (SELECT new FROM single GROUP BY new HAVING count(*) = 1) x",
							   name, keys_sql(type, "d"), name, keys_sql(type, "d")),
					  NULL, SPI_OK_SELECT);
	return sis_value_int8(0, 1);
}

static int64
count_in_force(SisRun *run, SisRecordType type)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->sync->id);
	sis_exec_on_roster(psprintf("SELECT count(*) FROM %s WHERE sync_id = $1 AND sis_managed AND archived_at IS NULL",
								run->roster->tables[type]),
					   &params);
	return sis_value_int8(0, 1);
}

static void
check_type(SisRun *run, SisDelta *delta, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	int64		gone = delta->types[type].by_act[SIS_ACT_GONE];
	int64		created = run->counts[type].created;
	int64		stored;
	int64		twins;

	if (gone == 0 || created == 0)
		return;
	stored = count_in_force(run, type);
	/* who lets all of them go means it */
	if (stored < MIN_REKEYED || sis_guard_allows_all(run, type))
		return;
	twins = count_twins(type);
	if (!(gone * 2 > stored && created >= gone) &&
		!(gone >= MIN_REKEYED && twins * 2 >= gone))
		return;
	ereport(ERROR,
			(sis_errcode(SIS_ERR_REKEYED),
			 errmsg("IDs of type %s seem to have changed: %lld of %lld records are gone and %lld are new, %lld of them twins",
					name, (long long) gone, (long long) stored,
					(long long) created, (long long) twins),
			 errdetail("A twin is a new record that shares a number, an e-mail address, or name and birth date with one that is gone, and with no other. Nothing was changed."),
			 errhint("Compare SELECT source_id, line FROM sis_sync.stage_%s WHERE run_id = %lld with the roster: did IDs lose leading zeros, or was the export set up anew? If the new IDs are meant to replace the old ones, run %s and sync again.",
					 name, (long long) run->id,
					 sis_guard_raise_sql(run, type, "100")),
			 err_generic_string(PG_DIAG_TABLE_NAME, name)));
}

void
sis_guard_rekeyed(SisRun *run, SisDelta *delta)
{
	check_type(run, delta, SIS_STUDENT);
	check_type(run, delta, SIS_STAFF);
}
