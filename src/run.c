/*
 * run.c
 *		The phases of a run: lock, order, transactions, run log.
 *
 * How it works: one set of phases serves both ways to run.  The step
 * functions do a phase each in the caller's transaction, and any error aborts
 * it.  CALL sis_sync.run() does all of them and commits in between:
 *
 *	transaction 1	settings and rights; the run is logged, a slot taken
 *	transaction 2	the source is read into the staging tables
 *	transaction 3	verify, apply and archive in one commit (rule 6)
 *
 * Work that may fail stands in an internal subtransaction, so that the
 * transaction around it can still write the run log; then the error goes on
 * to the caller.  Deltas are made outside it: their files must outlive it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "approve.h"
#include "base/compat.h"
#include "carry.h"
#include "delta.h"
#include "guard.h"
#include "merge.h"
#include "miscadmin.h"
#include "run.h"
#include "runlog.h"
#include "scope.h"
#include "slot.h"
#include "stage.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "write.h"

/* How often the last phase is done again when others were in its way. */
#define MAX_ATTEMPTS	3

/* How long an error waits to be written into the log. */
#define LOG_LOCK_TIMEOUT	"500ms"

/* ----------
 * Phase 1: who, what and where
 * ----------
 */

static void
lock_sync(const SisSync *sync, bool session)
{
	if (sis_is_writing() || !sis_sync_lock(sync->id, session))
		ereport(ERROR,
				(sis_errcode(SIS_ERR_IN_PROGRESS),
				 errmsg("a run of sync \"%s\" is in progress", sync->name),
				 errhint("See SELECT * FROM sis_sync.run WHERE sync = %s ORDER BY id DESC LIMIT 1.",
						 quote_literal_cstr(sync->name))));
}

static SisRun *
load_and_lock(const char *name, bool session)
{
	SisRun	   *run = palloc0(sizeof(SisRun));

	run->sync = sis_sync_load(name);
	initStringInfo(&run->note);
	/* who may not run it neither locks it nor writes into its log */
	sis_source_check_usage(run->sync->server);
	lock_sync(run->sync, session);
	return run;
}

/* Everything that can be known to be wrong before the source is asked. */
static SisRun *
begin_run(const char *name, bool dry_run, bool session)
{
	SisRun	   *run = load_and_lock(name, session);

	run->dry_run = dry_run;
	sis_runlog_start(run, 0);
	return run;
}

SisRun *
sis_run_begin(const char *name, SisRunKind kind, int64 of_run)
{
	SisRun	   *run = load_and_lock(name, false);

	run->kind = kind;
	sis_runlog_start(run, of_run);
	run->roster = sis_roster_open(run->sync->target_schema, RowExclusiveLock);
	return run;
}

static const SisProvider *
find_provider(const SisSource *source)
{
	const SisProvider *provider = sis_provider_for(source->wrapper);

	if (provider == NULL)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("the foreign-data wrapper \"%s\" is none of sis_sync's",
						source->wrapper),
				 errhint("Use a server of sis_directory, sis_sftp, sis_clever, sis_oneroster or sis_classlink.")));
	return provider;
}

/* ----------
 * Phase 2: the source into the staging tables
 * ----------
 */

static void
take_counts(SisRun *run, SisStage *stage)
{
	SisSink    *sink = sis_stage_sink(stage);

	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		const SisStaged *staged = sis_stage_counts(stage, (SisRecordType) type);
		SisCounts  *counts = &run->counts[type];

		counts->offer = sink->offer[type];
		counts->rows_read = staged->rows_read;
		counts->received = staged->received;
		counts->rejected = staged->rejected;
		counts->unreadable = staged->unreadable;
		counts->staged_rows = staged->staged_rows;
		counts->active = staged->active;
	}
	run->source_as_of = sink->as_of;
	run->district_id = sink->district_id ? pstrdup(sink->district_id) : NULL;
	if (sink->note.len > 0)
		sis_run_note(run, "%s", sink->note.data);
}

