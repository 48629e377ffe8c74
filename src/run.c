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
#include "attempt.h"
#include "base/compat.h"
#include "base/progress.h"
#include "carry.h"
#include "delta.h"
#include "guard.h"
#include "hold.h"
#include "intake.h"
#include "merge.h"
#include "miscadmin.h"
#include "notice.h"
#include "notify.h"
#include "retention.h"
#include "run.h"
#include "runlog.h"
#include "scope.h"
#include "slot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "window.h"
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

SisRun *
sis_run_hold(const char *name, SisRunKind kind, int64 of_run)
{
	static const SisStep steps[] = {
		[SIS_RUN_UNDO] = SIS_STEP_UNDO,
		[SIS_RUN_REKEY] = SIS_STEP_REKEY,
		[SIS_RUN_RETIRE] = SIS_STEP_RETIRE,
		[SIS_RUN_ERASE] = SIS_STEP_ERASE
	};
	SisRun	   *run = load_and_lock(name, false);

	run->kind = kind;
	sis_runlog_start(run, of_run);
	sis_notify_interrupted(run);
	sis_progress_begin(run->id, false);
	sis_progress_step(steps[kind]);
	return run;
}

SisRun *
sis_run_begin(const char *name, SisRunKind kind, int64 of_run)
{
	SisRun	   *run = sis_run_hold(name, kind, of_run);

	run->roster = sis_roster_open(run->sync->target_schema, RowExclusiveLock);
	return run;
}

/* ----------
 * Phase 3: verify, apply, archive
 * ----------
 */

/*
 * All checks but the threshold, and the delta they rest on.  Returns the
 * verdict when IDs have been re-keyed, or too much would be updated: nothing
 * of the delta may be done then.
 */
