/*
 * guard.c
 *		The checks before the threshold: is what was received complete, of the
 *		right district, with the right schools, and readable enough?
 */
#include "postgres.h"

#include "base/error.h"
#include "base/spi.h"
#include "base/value.h"
#include "catalog/pg_type.h"
#include "guard.h"
#include "scope.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

/* Below so many records of a type, none tonight is an accident of small numbers. */
#define EMPTY_TYPE_MIN	5

/* So many rows of a type may always be rejected. */
#define MIN_REJECTS		5

/*
 * A roster survives DROP EXTENSION, and IDs then begin anew: another
 * district's records must not be taken for this one's.
 */
static void
check_roster_is_ours(SisRun *run)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	if (sis_exec_as_owner("SELECT 1 FROM sis_sync.sync_state WHERE sync = $1",
						  &params, SPI_OK_SELECT) > 0)
		return;
	if (!sis_roster_has(run->roster, SIS_STUDENT, run->sync->id,
						"fingerprint IS NOT NULL"))
		return;
	ereport(ERROR,
			(sis_errcode(SIS_ERR_NOT_CONFIGURED),
			 errmsg("roster \"%s\" holds records of sync_id %lld that sync \"%s\" has not written",
					run->sync->target_schema, (long long) run->sync->id,
					run->sync->name),
			 errdetail("They are of an earlier installation of sis_sync, perhaps of another district."),
			 errhint("If they are this district's, adopt them with INSERT INTO sis_sync.sync_state (sync) VALUES (%s); else use another roster.",
					 quote_literal_cstr(run->sync->name))));
}

void
sis_guard_settings(SisRun *run)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, run->sync->name);
	if (sis_exec_as_owner("SELECT 1 FROM sis_sync.sync WHERE id = $1 AND name = $2 FOR KEY SHARE",
						  &params, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sync \"%s\" was renamed or dropped while it ran",
						run->sync->name),
				 errhint("Run it again under its new name.")));
	check_roster_is_ours(run);
}

void
sis_guard_staged(SisRun *run)
{
	int			slot = sis_slot_of(run->id);

	/* from here on nobody else can take it; a CALL has it locked already */
	if (slot < 0 ||
		!(run->looks_only ? sis_slot_share(slot) : sis_slot_lock(slot, false)))
		ereport(ERROR,
				(sis_errcode(SIS_ERR_INCOMPLETE),
				 errmsg("the rows staged by run %lld are gone", (long long) run->id),
				 errdetail("Another run has taken their staging slot."),
				 errhint("Stage again with sis_sync.stage(%s).",
						 quote_literal_cstr(run->sync->name))));
	run->slot = slot;
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		int64		rows;

		sis_stage_leaf_count((SisRecordType) type, slot, run->id, &rows,
							 &run->counts[type].active);
		if (rows != run->counts[type].staged_rows)
			ereport(ERROR,
					(sis_errcode(SIS_ERR_INCOMPLETE),
					 errmsg("the rows staged by run %lld are gone", (long long) run->id),
					 errdetail("%lld rows of type %s were staged, %lld are there; staging tables are emptied by a crash.",
							   (long long) run->counts[type].staged_rows,
							   sis_record_desc((SisRecordType) type)->name,
							   (long long) rows),
					 errhint("Stage again with sis_sync.stage(%s).",
							 quote_literal_cstr(run->sync->name)),
					 err_generic_string(PG_DIAG_TABLE_NAME,
										sis_record_desc((SisRecordType) type)->name)));
	}
}

/* Changes of a roster that was never whole would leave it so. */
static void
check_whole_before(SisRun *run, SisRecordType type)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	if (sis_exec_as_owner("SELECT 1 FROM sis_sync.sync_state WHERE sync = $1",
						  &params, SPI_OK_SELECT) > 0 &&
		sis_roster_has(run->roster, SIS_STUDENT, run->sync->id, "true"))
		return;
	ereport(ERROR,
			(sis_errcode(SIS_ERR_INCOMPLETE),
			 errmsg("the source holds changes only, and sync \"%s\" has never had whole files",
					run->sync->name),
			 errdetail("Roster \"%s\" holds no student of it that they could change.",
					   run->sync->target_schema),
			 errhint("Have the source export whole files (bulk) once."),
			 err_generic_string(PG_DIAG_TABLE_NAME,
								sis_record_desc(type)->name)));
}