/* Puts what was fetched into the staging tables; allocates in cxt. */
static void
stage_fetched(SisRun *run, const SisProvider *provider, void *fetched,
			  MemoryContext cxt, SisFailure *failure)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	MemoryContext read_cxt;
	SisStage   *stage;
	bool		done;

	PushActiveSnapshot(GetTransactionSnapshot());
	stage = sis_stage_open(run->id, run->slot, run->sync, failure);
	read_cxt = AllocSetContextCreate(cxt, "sis_sync provider",
									 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(read_cxt);
	done = provider->read(fetched, sis_stage_sink(stage));
	MemoryContextSwitchTo(old);

	/* not before: reading takes time, and a lock on a roster is waited for */
	if (done)
	{
		run->roster = sis_roster_open(run->sync->target_schema, AccessShareLock);
		MemoryContextSwitchTo(cxt);
		sis_carry_stored(stage, run);
	}
	MemoryContextSwitchTo(cxt);
	sis_stage_close(stage, run->roster, done);
	MemoryContextSwitchTo(old);
	take_counts(run, stage);
	PopActiveSnapshot();
}

/*
 * Fetches and stages the source.  A failure of the source is in *failure
 * afterwards, and what came before it is staged and counted all the same.
 */
static void
stage_source(SisRun *run, const SisSource *source, SisFailure *failure)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(old, "sis_sync stage",
											  ALLOCSET_DEFAULT_SIZES);
	const SisProvider *provider = find_provider(source);
	void	   *fetched;

	run->options_hash = (int64) source->options_hash;

	/* whatever looked into a catalog so far holds back nobody's vacuum */
	InvalidateCatalogSnapshot();
	MemoryContextSwitchTo(cxt);
	fetched = provider->fetch(source, &run->sync->wants, failure);
	MemoryContextSwitchTo(old);
	if (fetched != NULL)
		stage_fetched(run, provider, fetched, cxt, failure);
	if (failure->code != SIS_OK)
	{
		failure->message = pstrdup(failure->message);
		failure->detail = failure->detail ? pstrdup(failure->detail) : NULL;
		failure->hint = failure->hint ? pstrdup(failure->hint) : NULL;
	}
	MemoryContextDelete(cxt);
	if (fetched != NULL)
		sis_runlog_staged(run);
}

/* ----------
 * Phase 3: verify, apply, archive
 * ----------
 */

/*
 * All checks but the threshold, and the delta they rest on.  Returns the
 * verdict when IDs have been re-keyed: nothing of the delta may be done then.
 */
static SisFailure *
compute_and_check(SisRun *run, SisDelta *delta, SisScope **scope, bool first)
{
	sis_guard_settings(run);
	sis_approval_find(run);
	sis_guard_staged(run);
	sis_guard_offers(run);
	sis_guard_district(run);
	sis_guard_age(run);
	sis_guard_schools(run);
	*scope = sis_scope_open(run);
	sis_merge_compute(run, delta, first);
	sis_guard_rejects(run, delta);
	sis_guard_empty(run);
	return sis_guard_rekeyed(run, delta);
}

/* The same for a step in the caller's transaction, which an error aborts. */
static SisScope *
compute_or_throw(SisRun *run, SisDelta *delta, bool first)
{
	SisScope   *scope;
	SisFailure *failure = compute_and_check(run, delta, &scope, first);

	if (failure != NULL)
		sis_throw(failure);
	return scope;
}

static void
finish_scope(SisDelta *delta, SisScope *scope)
{
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
		sis_delta_unregister(delta, (SisRecordType) type);
	sis_scope_close(scope);
}

/* What the next run compares with, once this one is applied. */
static void
remember_state(const SisRun *run)
{
	SisParams	params = {0};

	sis_param_text(&params, run->sync->name);
	sis_param_int8(&params, run->id);
	sis_exec_as_owner("INSERT INTO sis_sync.sync_state AS s (sync, district_id, source_as_of, options_hash) "
					  "SELECT $1, r.district_id, r.source_as_of, r.options_hash FROM sis_sync.run r WHERE r.id = $2 "
					  "ON CONFLICT (sync) DO UPDATE SET district_id = coalesce(excluded.district_id, s.district_id), "
					  "source_as_of = excluded.source_as_of, options_hash = excluded.options_hash",
					  &params, SPI_OK_INSERT);
}

/*
 * Empties the rows of those who left scope, and leaves their IDs: they are on
 * the roster, and a preview must still tell why they would go.
 */
