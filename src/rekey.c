/*
 * rekey.c
 *		Have students or staff got new IDs?  (design, rule 8; SI011)
 *
 * An export whose IDs lost their leading zeros, or a source that makes new
 * ones, looks like everybody leaving and as many strangers coming.  It is
 * told by the numbers, or by matches: a record that is gone and one that is new
 * that share a number, an e-mail address, or name and birth date with each
 * other and with nobody else.  The verdict holds everything back; the pairs
 * stand in rekey_pair, for CALL sis_sync.rekey(), and those that are gone in
 * pending_archive, for sis_sync.approve().
 */
#include "postgres.h"

#include "approve.h"
#include "base/error.h"
#include "base/spi.h"
#include "guard.h"

/* Fewer than so many may change their IDs without a word. */
#define MIN_REKEYED	20

typedef struct Rekeyed
{
	SisRecordType type;
	int64		gone;			/* and not let go by an approval */
	int64		stored;
	int64		created;
	int64		matches;
} Rekeyed;

/* Keys of a record by which it may be known again: (kind, key) pairs. */
static char *
keys_sql(SisRecordType type, const char *alias)
{
	const char *number = type == SIS_STUDENT ? "student_number" : "staff_number";

	return psprintf("(VALUES ('sis_id', %s.sis_id), ('%s', %s.%s), ('state_id', %s.state_id), ('email', lower(%s.email))%s) AS k (kind, key)",
					alias, number, alias, number, alias, alias,
					type == SIS_STUDENT ?
					psprintf(", ('name and birth date', lower(%s.given_name || ' ' || %s.family_name) || ' ' || %s.birth_date)",
							 alias, alias, alias) : "");
}

/* The rows of the "gone" store that count, as alias d; $1 is approved_run. */
static char *
gone_sql(const SisRun *run, SisRecordType type)
{
	return psprintf("gone_%s d WHERE d.act = 'g' AND NOT %s",
					sis_record_desc(type)->name,
					sis_approval_names_sql(run, type, "d", "$1"));
}

static int64
count_gone(const SisRun *run, const SisDelta *delta, SisRecordType type)
{
	SisParams	params = {0};

	if (run->approved_run == 0)
		return delta->types[type].by_act[SIS_ACT_GONE];
	sis_param_int8(&params, run->approved_run);
	sis_exec_as_owner(psprintf("SELECT count(*) FROM %s", gone_sql(run, type)),
					  &params, SPI_OK_SELECT);
	return sis_value_int8(0, 1);
}

/*
 * Writes down those that are gone and have exactly one match among the new,
 * and returns how many there are.
 */
static int64
log_matches(const SisRun *run, SisRecordType type)
{
	const char *name = sis_record_desc(type)->name;
	SisParams	params = {0};

	sis_param_int8(&params, run->approved_run);
	sis_param_int8(&params, run->id);
	return (int64)
		sis_exec_as_owner(psprintf("WITH gone AS (SELECT d.source_id, k.kind, k.key FROM "
								   "(SELECT d.* FROM %s) d, LATERAL %s WHERE k.key IS NOT NULL), "
								   "gone1 AS (SELECT min(source_id) AS source_id, kind, key FROM gone GROUP BY kind, key HAVING count(*) = 1), "
								   "new AS (SELECT d.source_id, k.kind, k.key FROM creates_%s d, LATERAL %s "
								   "WHERE k.key IS NOT NULL), "
								   "new1 AS (SELECT min(source_id) AS source_id, kind, key FROM new GROUP BY kind, key HAVING count(*) = 1), "
								   "pairs AS (SELECT g.source_id AS gone, n.source_id AS new, string_agg(g.kind, ', ' ORDER BY g.kind) AS kinds "
								   "FROM gone1 g JOIN new1 n ON n.kind = g.kind AND n.key = g.key GROUP BY 1, 2), "
								   "single AS (SELECT gone, min(new) AS new, min(kinds) AS kinds FROM pairs GROUP BY gone HAVING count(*) = 1) "
								   "INSERT INTO sis_sync.rekey_pair (run_id, record_type, old_source_id, new_source_id, matched_on) "
								   "SELECT $2, '%s', min(gone), new, min(kinds) FROM single GROUP BY new HAVING count(*) = 1",
								   gone_sql(run, type), keys_sql(type, "d"),
								   name, keys_sql(type, "d"), name),
						  &params, SPI_OK_INSERT);
}

