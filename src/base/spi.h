/*
 * spi.h
 *		Running SQL: parameters, the owner bridge, results into tuplestores.
 */
#ifndef SIS_SPI_H
#define SIS_SPI_H

#include "executor/spi.h"
#include "tcop/dest.h"
#include "utils/tuplestore.h"

/* ----------
 * The owner bridge.  Settings, staging and log belong to the extension's
 * owner; its statements run with the owner's rights and a fixed search_path.
 * Between begin and end nothing of the caller's may run: no DML on a roster
 * (its triggers must run as the caller), and no commit.
 * An error needs no end: aborting the (sub)transaction restores both.
 * ----------
 */
typedef struct SisBridge
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} SisBridge;

/*
 * Fixes search_path until AtEOXact_GUC(false, the level returned), for
 * statements that name pg_catalog's things only.
 */
extern int	sis_fix_search_path(void);

extern void sis_owner_begin(SisBridge *bridge);
extern void sis_owner_end(const SisBridge *bridge);

/*
 * SPI_connect_ext(), ready for sis_register_store(): SPI allocates the list
 * of named relations in whatever context is current when the first is
 * registered, which may be gone before the connection is.
 */
extern void sis_connect(int options);

/* ----------
 * Parameters of a statement, collected in order: $1, $2, …
 * ----------
 */
#define SIS_MAX_PARAMS	24

typedef struct SisParams
{
	int			n;
	Oid			types[SIS_MAX_PARAMS];
	Datum		values[SIS_MAX_PARAMS];
	char		nulls[SIS_MAX_PARAMS];
} SisParams;

extern void sis_param_int8(SisParams *params, int64 value);
extern void sis_param_bool(SisParams *params, bool value);
extern void sis_param_text(SisParams *params, const char *value); /* or NULL */
extern void sis_param_text_array(SisParams *params, char **values, int n);
extern void sis_param_int8_array(SisParams *params, int64 *values, int n);
extern void sis_param(SisParams *params, Oid type, Datum value, bool isnull);

/*
 * Runs one statement and checks its SPI result code; params may be NULL.
 * Returns the number of rows processed; SPI_tuptable holds the rows.  Unlike
 * SPI's own, these functions leave the current memory context as it was: what
 * a caller makes outlives the connection if he meant it to.
 * Always without jit: loading LLVM takes 40 MB of memory for as long as the
 * backend lives, and no statement of a run wins by it.
 */
extern uint64 sis_exec(const char *sql, const SisParams *params, int expected);

/* The same; what the statement returns goes to dest (NULL: SPI_tuptable). */
extern uint64 sis_exec_into(const char *sql, const SisParams *params,
							DestReceiver *dest, int expected);

/*
 * The same, planned with settings off, whose names are given.  Only planned
 * so: a trigger's statements are planned as the session has it.
 */
extern uint64 sis_exec_planned(const char *sql, const SisParams *params,
							   DestReceiver *dest, int expected,
							   const char *const *off, int noff);

/* The same as the extension's owner. */
extern uint64 sis_exec_as_owner(const char *sql, const SisParams *params,
								int expected);

/* How many rows the planner expects of a SELECT, which is not run. */
extern double sis_expected_rows(const char *sql);

/*
 * Runs a SELECT that reads a roster, and perhaps tables of ours beside it.
 *
 * A roster belongs to somebody else: the planner evaluates what its owner put
 * into index expressions, statistics and constraints, so it must never be
 * read with more rights than the caller has.  The statement runs as the
 * caller; only the tables of schema sis_sync in it are checked against the
 * extension's owner.  Row security raises an error, it never filters.
 */
extern uint64 sis_exec_on_roster(const char *sql, const SisParams *params);

/* A column of a row of SPI_tuptable as a C string in the current context. */
extern char *sis_value(uint64 row, int column);
extern int64 sis_value_int8(uint64 row, int column);	/* NULL: 0 */
extern bool sis_value_bool(uint64 row, int column); /* NULL: false */

/* Makes a tuplestore known to later statements of this SPI level by name. */
extern void sis_register_store(const char *name, Tuplestorestate *store,
							   TupleDesc desc, double rows);
extern void sis_unregister_store(const char *name);

/*
 * A receiver that puts rows into a store which is, or will be, registered with
 * desc.  Rows of other types are an error: what a statement returns of a roster
 * has the roster's types, and those may change under way (an application's
 * trigger may alter another table), while the store's reader trusts desc.
 */
extern DestReceiver *sis_store_receiver(Tuplestorestate *store,
										MemoryContext cxt, TupleDesc desc);

/*
 * A relation of our own for later statements of this SPI level: the rows of a
 * SELECT, in a tuplestore registered under the name.
 */
typedef struct SisRelation
{
	const char *name;
	Tuplestorestate *store;
} SisRelation;

extern SisRelation sis_relation_open(const char *name, TupleDesc desc,
									 const char *sql, const SisParams *params);
extern void sis_relation_close(SisRelation *relation);

/*
 * As sis_exec_on_roster(), into a receiver or as a cursor, and with planner
 * settings that do not trust the statistics of staging tables: an empty leaf
 * that was filled since is estimated as one row, and joined by a nested loop;
 * a tuplestore is estimated to repeat its keys, and sorted for a merge join.
 */
extern Portal sis_cursor_on_roster(const char *sql, const SisParams *params);
extern void sis_select_into(const char *sql, const SisParams *params,
							DestReceiver *dest);

/* The role that owns the extension. */
extern Oid	sis_extension_owner(void);

#endif