static void
empty_rows(SisRun *run, SisRecordType type, const char *condition,
		   const SisParams *params)
{
	const SisRecordDesc *desc = sis_record_desc(type);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s d SET last_modified = NULL",
					 sis_stage_leaf(type, run->slot));
	for (int i = SIS_COL_SIS_ID; i < desc->ncolumns; i++)
	{
		if (strstr(desc->columns[i].name, "source_id") == NULL)
			appendStringInfo(&sql, ", %s = NULL", desc->columns[i].name);
	}
	sis_exec_as_owner(psprintf("%s WHERE %s AND EXISTS (SELECT 1 FROM gone_%s g WHERE g.source_id = d.source_id)",
							   sql.data, condition, desc->name),
					  params, SPI_OK_UPDATE);
}

/*
 * People out of scope leave staging when the run ends: nobody agreed that
 * they be kept (rule 9).
 */
static void
forget_out_of_scope(SisRun *run, const SisDelta *delta)
{
	static const SisRecordType persons[] = {
		SIS_STUDENT, SIS_STAFF, SIS_CONTACT, SIS_STUDENT_CONTACT
	};
	SisParams	params;

	if (run->nschools < 0)
		return;
	sis_scope_params(run, &params);
	for (int i = 0; i < (int) lengthof(persons); i++)
	{
		SisRecordType type = persons[i];
		bool		some_gone = delta->types[type].rows[SIS_DELTA_GONE] > 0;
		char	   *condition =
			psprintf("d.run_id = $1 AND d.source_id IS NOT NULL "
					 "AND NOT EXISTS (SELECT 1 FROM (%s) x WHERE x.source_id = d.source_id AND x.stand <> 'o')",
					 sis_scope_staged_sql(run, type, true));

		if (some_gone)
			empty_rows(run, type, condition, &params);
		run->counts[type].staged_rows -= (int64)
			sis_exec_as_owner(psprintf("DELETE FROM %s d WHERE %s%s",
									   sis_stage_leaf(type, run->slot), condition,
									   !some_gone ? "" :
									   psprintf(" AND NOT EXISTS (SELECT 1 FROM gone_%s g WHERE g.source_id = d.source_id)",
												sis_record_desc(type)->name)),
							  &params, SPI_OK_DELETE);
	}
}

/* Archives what the threshold has let pass. */
static void
archive_all(SisRun *run, SisDelta *delta)
{
	sis_merge_archive(run, delta);
	sis_carry_forget(run, delta);
	sis_approval_spend(run);
}

/* What the checks have let pass: creates, updates, and archives or a trip. */
static SisFailure *
write_all(SisRun *run, SisDelta *delta)
{
	SisFailure *failure;

	if (!run->dry_run)
		sis_carry_remember(run, delta);
	failure = sis_guard_threshold(run, delta);
	if (!run->dry_run)
	{
		sis_merge_apply(run, delta);
		if (failure == NULL)
			archive_all(run, delta);
		else
			sis_carry_remember_held(run, delta);
		sis_write_check_constraints(run);
		remember_state(run);
	}
	sis_runlog_phase(run->id, failure != NULL ? "applied" : "archive");
	return failure;
}

/* The last phase of CALL run(): everything becomes visible in one commit. */
static SisFailure *
merge_all(SisRun *run, SisDelta *delta)
{
	SisScope   *scope;
	SisFailure *failure;

	run->roster = sis_roster_open(run->sync->target_schema, RowExclusiveLock);
	failure = compute_and_check(run, delta, &scope, true);
	if (failure == NULL)
		failure = write_all(run, delta);
	forget_out_of_scope(run, delta);
	finish_scope(delta, scope);
	sis_runlog_counts(run);
	return failure;
}

/* ----------
 * Steps in the caller's transaction
 * ----------
 */

int64
sis_run_stage(const char *sync)
{
	SisRun	   *run = begin_run(sync, false, false);
	SisSource  *source = sis_source_load(run->sync->server);
	SisFailure	failure = {SIS_OK};

	sis_sync_check_schools(run->sync);
	(void) find_provider(source);
	run->slot = sis_slot_take(run->id, run->sync->name, false);
	stage_source(run, source, &failure);
	if (failure.code != SIS_OK)
		sis_throw(&failure);
	return run->id;
}

/* Opens a run for one of the later steps. */
static SisRun *
open_step(int64 run_id, const char *phase, LOCKMODE mode)
{
	SisRun	   *run = sis_runlog_load(run_id, phase);

	lock_sync(run->sync, false);
	run = sis_runlog_load(run_id, phase);	/* as it is now that it is ours */
	run->roster = sis_roster_open(run->sync->target_schema, mode);
	return run;
}