/* What a package named is not named again: says when one was not applied. */
static void
note_failed_packages(SisRun *run)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner("SELECT count(*), max(r.id) FROM sis_sync.run r WHERE r.sync = $1 AND r.id < $2 "
					  "AND r.kind = 'sync' AND NOT r.dry_run AND r.status IN ('failed', 'interrupted') "
					  "AND r.error_code IS DISTINCT FROM 'SI001' "
					  "AND EXISTS (SELECT 1 FROM sis_sync.run_count c WHERE c.run_id = r.id AND c.offered = 'delta') "
					  "AND r.id > coalesce((SELECT max(w.id) FROM sis_sync.run w JOIN sis_sync.run_count c ON c.run_id = w.id "
					  "WHERE w.sync = $1 AND w.status = 'succeeded' AND NOT w.dry_run "
					  "AND c.record_type = 'student' AND c.offered = 'full'), 0)",
					  &params, SPI_OK_SELECT);
	if (sis_value_int8(0, 1) > 0)
		sis_run_note(run, "%lld package(s) of changes failed since whole files last came, the last of them in run %lld: what they named is missing unless they were read again since.",
					 (long long) sis_value_int8(0, 1),
					 (long long) sis_value_int8(0, 2));
}

void
sis_guard_offers(SisRun *run)
{
	bool		is_delta = false;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;

		/* the answer is the same for every type: the first one asks */
		if (run->counts[type].offer == SIS_OFFER_DELTA && !is_delta)
		{
			check_whole_before(run, type);
			is_delta = true;
		}
		if (run->counts[type].offer == SIS_OFFER_MISSING &&
			sis_roster_has(run->roster, type, run->sync->id,
						   "sis_managed AND archived_at IS NULL"))
			ereport(ERROR,
					(sis_errcode(SIS_ERR_INCOMPLETE),
					 errmsg("the source has no records of type %s, and does not say so",
							sis_record_desc(type)->name),
					 errdetail("The roster has some, and nothing in the source tells whether they are gone or only missing."),
					 errhint("Have the file sent again; if the source has stopped sending it for good, let its manifest say \"absent\"."),
					 err_generic_string(PG_DIAG_TABLE_NAME,
										sis_record_desc(type)->name)));
	}
	if (is_delta)
		note_failed_packages(run);
}

void
sis_guard_district(SisRun *run)
{
	SisParams	params = {0};
	char	   *known;

	if (run->district_id == NULL)
		return;
	sis_param_text(&params, run->sync->name);
	if (sis_exec_as_owner("SELECT district_id FROM sis_sync.sync_state WHERE sync = $1",
						  &params, SPI_OK_SELECT) == 0)
		return;
	known = sis_value(0, 1);
	if (known == NULL || strcmp(known, run->district_id) == 0)
		return;
	ereport(ERROR,
			(sis_errcode(SIS_ERR_CREDENTIALS),
			 errmsg("the data is of another district: \"%s\", not \"%s\"",
					sis_printable(run->district_id), sis_printable(known)),
			 errdetail("Sync \"%s\" has been filled from district \"%s\" so far.",
					   run->sync->name, sis_printable(known)),
			 errhint("Check the server's address and credentials. If the district's ID really changed, run UPDATE sis_sync.sync_state SET district_id = NULL WHERE sync = %s.",
					 quote_literal_cstr(run->sync->name))));
}

