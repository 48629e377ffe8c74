/*
 * roster.c
 *		The application's roster tables: making them, and opening them for a run.
 *
 * Roster tables belong to the application, not to the extension: a dump
 * carries them with all that the application added, and DROP EXTENSION leaves
 * them.  So nothing in them may depend on an object of ours; even the trigger
 * that notices edits by hand calls a function of the roster's own schema.
 *
 * Staging tables are made here too, since both are generated from record.c.
 */
#include "postgres.h"

#include "access/relation.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "roster.h"
#include "slot.h"
#include "stagerow.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

/* What every roster row has beside the columns of its type. */
typedef struct OwnColumn
{
	const char *name;
	Oid			type;
	const char *definition;
} OwnColumn;

static const OwnColumn own_columns[] = {
	{"sis_managed", BOOLOID, "boolean NOT NULL DEFAULT true"},
	{"created_at", TIMESTAMPTZOID, "timestamptz NOT NULL DEFAULT now()"},
	{"updated_at", TIMESTAMPTZOID, "timestamptz NOT NULL DEFAULT now()"},
	{"archived_at", TIMESTAMPTZOID, "timestamptz"},
	{"archived_reason", TEXTOID, "text"},
	{"created_run", INT8OID, "bigint"},
	{"updated_run", INT8OID, "bigint"},
	{"restored_run", INT8OID, "bigint"},
	{"archived_run", INT8OID, "bigint"},
	{"fingerprint", INT8OID, "bigint"},
	{"fingerprint_version", INT2OID, "smallint"}
};

static bool
ends_with(const char *text, const char *end)
{
	size_t		len = strlen(text);
	size_t		endlen = strlen(end);

	return len >= endlen && strcmp(text + len - endlen, end) == 0;
}

/* IDs compare byte by byte: case matters, and no locale has a say. */
static const char *
collation_of(const SisColumn *column)
{
	if (strcmp(column->name, "sis_id") == 0 ||
		ends_with(column->name, "source_id") ||
		ends_with(column->name, "source_ids"))
		return " COLLATE \"C\"";
	return "";
}

static Oid
kind_oid(SisColumnKind kind)
{
	switch (kind)
	{
		case SIS_KIND_TEXT:
			return TEXTOID;
		case SIS_KIND_DATE:
			return DATEOID;
		case SIS_KIND_BOOLEAN:
			return BOOLOID;
		case SIS_KIND_LIST:
			return TEXTARRAYOID;
		case SIS_KIND_JSONB:
			return JSONBOID;
	}
	return InvalidOid;
}

static char *
table_name(const char *schema, SisRecordType type)
{
	return quote_qualified_identifier(schema, sis_record_desc(type)->name);
}

/* ----------
 * Making the tables
 * ----------
 */

static void
create_table(const char *schema, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (sync_id bigint NOT NULL",
					 table_name(schema, type));
	for (int i = 0; i < desc->ncolumns; i++)
	{
		const SisColumn *column = &desc->columns[i];

		appendStringInfo(&sql, ", %s %s%s%s", column->name,
						 sis_kind_sql(column->kind), collation_of(column),
						 i == SIS_COL_SOURCE_ID ? " NOT NULL" : "");
	}
	if (type == SIS_SCHOOL)
		appendStringInfoString(&sql, ", app_school text");
	for (int i = 0; i < (int) lengthof(own_columns); i++)
		appendStringInfo(&sql, ", %s %s", own_columns[i].name,
						 own_columns[i].definition);
	/* room on each page keeps most updates off the indexes (HOT) */
	appendStringInfoString(&sql, ", PRIMARY KEY (sync_id, source_id)) WITH (fillfactor = 90)");
	sis_exec(sql.data, NULL, SPI_OK_UTILITY);
}

/*
 * An UPDATE by anyone else that changes a column of the record clears the
 * fingerprint, so that the next run compares the record and repairs it
 * (design, rule 7).  A run changes content and fingerprint together.
 */
static void
create_edit_trigger(const char *schema, SisRecordType type)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	StringInfoData old_row,
				new_row;

	initStringInfo(&old_row);
	initStringInfo(&new_row);
	for (int i = 0; i < desc->ncolumns; i++)
	{
		const char *comma = i > 0 ? ", " : "";

		appendStringInfo(&old_row, "%sold.%s", comma, desc->columns[i].name);
		appendStringInfo(&new_row, "%snew.%s", comma, desc->columns[i].name);
	}
	sis_exec(psprintf("CREATE TRIGGER forget_fingerprint BEFORE UPDATE ON %s "
					  "FOR EACH ROW WHEN (new.fingerprint = old.fingerprint "
					  "AND (%s) IS DISTINCT FROM (%s)) "
					  "EXECUTE FUNCTION %s.forget_fingerprint()",
					  table_name(schema, type), old_row.data, new_row.data,
					  quote_identifier(schema)),
			 NULL, SPI_OK_UTILITY);
}

