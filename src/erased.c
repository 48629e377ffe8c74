/*
 * erased.c
 *		Removes records wherever they stand: roster, staging, log.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "erased.h"
#include "miscadmin.h"
#include "slot.h"
#include "write.h"

/* The columns of links that name a person, and of which types he may be. */
typedef struct LinkEnd
{
	SisRecordType type;
	const char *column;
	const char *ends;
} LinkEnd;

static const LinkEnd link_ends[] = {
	{SIS_ENROLLMENT, "person_source_id", "'student', 'staff'"},
	{SIS_STUDENT_CONTACT, "student_source_id", "'student'"},
	{SIS_STUDENT_CONTACT, "contact_source_id", "'contact'"}
};

/* ----------
 * Which records
 * ----------
 */

static SisRelation
open_erased(const char *name, const char *sql, const SisParams *params)
{
	TupleDesc	desc = CreateTemplateTupleDesc(2);

	TupleDescInitEntry(desc, 1, "record_type", TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 2, "source_id", TEXTOID, -1, 0);
	TupleDescInitEntryCollation(desc, 2, C_COLLATION_OID);
	return sis_relation_open(name, desc, sql, params);
}

/* Other IDs of what a relation names: each pair both ways. */
#define OTHER_IDS_SQL \
	"SELECT c.record_type, c.source_id AS id, c.before ->> 'source_id' AS other FROM sis_sync.change c " \
	"JOIN sis_sync.run r ON r.id = c.run_id WHERE r.sync = $1 AND c.action = 'rekey' " \
	"UNION ALL SELECT p.record_type, p.old_source_id, p.new_source_id FROM sis_sync.rekey_pair p " \
	"JOIN sis_sync.run r ON r.id = p.run_id WHERE r.sync = $1"

SisRelation
sis_erased_open(const SisRun *run, const char *sql, const SisParams *params)
{
	SisRelation named = open_erased("named", sql, params);
	SisParams	mine = {0};
	SisRelation erased;

	sis_param_text(&mine, run->sync->name);
	erased = open_erased("erased",
						 "WITH RECURSIVE pair AS (" OTHER_IDS_SQL "), "
						 "both_ways AS (SELECT record_type, id, other FROM pair UNION ALL SELECT record_type, other, id FROM pair), "
						 "known AS (SELECT n.record_type, n.source_id FROM named n "
						 "UNION SELECT b.record_type, b.other COLLATE \"C\" FROM known k JOIN both_ways b ON b.record_type = k.record_type AND b.id = k.source_id) "
						 "SELECT k.record_type, k.source_id FROM known k WHERE k.source_id IS NOT NULL",
						 &mine);
	sis_relation_close(&named);
	return erased;
}

/*
 * Links of a table, as alias t.  One ID may be a student's and another
 * person's among the staff (Clever's files), or one person's in both: the
 * role tells whose an enrollment is.
 */
static void
append_links(StringInfo sql, const SisRun *run, const LinkEnd *end,
			 const char *table)
{
	char *const *tables = run->roster->tables;

	appendStringInfo(sql, "%sSELECT '%s'::text, t.source_id FROM %s t JOIN person p ON p.source_id = t.%s AND p.record_type IN (%s) "
					 "WHERE t.sync_id = $1",
					 sql->len > 0 ? " UNION " : "",
					 sis_record_desc(end->type)->name, table, end->column,
					 end->ends);
	if (end->type == SIS_ENROLLMENT)
		appendStringInfo(sql, " AND (p.record_type = CASE WHEN t.role = 'student' THEN 'student' ELSE 'staff' END "
						 "OR NOT EXISTS (SELECT 1 FROM (SELECT 'student' AS record_type, source_id FROM %s WHERE sync_id = $1 "
						 "UNION ALL SELECT 'staff', source_id FROM %s WHERE sync_id = $1) o "
						 "WHERE o.source_id = p.source_id AND o.record_type <> p.record_type))",
						 tables[SIS_STUDENT], tables[SIS_STAFF]);
}

