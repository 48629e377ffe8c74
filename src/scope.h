/*
 * scope.h
 *		What is in scope tonight, and which ends of links are there (rule 2).
 */
#ifndef SIS_SCOPE_H
#define SIS_SCOPE_H

#include "base/spi.h"
#include "delta.h"
#include "runstate.h"

/*
 * Parameters that every statement of a run shares:
 *	$1 run_id, $2 sync_id, $3 schools in scope (text[]), $4 today (date),
 *	$5 name of the sync
 */
extern void sis_scope_params(const SisRun *run, SisParams *params);

/*
 * The staged rows of a type as a subquery.  Wide: source_id, fingerprint,
 * stand ("char", SIS_STAND_*), tid, keep, source, line and the type's columns.
 * Narrow: the first four; where no end of a link is missing tonight, a
 * narrow stand does not look for them, and an unknown end shows only in the
 * wide one.
 */
extern char *sis_scope_staged_sql(const SisRun *run, SisRecordType type,
								  bool wide);

/* How many staged rows are out of scope that the source has sent tonight. */
extern int64 sis_scope_count_out(const SisRun *run, SisRecordType type);

/*
 * Looks for the ends of every staged link of a type.  When all are there, and
 * run->links_whole says so, a wide stand need not look for them either.
 */
extern void sis_scope_check_links(SisRun *run, SisRecordType type);

/*
 * A roster table, to stand in FROM with an alias: as it was before the run's own
 * writes, where an earlier step has done them (run->applied).
 */
extern char *sis_scope_before_sql(const SisRun *run, SisRecordType type);

/*
 * The stored rows of the sync as a subquery.  Wide: source_id, fingerprint,
 * fingerprint_version, sis_managed, archived_at, in_force (it counts in N),
 * archived_reason, archived_run, updated_run, restored_run, frozen, ended and
 * the type's columns.
 * Narrow: the first six.
 */
extern char *sis_scope_stored_sql(const SisRun *run, SisRecordType type,
								  bool wide);

typedef struct SisScope SisScope;

/*
 * Computes the relations that both subqueries join: which sections, persons,
 * students and contacts are there (resolved_…: source_id, state), which have
 * ended or are frozen; and run->ends_missing, run->sections_past.  They are
 * registered with the current SPI connection until sis_scope_close().
 */
extern SisScope *sis_scope_open(SisRun *run);
extern void sis_scope_close(SisScope *scope);

/*
 * People out of scope leave staging when the run ends: nobody agreed that
 * they be kept (rule 9).  Of those who left scope only the IDs stay.
 */
extern void sis_scope_forget_out(SisRun *run, const SisDelta *delta);

/* state of an end in resolved_… */
#define SIS_END_LEAVING	1		/* stored, and not there tonight */
#define SIS_END_OUT		2		/* received and not taken */
#define SIS_END_THERE	3

#endif