static SisFailure *
compute_and_check(SisRun *run, SisDelta *delta, SisScope **scope, bool first)
{
	SisFailure *failure;

	sis_progress_step(SIS_STEP_VERIFY);
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
	failure = sis_guard_rekeyed(run, delta);
	if (failure != NULL)
		return failure;
	if (run->sync->mode == SIS_MODE_ADDS_ONLY)
		sis_window_leave_updates(run);
	return sis_guard_updates(run, delta);
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

/* Creates, updates and restores. */
static void
apply_all(SisRun *run, SisDelta *delta)
{
	sis_merge_apply(run, delta);
	if (run->sync->mode < SIS_MODE_ADDS_ONLY)
		sis_approval_spend_updates(run);
}

/*
 * Archives what a window, or a trip (failure), does not hold back.  An approval
 * of which some may still be held back is not spent.
 */
static void
archive_what_may(SisRun *run, SisDelta *delta, const SisFailure *failure)
{
	if (failure == NULL && run->sync->mode == SIS_MODE_NORMAL)
	{
		sis_merge_archive(run, delta);
		sis_carry_forget(run, delta);
		sis_approval_spend(run);
		return;
	}
	sis_carry_remember_held(run, delta);
	if (run->hold != NULL)
		sis_merge_archive(run, delta);
}

/* What the checks have let pass: creates, updates, and archives or a trip. */
static SisFailure *
write_all(SisRun *run, SisDelta *delta)
{
	SisFailure *failure;

	if (!run->dry_run)
		sis_carry_remember(run, delta);
	failure = sis_guard_threshold(run, delta);
	if (run->sync->mode != SIS_MODE_NORMAL)
		sis_window_note_gone(run, delta);
	if (!run->dry_run)
	{
		apply_all(run, delta);
		archive_what_may(run, delta, failure);
		sis_write_check_constraints(run);
		remember_state(run);
	}
	if (run->hold != NULL)
		sis_hold_close(run->hold);
	run->hold = NULL;
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
	sis_scope_forget_out(run, delta);
	finish_scope(delta, scope);
	sis_runlog_counts(run);
	return failure;
}

/* ----------
 * Steps in the caller's transaction
 * ----------
 */

static SisRun *
begin_run(const char *sync)
{
	SisRun	   *run = load_and_lock(sync, false);

	sis_runlog_start(run, 0);
	sis_notify_interrupted(run);
	sis_progress_begin(run->id, false);
	return run;
}

static void
stage_run(SisRun *run)
{
	SisSource  *source = sis_source_load(run->sync->server);
	SisFailure	failure = {SIS_OK};

	sis_sync_check_schools(run->sync);
	(void) sis_intake_provider(source);
	run->slot = sis_slot_take(run->id, run->sync->name, false);
	sis_intake(run, source, &failure);
	if (failure.code != SIS_OK)
		sis_throw(&failure);
	sis_progress_end();
}

int64
sis_run_stage(const char *sync)
{
	SisRun	   *run = begin_run(sync);

	sis_window_check_not_frozen(run->sync);
	stage_run(run);
	return run->id;
}

/* Opens a run for one of the later steps. */
static SisRun *
open_step(int64 run_id, const char *phase, LOCKMODE mode)
{
	SisRun	   *run = sis_runlog_load(run_id, phase);

	lock_sync(run->sync, false);
	sis_window_check_not_frozen(run->sync);
	run = sis_runlog_load(run_id, phase);	/* as it is now that it is ours */
	sis_progress_begin(run_id, false);
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
	sis_progress_end();
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
	if (was_held(run) || run->sync->mode != SIS_MODE_NORMAL)
		sis_carry_remember_held(run, delta);
	apply_all(run, delta);
	remember_state(run);
	finish_scope(delta, scope);
	sis_delta_destroy(delta);
	sis_runlog_counts(run);
	sis_runlog_phase(run->id, "applied");
	sis_progress_end();
}

void
sis_run_archive(int64 run_id)
{
	SisRun	   *run = open_step(run_id, "applied", RowExclusiveLock);
	SisCounts	applied[SIS_N_RECORD_TYPES];
	SisDelta   *delta = sis_delta_create();
	SisScope   *scope;
	SisFailure *failure;
	ErrorData  *cancel;

	memcpy(applied, run->counts, sizeof(applied));
	run->applied = true;
	scope = compute_or_throw(run, delta, false);
	failure = sis_guard_threshold(run, delta);
	if (failure != NULL)
		sis_throw(failure);
	if (run->sync->mode != SIS_MODE_NORMAL)
		sis_window_note_gone(run, delta);
	archive_what_may(run, delta, NULL);
	sis_scope_forget_out(run, delta);
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
	sis_notify_end(run->id);
	sis_progress_end();
	/* with a snapshot of its own it might fail for what others have removed */
	cancel = IsolationUsesXactSnapshot() ? NULL : sis_retention();
	if (cancel != NULL)
		ReThrowError(cancel);
}

int64
sis_run_all(const char *sync)
{
	SisRun	   *run = begin_run(sync);

	if (run->sync->mode == SIS_MODE_FROZEN)
	{
		sis_window_log_frozen(run);
		sis_notify_end(run->id);
		sis_progress_end();
		return run->id;
	}
	stage_run(run);
	sis_run_verify(run->id);
	sis_run_apply(run->id);
	sis_run_archive(run->id);
	return run->id;
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
	SisTurn    *turn;			/* of run_due(), or NULL */
	SisSource  *source;
	SisDelta   *delta;
	SisFailure *failure;		/* the verdict, not thrown yet */
	const ErrorData *error;		/* what log_error_phase() writes down */
} Phase;

/* Leaves phase->run NULL when it is not the sync's turn. */
static void
begin_phase(void *arg)
{
	Phase	   *phase = arg;
	SisRun	   *run = load_and_lock(phase->name, true);

	if (phase->turn != NULL && !phase->turn->is_due(run->sync, phase->turn))
		return;
	run->dry_run = phase->dry_run;
	run->commits = true;
	run->due = phase->turn != NULL;
	sis_runlog_start(run, 0);
	if (run->sync->mode == SIS_MODE_FROZEN)
		sis_window_log_frozen(run);
	phase->run = run;
}

static void
prepare_phase(void *arg)
{
	Phase	   *phase = arg;
	SisRun	   *run = phase->run;

	sis_sync_check_schools(run->sync);
	phase->source = sis_source_load(run->sync->server);
	(void) sis_intake_provider(phase->source);
	(void) sis_roster_open(run->sync->target_schema, AccessShareLock);
	run->slot = sis_slot_take(run->id, run->sync->name, true);
}

static void
stage_phase(void *arg)
{
	Phase	   *phase = arg;

	sis_locks_for_transaction(phase->run->sync->id, phase->run->slot);
	sis_intake(phase->run, phase->source, phase->failure);
}

static void
merge_phase(void *arg)
{
	Phase	   *phase = arg;

	sis_locks_for_transaction(phase->run->sync->id, phase->run->slot);
	phase->failure = merge_all(phase->run, phase->delta);
	if (phase->failure == NULL)
		sis_runlog_succeeded(phase->run);
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
		ErrorData  *error = sis_attempt(merge_phase, phase);

		if (error == NULL || i == MAX_ATTEMPTS ||
			!worth_another_attempt(error))
			return error;
		memcpy(phase->run->counts, before, sizeof(before));
		phase->run->note.len = note_len;
		phase->run->note.data[note_len] = '\0';
		sis_delta_clear(phase->delta);
		/* a new transaction, so that it sees what the others have done */
		sis_delta_destroy(phase->delta);
		sis_commit();
		phase->delta = sis_delta_create();
	}
}