char *
sis_erased_links_sql(const SisRun *run)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < (int) lengthof(link_ends); i++)
	{
		SisRecordType type = link_ends[i].type;

		append_links(&sql, run, &link_ends[i], run->roster->tables[type]);
		append_links(&sql, run, &link_ends[i],
					 psprintf("sis_sync.stage_%s", sis_record_desc(type)->name));
	}
	return sql.data;
}

/* ----------
 * From the roster
 * ----------
 */

/* Links before their ends: an application's foreign key may point either way. */
static int64
remove_from_roster(const SisRun *run)
{
	SisParams	params = {0};
	int64		removed = 0;

	sis_param_int8(&params, run->sync->id);
	for (int t = SIS_N_RECORD_TYPES - 1; t >= 0; t--)
	{
		SisRecordType type = (SisRecordType) t;
		const char *name = sis_record_desc(type)->name;
		const char *table = run->roster->tables[type];

		removed += (int64)
			sis_write(run, type,
					  psprintf("DELETE FROM %s t USING erased d WHERE t.sync_id = $1 "
							   "AND d.record_type = '%s' AND t.source_id = d.source_id",
							   table, name),
					  &params, SPI_OK_DELETE);
		if (sis_exec_on_roster(psprintf("SELECT 1 FROM %s t JOIN erased d ON d.record_type = '%s' AND d.source_id = t.source_id "
										"WHERE t.sync_id = $1 LIMIT 1", table, name),
							   &params) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a record of type %s could not be erased", name),
					 errdetail("A trigger of table %s has kept it.", table)));
		CHECK_FOR_INTERRUPTS();
	}
	return removed;
}

/* ----------
 * From staging
 * ----------
 */

/* Later steps, and a preview, compare the number of staged rows with the log. */
static int64
remove_staged(const SisRun *run)
{
	int64		removed = 0;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		const char *name = sis_record_desc((SisRecordType) t)->name;
		SisParams	params = {0};

		sis_param_int8(&params, run->sync->id);
		sis_exec_as_owner(psprintf("WITH gone AS (DELETE FROM sis_sync.stage_%s s USING erased d WHERE s.sync_id = $1 "
								   "AND d.record_type = '%s' AND s.source_id = d.source_id RETURNING s.run_id), "
								   "n AS (SELECT run_id, count(*) AS n FROM gone GROUP BY run_id), "
								   "counted AS (UPDATE sis_sync.run_count c SET staged_rows = c.staged_rows - n.n FROM n "
								   "WHERE c.run_id = n.run_id AND c.record_type = '%s') "
								   "SELECT coalesce(sum(n.n), 0)::int8 FROM n",
								   name, name, name),
						  &params, SPI_OK_SELECT);
		removed += sis_value_int8(0, 1);
		CHECK_FOR_INTERRUPTS();
	}
	return removed;
}

/* ----------
 * From the log
 * ----------
 */

/* Runs a statement of which $1 is the sync's name. */
static int64
in_log(const SisRun *run, const char *sql, int expected)
{
	SisParams	params = {0};
	uint64		n;

	sis_param_text(&params, run->sync->name);
	n = sis_exec_as_owner(sql, &params, expected);
	return expected == SPI_OK_SELECT ? sis_value_int8(0, 1) : (int64) n;
}

/* A boolean over alias j, a link in the log: does its JSON name a person? */
static char *
names_person_sql(const LinkEnd *end, const char *json)
{
	return psprintf("(j.record_type = '%s' AND j.%s ->> '%s' IN (SELECT source_id FROM erased WHERE record_type IN (%s)))",
					sis_record_desc(end->type)->name, json, end->column,
					end->ends);
}

static char *
is_erased_sql(const char *json)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "(EXISTS (SELECT 1 FROM erased d WHERE d.record_type = j.record_type AND d.source_id = j.source_id)");
	for (int i = 0; json != NULL && i < (int) lengthof(link_ends); i++)
		appendStringInfo(&sql, " OR %s", names_person_sql(&link_ends[i], json));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/* What an undo can no longer put back is counted. */
