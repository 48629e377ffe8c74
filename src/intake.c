/*
 * intake.c
 *		A run's second phase: what the source sends, into the staging tables.
 */
#include "postgres.h"

#include "base/progress.h"
#include "carry.h"
#include "emptied.h"
#include "intake.h"
#include "roster.h"
#include "runlog.h"
#include "stage.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

const SisProvider *
sis_intake_provider(const SisSource *source)
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

	sis_progress_step(SIS_STEP_STAGE);
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
	if (done)
		sis_emptied_keep(run);
	MemoryContextSwitchTo(old);
	take_counts(run, stage);
	PopActiveSnapshot();
}

void
sis_intake(SisRun *run, const SisSource *source, SisFailure *failure)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(old, "sis_sync stage",
											  ALLOCSET_DEFAULT_SIZES);
	const SisProvider *provider = sis_intake_provider(source);
	void	   *fetched;

	run->options_hash = (int64) source->options_hash;
	sis_progress_step(SIS_STEP_FETCH);

	/* whatever looked into a catalog so far holds back nobody's vacuum */
	InvalidateCatalogSnapshot();
	MemoryContextSwitchTo(cxt);
	fetched = provider->fetch(source, &run->sync->wants, failure);
	MemoryContextSwitchTo(old);
	if (fetched != NULL)
		stage_fetched(run, provider, fetched, cxt, failure);
	if (failure->code != SIS_OK)
		sis_failure_keep(failure);
	MemoryContextDelete(cxt);
	if (fetched != NULL)
		sis_runlog_staged(run);
}