/* Nobody's data is wrong for being old: said, and no more. */
static void
warn_of_age(SisRun *run)
{
	SisParams	params = {0};
	char	   *as_of = pstrdup(timestamptz_to_str(run->source_as_of));

	sis_param_text(&params, run->sync->name);
	sis_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(run->source_as_of),
			  false);
	if (sis_exec_as_owner("SELECT max_age_hours::text FROM sis_sync.sync WHERE name = $1 "
						  "AND $2 < now() - make_interval(hours => max_age_hours)",
						  &params, SPI_OK_SELECT) == 0)
		return;
	if (sis_run_note(run, "The source is older than %s hours: it is of %s.",
					 sis_value(0, 1), as_of))
		ereport(WARNING,
				(errmsg("the source of sync \"%s\" is older than %s hours",
						run->sync->name, sis_value(0, 1)),
				 errdetail("It is of %s.", as_of),
				 errhint("Ask whoever sends it whether the export still runs.")));
}

void
sis_guard_age(SisRun *run)
{
	SisParams	params = {0};
	TimestampTz last;

	if (run->source_as_of == 0)
		return;
	warn_of_age(run);
	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, run->options_hash);
	if (sis_exec_as_owner("SELECT source_as_of FROM sis_sync.sync_state WHERE sync = $1 AND options_hash = $2",
						  &params, SPI_OK_SELECT) == 0)
		return;
	last = sis_value_int8(0, 1);	/* a timestamptz is an int8 */
	if (last == 0 || run->source_as_of >= last)
		return;
	ereport(ERROR,
			(sis_errcode(SIS_ERR_INCOMPLETE),
			 errmsg("the source is older than what was applied last"),
			 errdetail("It is of %s; the last applied run saw %s.",
					   pstrdup(timestamptz_to_str(run->source_as_of)),
					   pstrdup(timestamptz_to_str(last))),
			 errhint("Have it sent again. To go back to it on purpose, run UPDATE sis_sync.sync_state SET source_as_of = NULL WHERE sync = %s.",
					 quote_literal_cstr(run->sync->name))));
}

/* ----------
 * Schools
 * ----------
 */

static const char *
without_zeros(const char *id)
{
	while (*id == '0')
		id++;
	return id;
}

const char *
sis_guard_nearest(const char *id, char **received, int n)
{
	const char *best = NULL;
	int			best_distance = Max((int) strlen(id) / 3, 1) + 1;

	for (int i = 0; i < n; i++)
	{
		int			distance;

		if (strcmp(without_zeros(id), without_zeros(received[i])) == 0)
			return received[i];
		if (strlen(id) > 255 || strlen(received[i]) > 255)
			continue;
		distance = varstr_levenshtein_less_equal(id, strlen(id), received[i],
												 strlen(received[i]), 1, 1, 1,
												 best_distance, true);
		if (distance < best_distance)
		{
			best = received[i];
			best_distance = distance;
		}
	}
	return best;
}

/* IDs of the schools received, the district's own and the source's. */
static char **
received_ids(SisRun *run, int *n, int64 *nschools)
{
	SisParams	params = {0};
	char	  **ids;
	uint64		rows;

	sis_param_int8(&params, run->id);
	rows = sis_exec_as_owner(psprintf("SELECT DISTINCT u.id, count(*) OVER () FROM %s s, "
									  "LATERAL (VALUES (s.sis_id), (s.source_id)) AS u (id) "
									  "WHERE s.run_id = $1 AND s.status = 'active' AND u.id IS NOT NULL ORDER BY u.id",
									  sis_stage_leaf(SIS_SCHOOL, run->slot)),
							 &params, SPI_OK_SELECT);
	ids = palloc(sizeof(char *) * Max(rows, 1));
	for (uint64 i = 0; i < rows; i++)
		ids[i] = sis_value(i, 1);
	*n = (int) rows;
	sis_exec_as_owner(psprintf("SELECT count(*) FROM %s WHERE run_id = $1 AND status = 'active'",
							   sis_stage_leaf(SIS_SCHOOL, run->slot)),
					  &params, SPI_OK_SELECT);
	*nschools = sis_value_int8(0, 1);
	return ids;
}

