/*
 * threshold.c
 *		The deletion threshold, in the district and in each school (rule 1).
 *
 * How it works: of the records that are gone, those that count are put into a
 * relation "counted" with their schools; A, the split by cause and the figures
 * of each school come from it, N from the stored records.  What an approval
 * names is in neither: the records held and approved count as left.  Links are judged
 * last: a link counts only if both its ends stay, and an end whose own type
 * has tripped stays; where a trip holds back some schools only, an end of these.
 */
#include "postgres.h"

#include "approve.h"
#include "base/error.h"
#include "base/spi.h"
#include "base/value.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "creep.h"
#include "guard.h"
#include "hold.h"
#include "scope.h"
#include "utils/builtins.h"

typedef struct Trip
{
	SisRecordType type;
	char	   *school;			/* NULL: the district */
	int64		to_archive;
	int64		left_scope;
	int64		in_force;
	char	   *percent;
	int64		allowed;
	bool		all_lost;		/* tripped because a school loses everybody */
	bool		creeps;			/* over several days: in_force as they began */
	int64		before;			/* archived in these days before tonight */
} Trip;

typedef struct Judge
{
	SisRun	   *run;
	SisDelta   *delta;
	SisParams	params;			/* those of scope.c, and $6: approved_run */
	SisCreep	creep;
	TupleDesc	desc;			/* of "counted" */
	bool		tripped[SIS_N_RECORD_TYPES];
	List	   *trips;
} Judge;

/* The detail names so many trips; the others stand in run_school. */
#define MAX_TRIPS_NAMED	100

/* the percent that holds for a type, and for one that nothing governs */
#define PERCENT_SQL(ungoverned) \
	"coalesce((SELECT h.percent FROM sis_sync.sync_threshold h WHERE h.sync = s.name " \
	"AND h.record_type = $2 AND (h.valid_until IS NULL OR h.valid_until > now())), " \
	"CASE WHEN $3 THEN s.deletion_threshold ELSE " ungoverned " END)"

/* ----------
 * What must stay
 * ----------
 */

/*
 * A boolean over alias d (gone links): does one of its ends leave?  stays: a
 * boolean for each end that is held back though it is not there tonight.
 */
static const char *
leaving_sql(const char *end1_stays, const char *end2_stays)
{
	return psprintf("((e1.state IS DISTINCT FROM %d AND NOT %s) OR (e2.state IS DISTINCT FROM %d AND NOT %s))",
					SIS_END_THERE, end1_stays, SIS_END_THERE, end2_stays);
}

static const char *
end_joins(SisRecordType type)
{
	return type == SIS_ENROLLMENT ?
		" LEFT JOIN resolved_section e1 ON e1.source_id = d.section_source_id"
		" LEFT JOIN resolved_person e2 ON e2.source_id = d.person_source_id" :
		" LEFT JOIN resolved_student e1 ON e1.source_id = d.student_source_id"
		" LEFT JOIN resolved_contact e2 ON e2.source_id = d.contact_source_id";
}

static void
keep_what_must_stay(SisRun *run, SisDelta *delta, SisRecordType type,
					const SisParams *params)
{
	SisCounts  *counts = &run->counts[type];
	const char *name = sis_record_desc(type)->name;

	if (counts->unreadable > 0)
	{
		sis_run_note(run, "Type %s archived nothing: the ID of %lld rejected row(s) cannot be read.",
					 name, (long long) counts->unreadable);
		sis_delta_keep_gone(delta, type,
							psprintf("SELECT d.* FROM gone_%s d WHERE false", name),
							params);
	}
	else if (!sis_offer_is_whole(counts->offer))
		sis_delta_keep_gone(delta, type,
							psprintf("SELECT d.* FROM gone_%s d%s WHERE %s", name,
									 end_joins(type),
									 leaving_sql("false", "false")),
							params);
}

void
sis_guard_keep(SisRun *run, SisDelta *delta)
{
	SisParams	params;

	sis_scope_params(run, &params);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		if (delta->types[t].rows[SIS_DELTA_GONE] > 0)
			keep_what_must_stay(run, delta, (SisRecordType) t, &params);
	}
}

