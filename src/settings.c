/*
 * settings.c
 *		A sync as somebody set it up; and the trigger that guards its row.
 */
#include "postgres.h"

#include "access/relation.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/spi.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "roster.h"
#include "settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void
load_extra_columns(SisSync *sync, int column)
{
	bool		isnull;
	Datum		array = SPI_getbinval(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, column, &isnull);
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false,
					  TYPALIGN_INT, &elems, &nulls, &n);
	sync->wants.extra_columns = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i])
			sync->wants.extra_columns[sync->wants.nextra_columns++] =
				TextDatumGetCString(elems[i]);
	}
}

const char *
sis_mode_name(SisMode mode)
{
	static const char *const names[] = {
		[SIS_MODE_NORMAL] = "normal",
		[SIS_MODE_NO_ARCHIVE] = "no_archive",
		[SIS_MODE_ADDS_ONLY] = "adds_only",
		[SIS_MODE_FROZEN] = "frozen"
	};

	return names[mode];
}

static void
load_mode(SisSync *sync)
{
	SisParams	params = {0};
	char	   *mode;

	sis_param_text(&params, sync->name);
	sis_param_text(&params, sync->today);
	sis_exec_as_owner("SELECT m.mode, CASE WHEN isfinite(m.until) THEN to_char(m.until, 'YYYY-MM-DD') END "
					  "FROM sis_sync.mode_on($1, $2::date) m",
					  &params, SPI_OK_SELECT);
	mode = sis_value(0, 1);
	sync->mode_until = sis_value(0, 2);
	for (int m = SIS_MODE_NORMAL; m <= SIS_MODE_FROZEN; m++)
	{
		if (strcmp(mode, sis_mode_name((SisMode) m)) == 0)
			sync->mode = (SisMode) m;
	}
}

void
sis_check_version(void)
{
	char	   *version;

	sis_exec_as_owner("SELECT extversion FROM pg_extension WHERE extname = 'sis_sync'",
					  NULL, SPI_OK_SELECT);
	version = sis_value(0, 1);
	if (strcmp(version, SIS_SYNC_VERSION) != 0)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("extension \"sis_sync\" is of version %s in this database, its library of version %s",
						version, SIS_SYNC_VERSION),
				 errhint("Run ALTER EXTENSION sis_sync UPDATE; if that has been done, begin a new session.")));
	pfree(version);
}

SisSync *
sis_sync_load(const char *name)
{
	SisSync    *sync = palloc0(sizeof(SisSync));
	SisParams	params = {0};

	sis_check_version();
	sis_param_text(&params, name);
	if (sis_exec_as_owner("SELECT s.id, s.server, s.target_schema, s.restore_returning, "
						  "s.all_schools, s.include_demographics, s.extra_columns, "
						  "(SELECT count(*) FROM sis_sync.sync_school c WHERE c.sync = s.name AND c.active), "
						  "to_char(now() AT TIME ZONE s.timezone, 'YYYY-MM-DD'), s.hold = 'school' "
						  "FROM sis_sync.sync s WHERE s.name = $1",
						  &params, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("sync \"%s\" does not exist", name),
				 errhint("Set it up with INSERT INTO sis_sync.sync (name, server) VALUES (%s, ...).",
						 quote_literal_cstr(name))));
	sync->name = pstrdup(name);
	sync->id = sis_value_int8(0, 1);
	sync->server = sis_value(0, 2);
	sync->target_schema = sis_value(0, 3);
	sync->restore_returning = sis_value_bool(0, 4);
	sync->all_schools = sis_value_bool(0, 5);
	sync->wants.include_demographics = sis_value_bool(0, 6);
	load_extra_columns(sync, 7);
	sync->nschools = (int) sis_value_int8(0, 8);
	sync->today = sis_value(0, 9);
	sync->this_year = pg_strtoint32(pnstrdup(sync->today, 4));
	sync->holds_schools = sis_value_bool(0, 10);
	load_mode(sync);
	return sync;
}

void
sis_sync_check_schools(const SisSync *sync)
{
	if (sync->nschools == 0 && !sync->all_schools)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("sync \"%s\" has no schools", sync->name),
				 errhint("Name them with INSERT INTO sis_sync.sync_school (sync, school_id) VALUES (%s, ...), or take every school of the source with UPDATE sis_sync.sync SET all_schools = true WHERE name = %s.",
						 quote_literal_cstr(sync->name), quote_literal_cstr(sync->name))));
}

