/*
 * spi.c
 *		Running SQL: parameters, the owner bridge, results into tuplestores.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/spi.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "base/compat.h"
#include "catalog/namespace.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "nodes/nodeFuncs.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/plancache.h"
#include "utils/queryenvironment.h"
#include "utils/resowner.h"

/*
 * Looked up each time: an index scan of a tiny catalog costs less than the
 * bookkeeping of a cache that ALTER EXTENSION OWNER would have to reset.
 */
Oid
sis_extension_owner(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("sis_sync"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"sis_sync\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION sis_sync.")));
	return owner;
}

int
sis_fix_search_path(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
sis_owner_begin(SisBridge *bridge)
{
	Oid			owner = sis_extension_owner();

	GetUserIdAndSecContext(&bridge->userid, &bridge->sec_context);
	SetUserIdAndSecContext(owner, bridge->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE);
	bridge->guc_level = sis_fix_search_path();
}

void
sis_owner_end(const SisBridge *bridge)
{
	AtEOXact_GUC(false, bridge->guc_level);
	SetUserIdAndSecContext(bridge->userid, bridge->sec_context);
}

void
sis_connect(int options)
{
	TupleDesc	desc;
	Tuplestorestate *none;

	SPI_connect_ext(options);
	desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(desc, 1, "source_id", TEXTOID, -1, 0);
	none = tuplestore_begin_heap(false, false, 64);
	sis_register_store("none", none, desc, 0);
	sis_unregister_store("none");
	tuplestore_end(none);
}

void
sis_param(SisParams *params, Oid type, Datum value, bool isnull)
{
	Assert(params->n < SIS_MAX_PARAMS);
	params->types[params->n] = type;
	params->values[params->n] = value;
	params->nulls[params->n] = isnull ? 'n' : ' ';
	params->n++;
}

void
sis_param_int8(SisParams *params, int64 value)
{
	sis_param(params, INT8OID, Int64GetDatum(value), false);
}

void
sis_param_bool(SisParams *params, bool value)
{
	sis_param(params, BOOLOID, BoolGetDatum(value), false);
}

void
sis_param_text(SisParams *params, const char *value)
{
	sis_param(params, TEXTOID,
			  value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

void
sis_param_text_array(SisParams *params, char **values, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));
	int			dims[1] = {n};
	int			lbs[1] = {1};

	for (int i = 0; i < n; i++)
	{
		nulls[i] = values[i] == NULL;
		elems[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(values[i]);
	}
	sis_param(params, TEXTARRAYOID,
			  PointerGetDatum(n == 0 ? construct_empty_array(TEXTOID) :
							  construct_md_array(elems, nulls, 1, dims, lbs,
												 TEXTOID, -1, false,
												 TYPALIGN_INT)), false);
}

void
sis_param_int8_array(SisParams *params, int64 *values, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(values[i]);
	sis_param(params, INT8ARRAYOID,
			  PointerGetDatum(n == 0 ? construct_empty_array(INT8OID) :
							  construct_array(elems, n, INT8OID, sizeof(int64),
											  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
			  false);
}

static void
set_off(const char *name)
{
	(void) set_config_option(name, "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static ParamListInfo
param_list(const SisParams *params)
{
	ParamListInfo list;

	if (params == NULL || params->n == 0)
		return NULL;
	list = makeParamList(params->n);
	for (int i = 0; i < params->n; i++)
	{
		list->params[i].value = params->values[i];
		list->params[i].isnull = params->nulls[i] == 'n';
		list->params[i].pflags = PARAM_FLAG_CONST;
		list->params[i].ptype = params->types[i];
	}
	return list;
}

double
sis_expected_rows(const char *sql)
{
	MemoryContext cxt = CurrentMemoryContext;
	SPIPlanPtr	plan = SPI_prepare(sql, 0, NULL);
	CachedPlan *cached;
	double		rows;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql,
			 SPI_result_code_string(SPI_result));
	cached = SPI_plan_get_cached_plan(plan);
	rows = linitial_node(PlannedStmt, cached->stmt_list)->planTree->plan_rows;
	ReleaseCachedPlan(cached, NULL);
	SPI_freeplan(plan);
	MemoryContextSwitchTo(cxt);
	return rows;
}

uint64
sis_exec_into(const char *sql, const SisParams *params, DestReceiver *dest,
			  int expected)
{
	MemoryContext cxt = CurrentMemoryContext;
	int			level = NewGUCNestLevel();
	SPIExecuteOptions options = {0};
	int			result;

	set_off("jit");
	options.params = param_list(params);
	options.dest = dest;
	result = SPI_execute_extended(sql, &options);
	if (result != expected)
		elog(ERROR, "unexpected result %s of \"%s\"",
			 SPI_result_code_string(result), sql);
	/* true: what an application's trigger has set stays set */
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(cxt);
	return SPI_processed;
}

uint64
sis_exec_planned(const char *sql, const SisParams *params, DestReceiver *dest,
				 int expected, const char *const *off, int noff)
{
	MemoryContext cxt = CurrentMemoryContext;
	SPIExecuteOptions options = {0};
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, params->n, (Oid *) params->types,
										  CURSOR_OPT_GENERIC_PLAN);
	CachedPlan *planned;
	int			level;
	int			result;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql,
			 SPI_result_code_string(SPI_result));

	/* the generic plan is kept with the statement, and used below */
	level = NewGUCNestLevel();
	for (int i = 0; i < noff; i++)
		set_off(off[i]);
	planned = SPI_plan_get_cached_plan(plan);
	AtEOXact_GUC(false, level);
	if (planned != NULL)
		ReleaseCachedPlan(planned, NULL);

	level = NewGUCNestLevel();
	set_off("jit");
	options.params = param_list(params);
	options.dest = dest;
	result = SPI_execute_plan_extended(plan, &options);
	if (result != expected)
		elog(ERROR, "unexpected result %s of \"%s\"",
			 SPI_result_code_string(result), sql);
	/* true: what an application's trigger has set stays set */
	AtEOXact_GUC(true, level);
	SPI_freeplan(plan);
	MemoryContextSwitchTo(cxt);
	return SPI_processed;
}

uint64
sis_exec(const char *sql, const SisParams *params, int expected)
{
	return sis_exec_into(sql, params, NULL, expected);
}

uint64
sis_exec_as_owner(const char *sql, const SisParams *params, int expected)
{
	SisBridge	bridge;
	uint64		n;

	sis_owner_begin(&bridge);
	n = sis_exec(sql, params, expected);
	sis_owner_end(&bridge);
	return n;
}

/* ----------
 * Statements on a roster
 * ----------
 */

typedef struct OwnTables
{
	Oid			namespace;		/* sis_sync */
	Oid			owner;
} OwnTables;

/* Has the tables of ours in a query checked against their owner. */
static bool
check_own_tables(Node *node, void *arg)
{
	OwnTables  *own = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		sis_check_as_user((Query *) node, own->namespace, own->owner);
		return query_tree_walker((Query *) node, check_own_tables, arg, 0);
	}
	return expression_tree_walker(node, check_own_tables, arg);
}

static SPIPlanPtr
prepare_on_roster(const char *sql, const SisParams *params)
{
	SisParams	none = {0};
	OwnTables	own;

	if (params == NULL)
		params = &none;
	own.namespace = get_namespace_oid("sis_sync", false);
	own.owner = sis_extension_owner();
	for (;;)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(sql, params->n, (Oid *) params->types,
											  CURSOR_OPT_PARALLEL_OK |
											  CURSOR_OPT_NO_SCROLL);
		ListCell   *lc;

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", sql,
				 SPI_result_code_string(SPI_result));
		foreach(lc, SPI_plan_get_plan_sources(plan))
			(void) check_own_tables((Node *) ((CachedPlanSource *) lfirst(lc))->query_list,
									&own);

		/*
		 * An invalidation would have the statement analyzed anew, and refused
		 * for want of rights.  Look for one now, while that costs nothing.
		 */
		AcceptInvalidationMessages();
		if (SPI_plan_is_valid(plan))
			return plan;
		SPI_freeplan(plan);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Settings for a statement on a roster, until AtEOXact_GUC(false, level). */
static int
roster_settings(bool distrust_statistics)
{
	static const char *const off[] = {
		"row_security", "jit", "enable_nestloop", "enable_mergejoin"
	};
	int			level = sis_fix_search_path();

	for (int i = 0; i < (distrust_statistics ? 4 : 2); i++)
		set_off(off[i]);
	return level;
}

static void
execute_on_roster(const char *sql, const SisParams *params, DestReceiver *dest)
{
	MemoryContext cxt = CurrentMemoryContext;
	SPIPlanPtr	plan = prepare_on_roster(sql, params);
	SPIExecuteOptions options = {0};
	int			result;

	options.params = param_list(params);
	options.dest = dest;
	result = SPI_execute_plan_extended(plan, &options);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result %s of \"%s\"",
			 SPI_result_code_string(result), sql);
	SPI_freeplan(plan);
	MemoryContextSwitchTo(cxt);
}

uint64
sis_exec_on_roster(const char *sql, const SisParams *params)
{
	int			level = roster_settings(false);

	execute_on_roster(sql, params, NULL);
	AtEOXact_GUC(false, level);
	return SPI_processed;
}

void
sis_select_into(const char *sql, const SisParams *params, DestReceiver *dest)
{
	int			level = roster_settings(true);

	execute_on_roster(sql, params, dest);
	AtEOXact_GUC(false, level);
}

Portal
sis_cursor_on_roster(const char *sql, const SisParams *params)
{
	MemoryContext cxt = CurrentMemoryContext;
	int			level = roster_settings(true);
	SPIPlanPtr	plan = prepare_on_roster(sql, params);
	Portal		portal = SPI_cursor_open(NULL, plan, (Datum *) params->values,
										 params->nulls, false);

	AtEOXact_GUC(false, level);
	MemoryContextSwitchTo(cxt);
	return portal;
}

static void
check_row(uint64 row)
{
	if (SPI_tuptable == NULL || row >= SPI_tuptable->numvals)
		elog(ERROR, "a statement returned too few rows");
}

char *
sis_value(uint64 row, int column)
{
	check_row(row);
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int64
sis_value_int8(uint64 row, int column)
{
	bool		isnull;
	Datum		value;

	check_row(row);
	value = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

bool
sis_value_bool(uint64 row, int column)
{
	bool		isnull;
	Datum		value;

	check_row(row);
	value = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

void
sis_register_store(const char *name, Tuplestorestate *store,
				   TupleDesc desc, double rows)
{
	EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));
	int			result;

	enr->md.name = pstrdup(name);
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = rows;
	enr->reldata = store;
	result = SPI_register_relation(enr);
	if (result != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register \"%s\": %s", name,
			 SPI_result_code_string(result));
}

void
sis_unregister_store(const char *name)
{
	(void) SPI_unregister_relation(name);
}

DestReceiver *
sis_store_receiver(Tuplestorestate *store, MemoryContext cxt, TupleDesc desc)
{
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);

	SetTuplestoreDestReceiverParams(dest, store, cxt, false, desc,
									"a column of the roster has changed its type during the run");
	return dest;
}

SisRelation
sis_relation_open(const char *name, TupleDesc desc, const char *sql,
				  const SisParams *params)
{
	SisRelation relation;
	DestReceiver *dest;

	relation.name = name;
	relation.store = tuplestore_begin_heap(false, false, Max(work_mem / 8, 64));
	dest = sis_store_receiver(relation.store, CurrentMemoryContext, desc);
	sis_select_into(sql, params, dest);
	dest->rDestroy(dest);
	sis_register_store(name, relation.store, desc,
					   (double) tuplestore_tuple_count(relation.store));
	return relation;
}

void
sis_relation_close(SisRelation *relation)
{
	sis_unregister_store(relation->name);
	tuplestore_end(relation->store);
}