/* ----------
 * Counting A and N
 * ----------
 */

/* The schools of a record, as a text[] over an alias. */
static const char *
schools_sql(SisRecordType type, const char *alias)
{
	switch (type)
	{
		case SIS_SECTION:
			return psprintf("ARRAY[%s.school_source_id]", alias);
		case SIS_STUDENT:
		case SIS_STAFF:
			return psprintf("%s.school_source_ids || %s.school_source_id",
							alias, alias);
		case SIS_ENROLLMENT:
			return "ARRAY[sec.school_source_id]";
		default:
			return "NULL::text[]";
	}
}

/* An enrollment belongs to its section's school. */
static const char *
school_join(const Judge *judge, SisRecordType type, const char *alias)
{
	if (type != SIS_ENROLLMENT)
		return "";
	return psprintf(" LEFT JOIN %s sec ON sec.sync_id = $2 AND sec.source_id = %s.section_source_id",
					sis_scope_before_sql(judge->run, SIS_SECTION), alias);
}

/* A gone link does not count when the same link arrives under a new ID. */
static const char *
renewed_sql(const Judge *judge, SisRecordType type)
{
	const char *same = type == SIS_ENROLLMENT ?
		"n.section_source_id = d.section_source_id AND n.person_source_id = d.person_source_id AND n.role = d.role" :
		"n.student_source_id = d.student_source_id AND n.contact_source_id = d.contact_source_id";

	return psprintf(" AND NOT EXISTS (SELECT 1 FROM creates_%s n WHERE %s)"
					" AND NOT EXISTS (SELECT 1 FROM changes_%s n WHERE n.act = 'r' AND %s)%s",
					sis_record_desc(type)->name, same,
					sis_record_desc(type)->name, same,
					!judge->run->applied ? "" :
					psprintf(" AND NOT EXISTS (SELECT 1 FROM %s n WHERE n.sync_id = $2 AND n.archived_at IS NULL "
							 "AND n.source_id <> d.source_id AND (n.created_run = $1 OR n.restored_run = $1) AND %s)",
							 judge->run->roster->tables[type], same));
}

/* A boolean: is that end held back by a trip of its own type, or school? */
static const char *
end_held_sql(const Judge *judge, SisRecordType type, const char *source_id)
{
	if (judge->run->hold != NULL)
		return sis_hold_names_sql(type, source_id);
	return judge->tripped[type] ? "true" : "false";
}

static char *
counted_sql(const Judge *judge, SisRecordType type)
{
	StringInfoData sql;
	bool		link = sis_record_desc(type)->is_link;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT d.source_id, d.reason, %s FROM gone_%s d%s%s WHERE d.act = 'g' AND NOT %s",
					 schools_sql(type, "d"), sis_record_desc(type)->name,
					 link ? end_joins(type) : "", school_join(judge, type, "d"),
					 sis_approval_names_sql(judge->run, type, "d", "$6"));
	if (link && type == SIS_ENROLLMENT)
		appendStringInfo(&sql, " AND NOT %s%s",
						 leaving_sql(end_held_sql(judge, SIS_SECTION, "d.section_source_id"),
									 psprintf("(%s OR %s)",
											  end_held_sql(judge, SIS_STUDENT, "d.person_source_id"),
											  end_held_sql(judge, SIS_STAFF, "d.person_source_id"))),
						 renewed_sql(judge, type));
	else if (link)
		appendStringInfo(&sql, " AND NOT %s%s",
						 leaving_sql(end_held_sql(judge, SIS_STUDENT, "d.student_source_id"),
									 end_held_sql(judge, SIS_CONTACT, "d.contact_source_id")),
						 renewed_sql(judge, type));
	return sql.data;
}

static Trip *
add_trip(Judge *judge, SisRecordType type, char *school)
{
	Trip	   *trip = palloc0(sizeof(Trip));

	trip->type = type;
	trip->school = school;
	judge->trips = lappend(judge->trips, trip);
	judge->tripped[type] = true;
	return trip;
}