static void
log_error_phase(void *arg)
{
	Phase	   *phase = arg;
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
 * Commits the end that has been logged, and tells of it.  Whoever hears of it
 * may run the sync at once.  Who cancels a run must not wait for more, nor
 * must run_due() go on with the next.
 */
static void
commit_end(Phase *phase, bool forget)
{
	ErrorData  *cancel = NULL;

	sis_commit();
	if (forget)
	{
		cancel = sis_retention();
		sis_commit();
	}
	sis_progress_end();
	sis_locks_release();
	sis_notify_committing(phase->run->id);
	if (cancel != NULL)
		ReThrowError(cancel);
}

/*
 * Writes the error to the log and commits that.  When it cannot be written
 * (the disk is full, the extension was dropped) the cause is still the one to
 * raise; the next run will find this one interrupted.
 */
static void
log_and_commit(Phase *phase, const ErrorData *error)
{
	ErrorData  *of_log;

	phase->error = error;
	of_log = sis_attempt(log_error_phase, phase);
	if (of_log != NULL)
	{
		ereport(WARNING,
				(errcode(of_log->sqlerrcode),
				 errmsg("could not write into the log that run %lld failed: %s",
						(long long) phase->run->id, of_log->message)));
		sis_commit();
	}
	else
		commit_end(phase, sis_error_reason(error->sqlerrcode) != NULL);
}

static void
end_with_error(Phase *phase, ErrorData *error)
{
	log_and_commit(phase, error);
	ReThrowError(error);
}

static void
end_with_failure(Phase *phase)
{
	const SisFailure *failure = phase->failure;
	ErrorData	error = {0};

	error.sqlerrcode = sis_error_sqlstate(failure->code);
	error.message = (char *) failure->message;
	error.detail = (char *) failure->detail;
	error.hint = (char *) failure->hint;
	log_and_commit(phase, &error);
	/* all but the archiving was done */
	if (failure->code == SIS_ERR_THRESHOLD)
		sis_notice_written(phase->run);
	sis_throw(failure);
}

static void
run_phases(Phase *phase)
{
	SisFailure	failure = {SIS_OK};
	SisRun	   *run;
	ErrorData  *error;

	sis_commit();
	error = sis_attempt(begin_phase, phase);
	if (error != NULL)
		ReThrowError(error);
	sis_commit();
	run = phase->run;
	if (run == NULL)
		return;
	if (phase->turn != NULL)
		phase->turn->run_id = run->id;
	sis_progress_begin(run->id, true);
	for (int i = 0; i < run->ninterrupted; i++)
		sis_notify_committing(run->interrupted[i]);
	if (run->sync->mode == SIS_MODE_FROZEN)
	{
		commit_end(phase, true);
		return;
	}
	sis_notice_begun(run);

	error = sis_attempt(prepare_phase, phase);
	if (error != NULL)
		end_with_error(phase, error);
	sis_commit();

	phase->failure = &failure;
	error = sis_attempt(stage_phase, phase);
	if (error != NULL)
		end_with_error(phase, error);
	if (failure.code != SIS_OK)
		end_with_failure(phase);
	sis_commit();
	sis_notice_staged(run);

	phase->delta = sis_delta_create();
	error = attempt_merge(phase);
	sis_delta_destroy(phase->delta);
	if (error != NULL)
		end_with_error(phase, error);
	if (phase->failure != NULL)
		end_with_failure(phase);
	commit_end(phase, true);
	sis_notice_written(run);
}

static void
run_and_unlock(Phase *phase)
{
	PG_TRY();
	{
		run_phases(phase);
	}
	PG_FINALLY();
	{
		sis_progress_end();
		sis_locks_release();
	}
	PG_END_TRY();
}

void
sis_run_committing(const char *sync, bool dry_run)
{
	Phase		phase = {0};

	phase.name = sync;
	phase.dry_run = dry_run;
	run_and_unlock(&phase);
}

void
sis_run_turn(const char *sync, SisTurn *turn)
{
	Phase		phase = {0};

	phase.name = sync;
	phase.turn = turn;
	run_and_unlock(&phase);
}