static void
schools_not_found(SisRun *run, char **missing, int64 *hits, int nmissing)
{
	int			nreceived;
	int64		nschools;
	char	  **received = received_ids(run, &nreceived, &nschools);
	StringInfoData detail,
				hint;
	char	   *whereabouts;
	const char *closed;

	initStringInfo(&detail);
	initStringInfo(&hint);
	whereabouts = sis_guard_whereabouts(run, missing, hits, nmissing, &closed);
	for (int i = 0; i < nmissing; i++)
	{
		const char *near = hits[i] == 0 ?
			sis_guard_nearest(missing[i], received, nreceived) : NULL;

		appendStringInfo(&detail, "%s\"%s\"%s", i == 0 ? "" : ", ",
						 sis_printable(missing[i]),
						 hits[i] > 1 ? " (ambiguous: more than one school has it)" : "");
		if (near != NULL)
			appendStringInfo(&hint, "\"%s\" is set up, \"%s\" was received. ",
							 sis_printable(missing[i]), sis_printable(near));
	}
	appendStringInfo(&hint, "The source sent %lld school%s. Compare sis_sync.sync_school with SELECT source_id, sis_id, name FROM sis_sync.stage_school WHERE run_id = %lld.",
					 (long long) nschools, nschools == 1 ? "" : "s",
					 (long long) run->id);
	if (closed != NULL)
		appendStringInfo(&hint, " If a school has closed for good, CALL sis_sync.retire_school(%s, %s, 'why').",
						 quote_literal_cstr(run->sync->name),
						 quote_literal_cstr(closed));
	ereport(ERROR,
			(sis_errcode(SIS_ERR_SCHOOLS_NOT_FOUND),
			 errmsg("could not find %d of %d schools to sync", nmissing,
					run->sync->nschools),
			 errdetail("Not found: %s.%s", detail.data, whereabouts),
			 errhint("%s", hint.data),
			 err_generic_string(PG_DIAG_TABLE_NAME, "school")));
}

void
sis_guard_schools(SisRun *run)
{
	SisParams	params = {0};
	char	  **missing;
	int64	   *hits;
	int			nmissing = 0;
	uint64		n;

	/*
	 * A school whose row was rejected tonight is there, if it is stored: its
	 * record stays as it is.
	 */
	sis_param_int8(&params, run->id);
	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, run->sync->name);
	n = sis_exec_on_roster(psprintf("WITH received AS (SELECT source_id, btrim(sis_id) AS sis_id FROM %s "
								   "WHERE run_id = $1 AND status = 'active' "
								   "UNION SELECT t.source_id, t.sis_id FROM %s t JOIN %s s ON s.source_id = t.source_id "
								   "WHERE t.sync_id = $2 AND t.archived_at IS NULL AND s.run_id = $1 AND s.status = 'rejected'), "
								   "found AS (SELECT c.school_id, "
								   "(SELECT array_agg(r.source_id) FROM received r WHERE r.sis_id = btrim(c.school_id)) AS by_sis_id, "
								   "(SELECT array_agg(r.source_id) FROM received r WHERE r.source_id = btrim(c.school_id)) AS by_source_id "
								   "FROM sis_sync.sync_school c WHERE c.sync = $3 AND c.active) "
								   "SELECT school_id, cardinality(coalesce(by_sis_id, by_source_id, '{}'))::int8, "
								   "(coalesce(by_sis_id, by_source_id))[1] FROM found ORDER BY school_id",
								   sis_stage_leaf(SIS_SCHOOL, run->slot),
								   run->roster->tables[SIS_SCHOOL],
								   sis_stage_leaf(SIS_SCHOOL, run->slot)),
						  &params);
	run->schools = palloc(sizeof(char *) * Max(n, 1));
	run->nschools = 0;
	missing = palloc(sizeof(char *) * Max(n, 1));
	hits = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		int64		nhits = sis_value_int8(i, 2);

		if (nhits == 1)
			run->schools[run->nschools++] = sis_value(i, 3);
		else
		{
			missing[nmissing] = sis_value(i, 1);
			hits[nmissing++] = nhits;
		}
	}
	if (nmissing > 0)
		schools_not_found(run, missing, hits, nmissing);
	if (run->sync->all_schools)
		run->nschools = -1;
}