static void
threshold_params(const SisRun *run, SisRecordType type, SisParams *params)
{
	memset(params, 0, sizeof(SisParams));
	sis_param_text(params, run->sync->name);
	sis_param_text(params, sis_record_desc(type)->name);
	sis_param_bool(params, sis_record_desc(type)->governed);
	/* one of nine teachers may always resign; a school or a student not */
	sis_param_bool(params, type != SIS_SCHOOL && type != SIS_STUDENT);
}

bool
sis_guard_allows_all(const SisRun *run, SisRecordType type)
{
	SisParams	params;

	threshold_params(run, type, &params);
	sis_exec_as_owner("SELECT " PERCENT_SQL("0") " = 100 FROM sis_sync.sync s WHERE s.name = $1",
					  &params, SPI_OK_SELECT);
	return sis_value_bool(0, 1);
}

/* The sync may have a row of that type already. */
char *
sis_guard_raise_sql(const SisRun *run, SisRecordType type, const char *percent)
{
	return psprintf("INSERT INTO sis_sync.sync_threshold (sync, record_type, percent, valid_until) "
					"VALUES (%s, '%s', %s, now() + '1 day') ON CONFLICT (sync, record_type) "
					"DO UPDATE SET percent = excluded.percent, valid_until = excluded.valid_until",
					quote_literal_cstr(run->sync->name),
					sis_record_desc(type)->name, percent);
}

/* How many records in force an approval names and are gone. */
static int64
count_approved(const Judge *judge, SisRecordType type)
{
	if (judge->run->approved_run == 0 ||
		judge->delta->types[type].rows[SIS_DELTA_GONE] == 0)
		return 0;
	sis_exec_on_roster(psprintf("SELECT count(*) FROM gone_%s d WHERE d.act = 'g' AND %s",
								sis_record_desc(type)->name,
								sis_approval_names_sql(judge->run, type, "d", "$6")),
					   &judge->params);
	return sis_value_int8(0, 1);
}

/* N, with what is approved: counted when the type was compared, if it was. */
static int64
count_in_force(const Judge *judge, SisRecordType type)
{
	const SisTypeDelta *delta = &judge->delta->types[type];

	if (delta->compared)
		return delta->in_force;
	sis_exec_on_roster(psprintf("SELECT count(*) FROM (%s) t WHERE t.in_force",
								sis_scope_stored_sql(judge->run, type, false)),
					   &judge->params);
	return sis_value_int8(0, 1);
}

static void
judge_district(Judge *judge, SisRecordType type, int64 left_scope)
{
	SisCounts  *counts = &judge->run->counts[type];
	SisParams	params;
	char	   *percent;
	int64		approved = count_approved(judge, type);

	judge->run->approved += approved;
	counts->in_force = count_in_force(judge, type) - approved;

	threshold_params(judge->run, type, &params);
	sis_param_int8(&params, counts->in_force);
	sis_exec_as_owner("SELECT trim_scale(x.percent)::text, greatest(div($5 * x.percent, 100), "
					  "CASE WHEN x.percent > 0 AND $4 THEN x.min_allowed ELSE 0 END)::int8 "
					  "FROM (SELECT s.min_allowed, " PERCENT_SQL("100") " AS percent FROM sis_sync.sync s WHERE s.name = $1) x",
					  &params, SPI_OK_SELECT);
	percent = sis_value(0, 1);
	counts->allowed = sis_value_int8(0, 2);
	if (counts->to_archive > counts->allowed)
	{
		Trip	   *trip = add_trip(judge, type, NULL);

		trip->to_archive = counts->to_archive;
		trip->left_scope = left_scope;
		trip->in_force = counts->in_force;
		trip->percent = percent;
		trip->allowed = counts->allowed;
	}
}