void
sis_run_verify(int64 run_id)
{
	SisRun	   *run = open_step(run_id, "staged", AccessShareLock);
	SisDelta   *delta = sis_delta_create();
	SisScope   *scope = compute_or_throw(run, delta, true);

	(void) sis_guard_threshold(run, delta); /* a trip is archive()'s to raise */
	finish_scope(delta, scope);
	sis_delta_destroy(delta);
	sis_runlog_counts(run);
	sis_runlog_phase(run->id, "verified");
}

/* Did verify() find that archive() will trip? */
static bool
was_held(const SisRun *run)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->id);
	return sis_exec_as_owner("SELECT 1 FROM sis_sync.pending_archive WHERE run_id = $1 LIMIT 1",
							 &params, SPI_OK_SELECT) > 0;
}

void
sis_run_apply(int64 run_id)
{
	SisRun	   *run = open_step(run_id, "verified", RowExclusiveLock);
	SisDelta   *delta = sis_delta_create();
	SisScope   *scope = compute_or_throw(run, delta, false);

	sis_carry_remember(run, delta);
	if (was_held(run))
		sis_carry_remember_held(run, delta);
	sis_merge_apply(run, delta);
	remember_state(run);
	finish_scope(delta, scope);
	sis_delta_destroy(delta);
	sis_runlog_counts(run);
	sis_runlog_phase(run->id, "applied");
}

void
sis_run_archive(int64 run_id)
{
	SisRun	   *run = open_step(run_id, "applied", RowExclusiveLock);
	SisCounts	applied[SIS_N_RECORD_TYPES];
	SisDelta   *delta = sis_delta_create();
	SisScope   *scope;
	SisFailure *failure;

	memcpy(applied, run->counts, sizeof(applied));
	run->applied = true;
	scope = compute_or_throw(run, delta, false);
	failure = sis_guard_threshold(run, delta);
	if (failure != NULL)
		sis_throw(failure);
	archive_all(run, delta);
	forget_out_of_scope(run, delta);
	finish_scope(delta, scope);
	sis_delta_destroy(delta);
	for (int type = 0; type < SIS_N_RECORD_TYPES; type++)
	{
		/* what apply() counted stands; only archiving, and forgetting, is new */
		applied[type].archived = run->counts[type].archived;
		applied[type].staged_rows = run->counts[type].staged_rows;
		applied[type].to_archive = run->counts[type].to_archive;
		applied[type].in_force = run->counts[type].in_force;
		applied[type].allowed = run->counts[type].allowed;
	}
	memcpy(run->counts, applied, sizeof(applied));
	sis_runlog_counts(run);
	sis_runlog_succeeded(run);
}

int64
sis_run_all(const char *sync)
{
	int64		run_id = sis_run_stage(sync);

	sis_run_verify(run_id);
	sis_run_apply(run_id);
	sis_run_archive(run_id);
	return run_id;
}

/* ----------
 * CALL run(): phases with commits
 * ----------
 */

typedef struct Phase
{
	SisRun	   *run;
	const char *name;
	bool		dry_run;
	SisSource  *source;
	SisDelta   *delta;
	SisFailure *failure;		/* the verdict, not thrown yet */
	const ErrorData *error;		/* what log_error_phase() writes down */
} Phase;