/* ----------
 * Rejects and empty types
 * ----------
 */

void
sis_guard_rejects(SisRun *run, const SisDelta *delta)
{
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		const SisCounts *counts = &run->counts[type];
		const char *name = sis_record_desc((SisRecordType) type)->name;
		SisParams	params = {0};
		int64		rows = Max(counts->rows_read,
							   counts->received + counts->rejected);
		int64		rejected = counts->rejected -
			delta->types[type].by_stand[SIS_STAND_LAGGING];
		int64		allowed;

		if (rejected <= MIN_REJECTS)
			continue;
		sis_param_text(&params, run->sync->name);
		sis_param_int8(&params, rows);
		sis_exec_as_owner("SELECT div($2 * reject_threshold, 100)::int8, trim_scale(reject_threshold)::text "
						  "FROM sis_sync.sync WHERE name = $1",
						  &params, SPI_OK_SELECT);
		allowed = Max(sis_value_int8(0, 1), MIN_REJECTS);
		if (rejected <= allowed)
			continue;
		ereport(ERROR,
				(sis_errcode(SIS_ERR_REJECTS),
				 errmsg("too many rejects: %lld of %lld rows of type %s were rejected, %s percent allows %lld",
						(long long) rejected, (long long) rows, name,
						sis_value(0, 2), (long long) allowed),
				 errhint("See SELECT reason, count(*), min(line) FROM sis_sync.reject WHERE run_id = %lld AND NOT loaded GROUP BY reason. If the bytes of a file cannot be read, it may be Windows-1252: ALTER SERVER %s OPTIONS (ADD encoding 'WIN1252').",
						 (long long) run->id, quote_identifier(run->sync->server)),
				 err_generic_string(PG_DIAG_TABLE_NAME, name)));
	}
}

static void
empty_type(SisRun *run, SisRecordType type, const char *message, int64 in_force)
{
	const char *name = sis_record_desc(type)->name;

	ereport(ERROR,
			(sis_errcode(SIS_ERR_INCOMPLETE),
			 errmsg("%s", message),
			 errdetail("%lld records of type %s were received, %lld of them out of scope; %lld are in force on record.",
					   (long long) run->counts[type].received, name,
					   (long long) run->counts[type].out_of_scope,
					   (long long) in_force),
			 type == SIS_STUDENT ?
			 errhint("See SELECT * FROM sis_sync.stage_student WHERE run_id = %lld; check that the source still shares its students, and that the schools set up are the right ones.",
					 (long long) run->id) :
			 errhint("If they are really gone, run %s and sync again.",
					 sis_guard_raise_sql(run, type, "100")),
			 err_generic_string(PG_DIAG_TABLE_NAME, name)));
}

void
sis_guard_empty(SisRun *run)
{
	SisParams	params;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisRecordType type = (SisRecordType) t;
		int64		in_force;

		if (run->counts[type].offer != SIS_OFFER_FULL ||
			run->counts[type].active - run->counts[type].out_of_scope > 0)
			continue;
		sis_scope_params(run, &params);
		sis_exec_on_roster(psprintf("SELECT count(*) FROM (%s) t WHERE t.in_force",
									sis_scope_stored_sql(run, type, false)),
						   &params);
		in_force = sis_value_int8(0, 1);
		if (type == SIS_STUDENT)
			empty_type(run, type, "no student in scope was received", in_force);
		if (in_force <= EMPTY_TYPE_MIN)
			continue;
		if (!sis_guard_allows_all(run, type))
			empty_type(run, type,
					   psprintf("no record of type %s in scope was received",
								sis_record_desc(type)->name), in_force);
	}
}

void
sis_guard_nothing_done(SisRun *run)
{
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		SisCounts  *counts = &run->counts[t];

		counts->created = counts->updated = counts->restored = 0;
		counts->refreshed = 0;
	}
}