/* A few each night are below the threshold of a night for ever. */
static void
judge_creep(Judge *judge, SisRecordType type, int64 left_scope)
{
	const SisCounts *counts = &judge->run->counts[type];
	SisCreepCount over_days;
	Trip	   *trip;

	if (judge->creep.percent == NULL || counts->to_archive == 0 ||
		!sis_record_desc(type)->governed)
		return;
	sis_creep_count(judge->run, judge->delta, &judge->creep, type, &over_days);
	if (over_days.before + counts->to_archive <= over_days.allowed)
		return;
	trip = add_trip(judge, type, NULL);
	trip->creeps = true;
	trip->before = over_days.before;
	trip->to_archive = counts->to_archive;
	trip->left_scope = left_scope;
	trip->in_force = over_days.in_force;
	trip->percent = judge->creep.percent;
	trip->allowed = over_days.allowed;
}

/* The district's total would hide a school that lost everybody. */
static void
judge_schools(Judge *judge, SisRecordType type)
{
	const char *of_scope = judge->run->nschools < 0 ? "" : " AND u.school = ANY ($6)";
	SisParams	params;
	SisRelation totals;
	TupleDesc	desc;
	uint64		n;

	/* N of each school */
	desc = CreateTemplateTupleDesc(2);
	TupleDescInitEntry(desc, 1, "school", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(desc, 2, "n", INT8OID, -1, 0);
	totals = sis_relation_open("school_totals", desc,
							   psprintf("SELECT u.school, count(*) FROM (%s) t%s, "
										"LATERAL (SELECT DISTINCT x.school FROM unnest(%s) AS x (school)) u "
										"WHERE u.school IS NOT NULL AND t.in_force%s GROUP BY u.school",
										sis_scope_stored_sql(judge->run, type, true),
										school_join(judge, type, "t"),
										schools_sql(type, "t"),
										judge->run->approved_run == 0 ? "" :
										psprintf(" AND NOT (%s AND t.source_id IN (SELECT d.source_id FROM gone_%s d WHERE d.act = 'g'))",
												 sis_approval_names_sql(judge->run, type, "t", "$6"),
												 sis_record_desc(type)->name)),
							   &judge->params);

	threshold_params(judge->run, type, &params);
	sis_param_int8(&params, judge->run->id);
	sis_param_text_array(&params, judge->run->schools, Max(judge->run->nschools, 0));
	sis_exec_as_owner(psprintf("INSERT INTO sis_sync.run_school (run_id, school_source_id, record_type, to_archive, "
							   "in_force, percent, allowed, tripped) "
							   "SELECT $5, y.school, $2, y.a, y.n, y.percent, y.allowed, "
							   "y.percent < 100 AND (y.a > y.allowed OR (y.a >= y.n AND y.n >= 5)) "
							   "FROM (SELECT a.school, a.a, coalesce(t.n, 0) AS n, p.percent, "
							   "greatest(div(greatest(coalesce(t.n, 0), p.school_min_records) * p.percent, 100), "
							   "CASE WHEN p.percent > 0 AND $4 THEN p.min_allowed ELSE 0 END)::int8 AS allowed "
							   "FROM (SELECT u.school, count(*) AS a FROM counted c, "
							   "LATERAL (SELECT DISTINCT x.school FROM unnest(c.schools) AS x (school)) u "
							   "WHERE u.school IS NOT NULL%s GROUP BY u.school) a "
							   "LEFT JOIN school_totals t ON t.school = a.school "
							   "CROSS JOIN (SELECT s.min_allowed, s.school_min_records, " PERCENT_SQL("100") " AS percent "
							   "FROM sis_sync.sync s WHERE s.name = $1) p) y "
							   "ON CONFLICT (run_id, school_source_id, record_type) DO UPDATE SET "
							   "to_archive = excluded.to_archive, in_force = excluded.in_force, percent = excluded.percent, "
							   "allowed = excluded.allowed, tripped = excluded.tripped",
							   of_scope),
					  &params, SPI_OK_INSERT);
	sis_relation_close(&totals);

	memset(&params, 0, sizeof(params));
	sis_param_int8(&params, judge->run->id);
	sis_param_text(&params, sis_record_desc(type)->name);
	n = sis_exec_as_owner("SELECT r.school_source_id, r.to_archive, r.in_force, trim_scale(r.percent)::text, r.allowed, "
						  "(SELECT count(*) FROM counted c WHERE c.reason = 'left scope' AND r.school_source_id = ANY (c.schools)) "
						  "FROM sis_sync.run_school r WHERE r.run_id = $1 AND r.record_type = $2 AND r.tripped "
						  "ORDER BY r.school_source_id",
						  &params, SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		Trip	   *trip = add_trip(judge, type, sis_value(i, 1));

		trip->to_archive = sis_value_int8(i, 2);
		trip->in_force = sis_value_int8(i, 3);
		trip->percent = sis_value(i, 4);
		trip->allowed = sis_value_int8(i, 5);
		trip->left_scope = sis_value_int8(i, 6);
		trip->all_lost = trip->to_archive <= trip->allowed;
	}
}

static void
judge_type(Judge *judge, SisRecordType type)
{
	SisCounts  *counts = &judge->run->counts[type];
	SisTypeDelta *delta = &judge->delta->types[type];
	SisRelation counted;
	int64		left_scope = 0;

	counts->to_archive = 0;
	if (delta->rows[SIS_DELTA_GONE] == 0)
	{
		judge_district(judge, type, 0);
		return;
	}
	counted = sis_relation_open("counted", judge->desc, counted_sql(judge, type),
								&judge->params);
	sis_exec_as_owner("SELECT count(*), count(*) FILTER (WHERE reason = 'left scope') FROM counted",
					  NULL, SPI_OK_SELECT);
	counts->to_archive = sis_value_int8(0, 1);
	left_scope = sis_value_int8(0, 2);
	judge_district(judge, type, left_scope);
	judge_creep(judge, type, left_scope);
	if (sis_record_desc(type)->has_school_guard && counts->to_archive > 0)
		judge_schools(judge, type);
	sis_relation_close(&counted);
}

/* ----------
 * The verdict
 * ----------
 */

static void
append_trip(StringInfo buf, const Judge *judge, const Trip *trip)
{
	const char *name = sis_record_desc(trip->type)->name;

	if (trip->creeps)
	{
		appendStringInfo(buf, "with %lld tonight, %lld of %lld records of type %s would be archived within %lld days, %s percent allows %lld",
						 (long long) trip->to_archive,
						 (long long) (trip->before + trip->to_archive),
						 (long long) trip->in_force, name,
						 (long long) judge->creep.days, trip->percent,
						 (long long) trip->allowed);
		return;
	}
	if (trip->all_lost)
		appendStringInfoString(buf, "all ");
	appendStringInfo(buf, "%lld of %lld records of type %s would be archived, %s percent allows %lld",
					 (long long) trip->to_archive, (long long) trip->in_force,
					 name, trip->percent, (long long) trip->allowed);
}

/* May the schools that have not tripped go on? */
static bool
schools_only(const Judge *judge)
{
	ListCell   *lc;

	foreach(lc, judge->trips)
	{
		if (((Trip *) lfirst(lc))->school == NULL)
			return false;
	}
	return judge->trips != NIL && judge->run->sync->holds_schools &&
		judge->run->commits;
}

static void
close_hold(SisRun *run)
{
	if (run->hold != NULL)
		sis_hold_close(run->hold);
	run->hold = NULL;
}

/* Finds what the trips so far hold back, if they do not hold back all. */
static void
hold_schools(Judge *judge)
{
	char	  **schools;
	int			n = 0;
	ListCell   *lc;

	close_hold(judge->run);
	if (!schools_only(judge))
		return;
	schools = palloc(sizeof(char *) * list_length(judge->trips));
	foreach(lc, judge->trips)
		schools[n++] = ((Trip *) lfirst(lc))->school;
	judge->run->hold = sis_hold_open(judge->run, judge->delta, schools, n);
}

static char *
ways_on(const Judge *judge, const Trip *first)
{
	const char *sync = quote_literal_cstr(judge->run->sync->name);

	return psprintf("See who it is: SELECT * FROM sis_sync.pending_archive WHERE run_id = %lld. "
					"If exactly these should go, SELECT sis_sync.approve(%lld, 'why they may go') and run the sync again. "
					"To let any go, %s, and run the sync again.",
					(long long) judge->run->id, (long long) judge->run->id,
					first->creeps ?
					psprintf("raise the threshold over several days: UPDATE sis_sync.sync SET creep_threshold = ... WHERE name = %s", sync) :
					psprintf("raise the threshold for this type until tomorrow: %s",
							 sis_guard_raise_sql(judge->run, first->type, "...")));
}

static SisFailure *
verdict(Judge *judge)
{
	SisFailure *failure;
	StringInfoData message,
				detail;
	Trip	   *first;
	ListCell   *lc;

	if (judge->trips == NIL)
		return NULL;
	if (judge->run->sync->mode != SIS_MODE_NORMAL)
	{
		close_hold(judge->run);
		return NULL;
	}
	hold_schools(judge);
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		if (judge->delta->types[t].rows[SIS_DELTA_GONE] > 0)
			sis_approval_hold(judge->run, (SisRecordType) t);
	}
	first = linitial(judge->trips);

	initStringInfo(&message);
	appendStringInfoString(&message, "deletion threshold reached");
	if (first->school != NULL)
		appendStringInfo(&message, " in school \"%s\"", sis_printable(first->school));
	appendStringInfoString(&message, ": ");
	append_trip(&message, judge, first);

	initStringInfo(&detail);
	foreach(lc, judge->trips)
	{
		Trip	   *trip = lfirst(lc);

		if (foreach_current_index(lc) == MAX_TRIPS_NAMED)
		{
			appendStringInfo(&detail, "And %d more: see sis_sync.run_school.\n",
							 list_length(judge->trips) - MAX_TRIPS_NAMED);
			break;
		}
		if (trip->school != NULL)
			appendStringInfo(&detail, "School \"%s\": ",
							 sis_printable(trip->school));
		else
			appendStringInfoString(&detail, "District: ");
		append_trip(&detail, judge, trip);
		appendStringInfo(&detail, " (%lld not in the feed, %lld now at a school that is not set up).\n",
						 (long long) (trip->to_archive - trip->left_scope),
						 (long long) trip->left_scope);
	}
	if (judge->run->approved > 0)
		appendStringInfo(&detail, "%lld more were held back by run %lld and approved: they are not counted, and wait as well.\n",
						 (long long) judge->run->approved,
						 (long long) judge->run->approved_run);
	appendStringInfoString(&detail, judge->run->hold != NULL ?
						   "What belongs to these schools is held back, other schools go on." :
						   "Nothing was archived.");

	failure = palloc0(sizeof(SisFailure));
	sis_fail(failure, SIS_ERR_THRESHOLD, sis_record_desc(first->type)->name,
			 detail.data,
			 ways_on(judge, first),
			 "%s", message.data);
	return failure;
}