static void
comment_table(const char *schema, SisRecordType type)
{
	sis_exec(psprintf("COMMENT ON TABLE %s IS 'roster of sis_sync: one row per %s; archived_at is set when it left the source'",
					  table_name(schema, type), sis_record_desc(type)->name),
			 NULL, SPI_OK_UTILITY);
}

static void
create_person_view(const char *schema)
{
	sis_exec(psprintf("CREATE VIEW %s.person_app_school AS "
					  "SELECT p.sync_id, p.record_type, p.source_id, s.source_id AS school_source_id, "
					  "s.app_school, s.source_id = p.school_source_id AS is_primary "
					  "FROM (SELECT sync_id, 'student' AS record_type, source_id, school_source_id, school_source_ids "
					  "FROM %s WHERE archived_at IS NULL "
					  "UNION ALL SELECT sync_id, 'staff', source_id, school_source_id, school_source_ids "
					  "FROM %s WHERE archived_at IS NULL) p "
					  "JOIN %s s ON s.sync_id = p.sync_id AND s.archived_at IS NULL "
					  "AND (s.source_id = p.school_source_id OR s.source_id = ANY (p.school_source_ids))",
					  quote_identifier(schema),
					  table_name(schema, SIS_STUDENT),
					  table_name(schema, SIS_STAFF),
					  table_name(schema, SIS_SCHOOL)),
			 NULL, SPI_OK_UTILITY);
	sis_exec(psprintf("COMMENT ON VIEW %s.person_app_school IS 'the application''s schools of each student and staff member'",
					  quote_identifier(schema)), NULL, SPI_OK_UTILITY);
}

SIS_FUNCTION(sis_create_roster);
Datum
sis_create_roster(PG_FUNCTION_ARGS)
{
	char	   *schema = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			guc_level;

	if (schema[0] == '\0' || strlen(schema) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a schema's name has 1 to %d bytes", NAMEDATALEN - 1)));

	SPI_connect();
	guc_level = sis_fix_search_path();
	sis_exec(psprintf("CREATE SCHEMA %s", quote_identifier(schema)),
			 NULL, SPI_OK_UTILITY);
	sis_exec(psprintf("CREATE FUNCTION %s.forget_fingerprint() RETURNS trigger "
					  "LANGUAGE plpgsql AS 'BEGIN new.fingerprint := NULL; RETURN new; END'",
					  quote_identifier(schema)), NULL, SPI_OK_UTILITY);
	sis_exec(psprintf("COMMENT ON FUNCTION %s.forget_fingerprint() IS 'an edit by hand: lets the next run compare the record again'",
					  quote_identifier(schema)), NULL, SPI_OK_UTILITY);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		create_table(schema, (SisRecordType) type);
		create_edit_trigger(schema, (SisRecordType) type);
		comment_table(schema, (SisRecordType) type);
	}
	create_person_view(schema);
	AtEOXact_GUC(false, guc_level);
	SPI_finish();
	PG_RETURN_VOID();
}

SIS_FUNCTION(sis_upgrade_roster);
Datum
sis_upgrade_roster(PG_FUNCTION_ARGS)
{
	char	   *schema = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			guc_level;

	SPI_connect();
	guc_level = sis_fix_search_path();
	/* "already exists, skipping" for every column is no news */
	(void) set_config_option("client_min_messages", "warning",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		const SisRecordDesc *desc = sis_record_desc((SisRecordType) type);
		char	   *table = table_name(schema, (SisRecordType) type);

		for (int i = 0; i < desc->ncolumns; i++)
			sis_exec(psprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s%s",
							  table, desc->columns[i].name,
							  sis_kind_sql(desc->columns[i].kind),
							  collation_of(&desc->columns[i])),
					 NULL, SPI_OK_UTILITY);
		if (type == SIS_SCHOOL)
			sis_exec(psprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS app_school text",
							  table), NULL, SPI_OK_UTILITY);
		for (int i = 0; i < (int) lengthof(own_columns); i++)
			sis_exec(psprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %s %s",
							  table, own_columns[i].name,
							  own_columns[i].definition),
					 NULL, SPI_OK_UTILITY);
		sis_exec(psprintf("DROP TRIGGER IF EXISTS forget_fingerprint ON %s",
						  table), NULL, SPI_OK_UTILITY);
		create_edit_trigger(schema, (SisRecordType) type);
	}
	if (!OidIsValid(get_relname_relid("person_app_school",
									  get_namespace_oid(schema, false))))
		create_person_view(schema);
	AtEOXact_GUC(false, guc_level);
	SPI_finish();
	PG_RETURN_VOID();
}

