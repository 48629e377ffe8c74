/*
 * creep.c
 *		The threshold over several days (sync.creep_threshold).
 *
 * A feed that loses a few records each night stays below the threshold of a
 * night for ever.  What the runs of some days have archived is told by the
 * roster itself, by archived_run and archived_at: so whoever returned, or was
 * brought back by an undo, is in no sum; nor is who returns tonight.
 */
#include "postgres.h"

#include "base/spi.h"
#include "catalog/pg_type.h"
#include "creep.h"
#include "utils/timestamp.h"

void
sis_creep_load(const SisRun *run, SisCreep *creep)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_exec_as_owner("SELECT trim_scale(creep_threshold)::text, creep_days::int8, now() - make_interval(days => creep_days) "
					  "FROM sis_sync.sync WHERE name = $1",
					  &params, SPI_OK_SELECT);
	creep->percent = sis_value(0, 1);
	creep->days = sis_value_int8(0, 2);
	creep->since = sis_value_int8(0, 3);	/* a timestamptz is an int8 */
}

static char *
end_stayed_sql(const SisRun *run, SisRecordType type, const char *column)
{
	return psprintf(" AND NOT EXISTS (SELECT 1 FROM %s e WHERE e.sync_id = $1 "
					"AND e.source_id = t.%s AND e.archived_run = t.archived_run)",
					run->roster->tables[type], column);
}

/* A condition on archived links t: both ends stayed, and no such link came. */
static char *
link_sql(const SisRun *run, SisRecordType type)
{
	bool		enrollment = type == SIS_ENROLLMENT;

	return psprintf("%s%s%s AND NOT EXISTS (SELECT 1 FROM %s n WHERE n.sync_id = $1 AND n.archived_at IS NULL AND %s)",
					enrollment ?
					end_stayed_sql(run, SIS_SECTION, "section_source_id") :
					end_stayed_sql(run, SIS_STUDENT, "student_source_id"),
					enrollment ?
					end_stayed_sql(run, SIS_STUDENT, "person_source_id") :
					end_stayed_sql(run, SIS_CONTACT, "contact_source_id"),
					enrollment ?
					end_stayed_sql(run, SIS_STAFF, "person_source_id") : "",
					run->roster->tables[type],
					enrollment ?
					"n.section_source_id = t.section_source_id AND n.person_source_id = t.person_source_id AND n.role = t.role" :
					"n.student_source_id = t.student_source_id AND n.contact_source_id = t.contact_source_id");
}

static int64
count_before(const SisRun *run, const SisDelta *delta, const SisCreep *creep,
			 SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	SisParams	params = {0};

	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, run->sync->name);
	sis_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(creep->since), false);
	sis_exec_on_roster(psprintf("SELECT count(*) FROM %s t WHERE t.sync_id = $1 AND t.archived_at >= $3 AND t.sis_managed "
								"AND t.archived_reason <> 'ended' AND t.archived_run IN (SELECT r.id FROM sis_sync.run r "
								"WHERE r.sync = $2 AND r.kind = 'sync' AND r.undone_by IS NULL) "
								"AND NOT EXISTS (SELECT 1 FROM sis_sync.approval a JOIN sis_sync.pending_archive p ON p.run_id = a.run_id "
								"WHERE a.sync = $2 AND a.approved_at <= t.archived_at AND p.record_type = '%s' AND p.source_id = t.source_id)%s%s",
								run->roster->tables[type], desc->name,
								desc->is_link ? link_sql(run, type) : "",
								delta->types[type].rows[SIS_DELTA_CHANGES] == 0 ? "" :
								psprintf(" AND NOT EXISTS (SELECT 1 FROM changes_%s c WHERE c.act = '%c' AND c.source_id = t.source_id)",
										 desc->name, SIS_ACT_RESTORE)),
					   &params);
	return sis_value_int8(0, 1);
}

/*
 * N as the first run of these days found it: nothing was written between their
 * beginning and that run.  Without one, nothing has changed since.
 */
static int64
count_in_force(const SisRun *run, const SisCreep *creep, SisRecordType type)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_text(&params, sis_record_desc(type)->name);
	sis_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(creep->since), false);
	sis_param_int8(&params, run->id);
	if (sis_exec_as_owner("SELECT c.in_force FROM sis_sync.run r JOIN sis_sync.run_count c ON c.run_id = r.id "
						  "WHERE r.sync = $1 AND r.kind = 'sync' AND NOT r.dry_run AND r.started_at >= $3 AND r.id < $4 "
						  "AND c.record_type = $2 AND c.in_force > 0 ORDER BY r.id LIMIT 1",
						  &params, SPI_OK_SELECT) > 0)
		return sis_value_int8(0, 1);
	return run->counts[type].in_force;
}

void
sis_creep_count(const SisRun *run, const SisDelta *delta,
				const SisCreep *creep, SisRecordType type,
				SisCreepCount *count)
{
	SisParams	params = {0};

	count->before = count_before(run, delta, creep, type);
	count->in_force = count_in_force(run, creep, type);
	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, count->in_force);
	sis_param_bool(&params, type != SIS_SCHOOL && type != SIS_STUDENT);
	sis_exec_as_owner("SELECT greatest(div($2 * creep_threshold, 100), "
					  "CASE WHEN creep_threshold > 0 AND $3 THEN min_allowed ELSE 0 END)::int8 "
					  "FROM sis_sync.sync WHERE name = $1",
					  &params, SPI_OK_SELECT);
	count->allowed = sis_value_int8(0, 1);
}