SisFailure *
sis_guard_threshold(SisRun *run, SisDelta *delta)
{
	Judge	   *judge = palloc0(sizeof(Judge));

	sis_guard_keep(run, delta);
	judge->run = run;
	judge->delta = delta;
	sis_scope_params(run, &judge->params);
	sis_param_int8(&judge->params, run->approved_run);
	sis_creep_load(run, &judge->creep);
	run->approved = 0;
	run->hold = NULL;
	/* an earlier step's verdict may no longer hold */
	sis_exec_as_owner("DELETE FROM sis_sync.run_school WHERE run_id = $1",
					  &judge->params, SPI_OK_DELETE);
	/* but what was approved on the ground of it stays as it was */
	if (run->approved_run != run->id)
		sis_exec_as_owner("DELETE FROM sis_sync.pending_archive WHERE run_id = $1",
						  &judge->params, SPI_OK_DELETE);
	judge->desc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(judge->desc, 1, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(judge->desc, 1, C_COLLATION_OID);
	TupleDescInitEntry(judge->desc, 2, "reason", TEXTOID, -1, 0);
	TupleDescInitEntry(judge->desc, 3, "schools", TEXTARRAYOID, -1, 0);
	TupleDescInitEntryCollation(judge->desc, 3, C_COLLATION_OID);

	/* record types stand in such an order that ends come before their links */
	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		if (sis_record_desc((SisRecordType) t)->is_link)
			hold_schools(judge);
		judge_type(judge, (SisRecordType) t);
	}
	return verdict(judge);
}