SIS_FUNCTION(sis_create_staging_tables);
Datum
sis_create_staging_tables(PG_FUNCTION_ARGS)
{
	SPI_connect();
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		const SisRecordDesc *desc = sis_record_desc((SisRecordType) type);
		StringInfoData sql;

		initStringInfo(&sql);
		appendStringInfo(&sql, "CREATE TABLE sis_sync.stage_%s ("
						 SIS_STAGE_OWN_COLUMNS_SQL, desc->name);
		for (int i = 0; i < desc->ncolumns; i++)
			appendStringInfo(&sql, ", %s text%s", desc->columns[i].name,
							 collation_of(&desc->columns[i]));
		appendStringInfoString(&sql, ") PARTITION BY LIST (slot)");
		sis_exec(sql.data, NULL, SPI_OK_UTILITY);
		sis_exec(psprintf("COMMENT ON TABLE sis_sync.stage_%s IS 'rows received of type %s, by slot (see stage_slot), with file and line'",
						  desc->name, desc->name), NULL, SPI_OK_UTILITY);

		/*
		 * A leaf is filled and emptied whole: autovacuum would only disturb.
		 * A run analyzes it for the number of its rows; a small sample does.
		 */
		for (int slot = 0; slot < SIS_N_SLOTS; slot++)
		{
			sis_exec(psprintf("CREATE UNLOGGED TABLE sis_sync.stage_%s_%02d "
							  "PARTITION OF sis_sync.stage_%s FOR VALUES IN (%d) "
							  "WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)",
							  desc->name, slot, desc->name, slot),
					 NULL, SPI_OK_UTILITY);
			sis_exec(psprintf("ALTER TABLE %s ALTER run_id SET STATISTICS 1, "
							  "ALTER status SET STATISTICS 1, ALTER source_id SET STATISTICS 1",
							  sis_stage_leaf((SisRecordType) type, slot)),
					 NULL, SPI_OK_UTILITY);
		}
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------
 * Opening them for a run
 * ----------
 */

static void
layout_error(const char *schema, const char *message)
{
	ereport(ERROR,
			(sis_errcode(SIS_ERR_NOT_CONFIGURED),
			 errmsg("roster \"%s\" cannot be used: %s", schema, message),
			 errhint("Make a roster with SELECT sis_sync.create_roster(%s), or bring one up to date with SELECT sis_sync.upgrade_roster(%s).",
					 quote_literal_cstr(schema), quote_literal_cstr(schema))));
}

static void
check_column(const char *schema, Relation rel, const char *name, Oid type)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || strcmp(NameStr(att->attname), name) != 0)
			continue;
		/* a generated column would be computed with the owner's rights */
		if (att->atttypid != type || att->attgenerated != '\0')
			layout_error(schema,
						 psprintf("column \"%s\" of table \"%s\" is not a plain column of type %s",
								  name, RelationGetRelationName(rel),
								  format_type_be(type)));
		return;
	}
	layout_error(schema, psprintf("table \"%s\" has no column \"%s\"",
								  RelationGetRelationName(rel), name));
}

void
sis_roster_lock_hint(void)
{
	if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
		errhint("Another transaction holds locks on the roster, as pg_locks shows. Run the sync again when it has ended, or with a longer lock_timeout.");
}

static void
locking_table(void *arg)
{
	sis_roster_lock_hint();
	errcontext("locking table %s", (const char *) arg);
}

/* Opens and locks a table and its partitions; NULL when it is not there. */
static Relation
lock_table(const char *schema, SisRecordType type, Oid relid, LOCKMODE mode,
		   List **relids)
{
	ErrorContextCallback context;
	Relation	rel;

	context.callback = locking_table;
	context.arg = table_name(schema, type);
	context.previous = error_context_stack;
	error_context_stack = &context;
	rel = try_relation_open(relid, mode);
	if (rel != NULL)
		*relids = find_all_inheritors(relid, mode, NULL);
	error_context_stack = context.previous;
	return rel;
}

/*
 * Reading runs with the rights of the extension's owner, so whatever could
 * make a read run code or reach another host is refused: views, foreign
 * tables, also as partitions.
 */
static void
check_kinds(const char *schema, const List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		char		kind = get_rel_relkind(lfirst_oid(lc));

		if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
			layout_error(schema, psprintf("\"%s\" is not a table",
										  get_rel_name(lfirst_oid(lc))));
	}
}