static int64
remove_changes(const SisRun *run)
{
	return in_log(run,
				  psprintf("WITH gone AS (DELETE FROM sis_sync.change j USING sis_sync.run r WHERE r.sync = $1 AND j.run_id = r.id AND %s RETURNING j.run_id), "
						   "n AS (SELECT run_id, count(*) AS n FROM gone GROUP BY run_id), "
						   "counted AS (UPDATE sis_sync.run r SET erased = r.erased + n.n FROM n WHERE r.id = n.run_id) "
						   "SELECT coalesce(sum(n.n), 0)::int8 FROM n",
						   is_erased_sql("before")),
				  SPI_OK_SELECT);
}

/*
 * A rejected row without a readable ID is nobody's; it goes when it has a
 * number, an address or the names of somebody who does.  The traits are those
 * of the roster, read before they are removed from it.
 */
static SisRelation
open_traits(const SisRun *run)
{
	static const SisRecordType persons[] = {SIS_STUDENT, SIS_STAFF, SIS_CONTACT};
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	SisParams	params = {0};
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		const char *name = sis_record_desc(persons[i])->name;

		appendStringInfo(&sql, "%sSELECT k.trait FROM (SELECT t.* FROM %s t JOIN erased d ON d.record_type = '%s' AND d.source_id = t.source_id WHERE t.sync_id = $1) t, "
						 "LATERAL (VALUES (t.sis_id), (t.username), (t.email), (lower(t.given_name || ' ' || t.family_name))%s) AS k (trait) WHERE k.trait IS NOT NULL",
						 i > 0 ? " UNION " : "",
						 run->roster->tables[persons[i]], name,
						 persons[i] == SIS_CONTACT ? "" :
						 psprintf(", (t.%s_number), (t.state_id)", name));
	}
	TupleDescInitEntry(desc, 1, "trait", TEXTOID, -1, 0);
	sis_param_int8(&params, run->sync->id);
	return sis_relation_open("trait", desc, sql.data, &params);
}

static int64
remove_rejects(const SisRun *run)
{
	return in_log(run,
				  psprintf("DELETE FROM sis_sync.reject j USING sis_sync.run r WHERE r.sync = $1 AND j.run_id = r.id AND (%s "
						   "OR (j.source_id IS NULL AND j.record_type IN ('student', 'staff', 'contact') AND jsonb_typeof(j.\"row\") = 'object' AND ("
						   "lower((j.\"row\" ->> 'given_name') || ' ' || (j.\"row\" ->> 'family_name')) IN (SELECT trait FROM trait) "
						   "OR EXISTS (SELECT 1 FROM jsonb_each_text(j.\"row\") v JOIN trait t ON t.trait = v.value "
						   "WHERE v.key IN ('sis_id', 'username', 'email', 'student_number', 'staff_number', 'state_id')))))",
						   is_erased_sql("\"row\"")),
				  SPI_OK_DELETE);
}

static int64
remove_logged(const SisRun *run)
{
	static const char *const by_run[] = {"pending_archive", "skipped"};
	int64		removed = remove_changes(run) + remove_rejects(run);

	for (int i = 0; i < (int) lengthof(by_run); i++)
		removed += in_log(run,
						  psprintf("DELETE FROM sis_sync.%s j USING sis_sync.run r WHERE r.sync = $1 AND j.run_id = r.id AND %s",
								   by_run[i], is_erased_sql(NULL)),
						  SPI_OK_DELETE);
	removed += in_log(run,
					  psprintf("DELETE FROM sis_sync.pending_delete j WHERE j.sync = $1 AND %s",
							   is_erased_sql(NULL)),
					  SPI_OK_DELETE);
	removed += in_log(run,
					  "DELETE FROM sis_sync.rekey_pair j USING sis_sync.run r WHERE r.sync = $1 AND j.run_id = r.id "
					  "AND EXISTS (SELECT 1 FROM erased d WHERE d.record_type = j.record_type "
					  "AND d.source_id IN (j.old_source_id, j.new_source_id))",
					  SPI_OK_DELETE);
	return removed;
}

SisErasedRows
sis_erased_remove(const SisRun *run)
{
	SisRelation traits = open_traits(run);
	SisErasedRows rows;

	rows.roster = remove_from_roster(run);
	rows.staged = remove_staged(run);
	rows.logged = remove_logged(run);
	sis_relation_close(&traits);
	return rows;
}