/*
 * Reads a roster table for the trigger below.  Whoever deletes a sync, often
 * a superuser, must not run what the roster's owner put there: views are
 * passed over, and tables are read as their owner, as ANALYZE does.
 */
static bool
table_has_records(Oid relid, int64 sync_id)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	SisParams	params = {0};
	Oid			userid;
	int			sec_context,
				guc_level;
	bool		found = false;

	if (rel == NULL)
		return false;
	if (rel->rd_rel->relkind == RELKIND_RELATION ||
		rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		GetUserIdAndSecContext(&userid, &sec_context);
		SetUserIdAndSecContext(rel->rd_rel->relowner,
							   sec_context | SECURITY_RESTRICTED_OPERATION);
		guc_level = sis_fix_search_path();
		sis_param_int8(&params, sync_id);
		found = sis_exec(psprintf("SELECT 1 FROM %s WHERE sync_id = $1 AND archived_at IS NULL AND sis_managed LIMIT 1",
								  quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
															 RelationGetRelationName(rel))),
						 &params, SPI_OK_SELECT) > 0;
		AtEOXact_GUC(false, guc_level);
		SetUserIdAndSecContext(userid, sec_context);
	}
	relation_close(rel, AccessShareLock);
	return found;
}

static bool
has_records(int64 sync_id, const char *schema)
{
	Oid			nspid = get_namespace_oid(schema, true);

	for (int type = 0; OidIsValid(nspid) && type < SIS_N_RECORD_TYPES; type++)
	{
		Oid			relid = get_relname_relid(sis_record_desc((SisRecordType) type)->name,
											  nspid);

		if (OidIsValid(relid) && table_has_records(relid, sync_id))
			return true;
	}
	return false;
}

static char *
column_text(HeapTuple tuple, TupleDesc desc, const char *name)
{
	return SPI_getvalue(tuple, desc, SPI_fnumber(desc, name));
}

static int64
column_int8(HeapTuple tuple, TupleDesc desc, const char *name)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(tuple, desc, SPI_fnumber(desc, name),
									   &isnull));
}

static void
check_timezone(const char *name)
{
	pg_tz	   *tz = pg_tzset(name);

	if (tz == NULL || !pg_tz_acceptable(tz))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", name),
				 errhint("View pg_timezone_names lists the names.")));
}

/*
 * Trigger on sis_sync.sync: the ID stands in every roster row and so never
 * changes; a sync whose records are still in a roster is not dropped, since
 * nobody would ever archive them.
 */
SIS_FUNCTION(sis_guard_sync);
Datum
sis_guard_sync(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	char	   *schema;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"guard_sync\" was not called as a trigger")));
	/* what follows rests on the constraints of that table */
	if (RelationGetRelid(trigger->tg_relation) !=
		get_relname_relid("sync", get_namespace_oid("sis_sync", false)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"guard_sync\" is for table sis_sync.sync only")));
	desc = RelationGetDescr(trigger->tg_relation);
	tuple = trigger->tg_trigtuple;

	SPI_connect();
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		char	   *name = column_text(tuple, desc, "name");

		if (has_records(column_int8(tuple, desc, "id"),
						column_text(tuple, desc, "target_schema")))
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot delete sync \"%s\" because its records are still in the roster", name),
					 errhint("SELECT sis_sync.drop_sync(%s) archives them first; or set sis_managed = false to give them to the application.",
							 quote_literal_cstr(name))));
	}
	else
	{
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		{
			if (column_int8(tuple, desc, "id") !=
				column_int8(trigger->tg_newtuple, desc, "id"))
				ereport(ERROR,
						(errcode(ERRCODE_CHECK_VIOLATION),
						 errmsg("the id of a sync never changes"),
						 errdetail("It stands in every roster row of the sync.")));
			schema = column_text(trigger->tg_newtuple, desc, "target_schema");
			/* a NULL is the constraint's to refuse */
			if (schema != NULL &&
				strcmp(column_text(tuple, desc, "target_schema"), schema) != 0 &&
				has_records(column_int8(tuple, desc, "id"),
							column_text(tuple, desc, "target_schema")))
				ereport(ERROR,
						(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
						 errmsg("cannot change the target schema of sync \"%s\" because its records are still in the roster",
								column_text(tuple, desc, "name")),
						 errhint("Make another sync for the other roster, or archive the records first.")));
			tuple = trigger->tg_newtuple;
		}
		if (column_text(tuple, desc, "timezone") != NULL)
			check_timezone(column_text(tuple, desc, "timezone"));
	}
	SPI_finish();
	return PointerGetDatum(tuple);
}