static void
check_rights(const char *schema, Relation rel, bool to_write)
{
	static const AclMode modes[] = {ACL_SELECT, ACL_INSERT, ACL_UPDATE};

	for (int i = 0; i < (to_write ? (int) lengthof(modes) : 1); i++)
	{
		if (pg_class_aclcheck(RelationGetRelid(rel), GetUserId(),
							  modes[i]) != ACLCHECK_OK)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for table %s",
							RelationGetRelationName(rel)),
					 to_write ?
					 errdetail("A run needs SELECT, INSERT and UPDATE on every table of the roster.") :
					 errdetail("Whoever looks at what a run would do needs SELECT on every table of the roster."),
					 errhint("Its owner can run GRANT SELECT%s ON ALL TABLES IN SCHEMA %s TO %s.",
							 to_write ? ", INSERT, UPDATE" : "",
							 quote_identifier(schema),
							 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	}
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security of table \"%s\" would hide rows from the run",
						RelationGetRelationName(rel)),
				 errdetail("A run that does not see every row would archive or create the wrong ones."),
				 errhint("Run it as the table's owner (without FORCE ROW LEVEL SECURITY) or as a role with BYPASSRLS.")));
}

static SisRoster *
open_roster(const char *schema, LOCKMODE mode, bool to_write)
{
	SisRoster  *roster = palloc0(sizeof(SisRoster));
	Oid			nspid = get_namespace_oid(schema, true);

	if (!OidIsValid(nspid))
		layout_error(schema, "there is no such schema");
	if (sis_namespace_aclcheck(nspid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema %s", schema)));

	roster->schema = pstrdup(schema);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		const SisRecordDesc *desc = sis_record_desc((SisRecordType) type);
		Oid			relid = get_relname_relid(desc->name, nspid);
		List	   *relids = NIL;
		Relation	rel;

		if (!OidIsValid(relid))
			layout_error(schema, psprintf("there is no table \"%s\"", desc->name));
		rel = lock_table(schema, (SisRecordType) type, relid, mode, &relids);
		if (rel == NULL)
			layout_error(schema, psprintf("there is no table \"%s\"", desc->name));
		check_kinds(schema, relids);
		check_column(schema, rel, "sync_id", INT8OID);
		for (int i = 0; i < desc->ncolumns; i++)
			check_column(schema, rel, desc->columns[i].name,
						 kind_oid(desc->columns[i].kind));
		if (type == SIS_SCHOOL)
			check_column(schema, rel, "app_school", TEXTOID);
		for (int i = 0; i < (int) lengthof(own_columns); i++)
			check_column(schema, rel, own_columns[i].name, own_columns[i].type);
		check_rights(schema, rel, to_write);
		roster->tables[type] = table_name(schema, (SisRecordType) type);
		relation_close(rel, NoLock);
	}
	return roster;
}

SisRoster *
sis_roster_open(const char *schema, LOCKMODE mode)
{
	return open_roster(schema, mode, true);
}

SisRoster *
sis_roster_open_to_read(const char *schema)
{
	return open_roster(schema, AccessShareLock, false);
}

bool
sis_roster_has(const SisRoster *roster, SisRecordType type, int64 sync_id,
			   const char *condition)
{
	SisParams	params = {0};

	sis_param_int8(&params, sync_id);
	return sis_exec_on_roster(psprintf("SELECT 1 FROM %s WHERE sync_id = $1 AND %s LIMIT 1",
									   roster->tables[type], condition),
							  &params) > 0;
}

char *
sis_roster_find_school(const SisRoster *roster, int64 sync_id,
					   const char *school)
{
	SisParams	params = {0};
	uint64		n;

	sis_param_int8(&params, sync_id);
	sis_param_text(&params, school);
	n = sis_exec_on_roster(psprintf("SELECT x.source_id FROM (SELECT t.source_id, "
									"rank() OVER (ORDER BY (t.sis_id = btrim($2)) IS TRUE DESC) AS rank "
									"FROM %s t WHERE t.sync_id = $1 AND (t.sis_id = btrim($2) OR t.source_id = btrim($2))) x "
									"WHERE x.rank = 1",
									roster->tables[SIS_SCHOOL]),
						   &params);
	if (n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 n == 0 ?
				 errmsg("school \"%s\" is not in roster \"%s\"", school,
						roster->schema) :
				 errmsg("more than one school of roster \"%s\" has the ID \"%s\"",
						roster->schema, school),
				 errhint("See SELECT sis_id, source_id, name FROM %s WHERE sync_id = %lld.",
						 roster->tables[SIS_SCHOOL], (long long) sync_id)));
	return sis_value(0, 1);
}