/* Starts the next transaction as the run needs it, whatever the session has. */
static void
commit(void)
{
	SPI_commit();
	(void) set_config_option("transaction_isolation", "read committed",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	(void) set_config_option("transaction_read_only", "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

static const char *
copy_text(const char *text)
{
	return text != NULL ? pstrdup(text) : NULL;
}

/*
 * Takes a verdict into the current memory context: each statement makes SPI's
 * own the current one, and what was written down since goes with the
 * connection.
 */
static void
keep_failure(SisFailure *failure)
{
	failure->record_type = copy_text(failure->record_type);
	failure->message = copy_text(failure->message);
	failure->detail = copy_text(failure->detail);
	failure->hint = copy_text(failure->hint);
}

/*
 * Does work in an internal subtransaction.  NULL when it went well, else the
 * error, with the transaction around it still usable.
 */
static ErrorData *
attempt(void (*work) (Phase *), Phase *phase)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		/* a connection of its own: an error forgets its named relations */
		sis_connect(0);
		MemoryContextSwitchTo(cxt);
		work(phase);
		MemoryContextSwitchTo(cxt);
		if (phase->failure != NULL)
			keep_failure(phase->failure);
		SPI_finish();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return error;
}

static void
prepare_phase(Phase *phase)
{
	SisRun	   *run = phase->run;

	sis_sync_check_schools(run->sync);
	phase->source = sis_source_load(run->sync->server);
	(void) find_provider(phase->source);
	(void) sis_roster_open(run->sync->target_schema, AccessShareLock);
	run->slot = sis_slot_take(run->id, run->sync->name, true);
}

static void
stage_phase(Phase *phase)
{
	sis_locks_for_transaction(phase->run->sync->id, phase->run->slot);
	stage_source(phase->run, phase->source, phase->failure);
}

static void
merge_phase(Phase *phase)
{
	SisFailure *failure;

	sis_locks_for_transaction(phase->run->sync->id, phase->run->slot);
	failure = merge_all(phase->run, phase->delta);
	if (failure != NULL)
		*phase->failure = *failure;
}

static bool
worth_another_attempt(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

static ErrorData *
attempt_merge(Phase *phase)
{
	SisCounts	before[SIS_N_RECORD_TYPES];
	int			note_len;

	memcpy(before, phase->run->counts, sizeof(before));
	note_len = phase->run->note.len;
	for (int i = 1;; i++)
	{
		ErrorData  *error = attempt(merge_phase, phase);

		if (error == NULL || i == MAX_ATTEMPTS ||
			!worth_another_attempt(error))
			return error;
		memcpy(phase->run->counts, before, sizeof(before));
		phase->run->note.len = note_len;
		phase->run->note.data[note_len] = '\0';
		sis_delta_clear(phase->delta);
		/* a new transaction, so that it sees what the others have done */
		sis_delta_destroy(phase->delta);
		commit();
		phase->delta = sis_delta_create();
	}
}

static void
log_error_phase(Phase *phase)
{
	ErrorData	logged = *phase->error;

	/* what PostgreSQL says in detail may show a row's values */
	if (sis_error_reason(logged.sqlerrcode) == NULL)
		logged.detail = NULL;
	/* who cancels a run must not wait for somebody who has locked the log */
	(void) set_config_option("lock_timeout", LOG_LOCK_TIMEOUT,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	sis_runlog_failed(phase->run->id, &logged);
}

/*
 * Writes the error to the log, commits that and raises the error.  When it
 * cannot be written (the disk is full, the extension was dropped) the cause is
 * still the one to raise; the next run will find this one interrupted.
 */
static void
end_with_error(Phase *phase, ErrorData *error)
{
	ErrorData  *of_log;

	phase->error = error;
	of_log = attempt(log_error_phase, phase);
	if (of_log != NULL)
		ereport(WARNING,
				(errcode(of_log->sqlerrcode),
				 errmsg("could not write into the log that run %lld failed: %s",
						(long long) phase->run->id, of_log->message)));
	commit();
	ReThrowError(error);
}

static void
end_with_failure(SisRun *run, const SisFailure *failure)
{
	ErrorData	error = {0};

	error.sqlerrcode = sis_error_sqlstate(failure->code);
	error.message = (char *) failure->message;
	error.detail = (char *) failure->detail;
	error.hint = (char *) failure->hint;
	sis_runlog_failed(run->id, &error);
	commit();
	sis_throw(failure);
}

static void
run_phases(Phase *phase)
{
	SisFailure	failure = {SIS_OK};
	SisRun	   *run;
	ErrorData  *error;

	commit();
	phase->run = run = begin_run(phase->name, phase->dry_run, true);
	commit();

	error = attempt(prepare_phase, phase);
	if (error != NULL)
		end_with_error(phase, error);
	commit();

	phase->failure = &failure;
	error = attempt(stage_phase, phase);
	if (error != NULL)
		end_with_error(phase, error);
	if (failure.code != SIS_OK)
		end_with_failure(run, &failure);
	commit();

	phase->delta = sis_delta_create();
	error = attempt_merge(phase);
	sis_delta_destroy(phase->delta);
	if (error != NULL)
		end_with_error(phase, error);
	if (failure.code != SIS_OK)
		end_with_failure(run, &failure);
	sis_runlog_succeeded(run);
	commit();
}

void
sis_run_committing(const char *sync, bool dry_run)
{
	Phase		phase = {0};

	phase.name = sync;
	phase.dry_run = dry_run;
	PG_TRY();
	{
		run_phases(&phase);
	}
	PG_FINALLY();
	{
		sis_locks_release();
	}
	PG_END_TRY();
}