static void
forget_matches(const SisRun *run, SisRecordType type)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->id);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_exec_as_owner("DELETE FROM sis_sync.rekey_pair WHERE run_id = $1 AND record_type = $2",
					  &params, SPI_OK_DELETE);
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

/* Judges a type; its matches are written down when they seem to be some. */
static bool
is_rekeyed(SisRun *run, SisDelta *delta, SisRecordType type, Rekeyed *found)
{
	int64		all_gone = delta->types[type].by_act[SIS_ACT_GONE];

	found->type = type;
	found->created = run->counts[type].created;
	if (all_gone == 0 || found->created == 0)
		return false;
	found->gone = count_gone(run, delta, type);
	found->stored = count_in_force(run, type) - (all_gone - found->gone);
	/* who lets all of them go means it */
	if (found->stored < MIN_REKEYED || sis_guard_allows_all(run, type))
		return false;
	found->matches = log_matches(run, type);
	if ((found->gone * 2 > found->stored && found->created >= found->gone) ||
		(found->gone >= MIN_REKEYED && found->matches * 2 >= found->gone))
		return true;
	if (found->matches > 0)
		forget_matches(run, type);
	return false;
}

static char *
sentence(const Rekeyed *found)
{
	return psprintf("%lld of %lld records are gone and %lld are new, %lld of them with a match",
					(long long) found->gone, (long long) found->stored,
					(long long) found->created, (long long) found->matches);
}

static SisFailure *
verdict(SisRun *run, const Rekeyed *found, int nfound)
{
	SisFailure *failure = palloc0(sizeof(SisFailure));
	const char *name = sis_record_desc(found[0].type)->name;

	sis_fail(failure, SIS_ERR_REKEYED, name,
			 psprintf("%sA match is a new record that shares a number, an e-mail address, or name and birth date with one that is gone, and with no other. Nothing was changed.",
					  nfound == 1 ? "" :
					  psprintf("Of type %s as well, %s. ",
							   sis_record_desc(found[1].type)->name,
							   sentence(&found[1]))),
			 psprintf("See the pairs with SELECT * FROM sis_sync.rekey_match WHERE run_id = %lld: did IDs lose leading zeros, or was the export set up anew? "
					  "If a mistake changed them, have it mended and run the sync again. "
					  "If they are the same people under new IDs for good, CALL sis_sync.rekey(%lld) gives them these and keeps the rest; "
					  "if the old ones have left, SELECT sis_sync.approve(%lld, 'why they may go'). Then run the sync again.",
					  (long long) run->id, (long long) run->id,
					  (long long) run->id),
			 "IDs of type %s seem to have changed: %s", name,
			 sentence(&found[0]));
	return failure;
}

SisFailure *
sis_guard_rekeyed(SisRun *run, SisDelta *delta)
{
	static const SisRecordType types[] = {SIS_STUDENT, SIS_STAFF};
	Rekeyed		found[lengthof(types)];
	int			nfound = 0;

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		if (is_rekeyed(run, delta, types[i], &found[nfound]))
			nfound++;
	}
	if (nfound == 0)
		return NULL;

	sis_guard_nothing_done(run);
	for (int i = 0; i < nfound; i++)
	{
		sis_approval_hold(run, found[i].type);
		run->counts[found[i].type].to_archive = found[i].gone;
		run->counts[found[i].type].in_force = found[i].stored;
	}
	return verdict(run, found, nfound);
}
