/*
 * runstate.h
 *		A run under way: what it is about, and what it has counted.
 */
#ifndef SIS_RUNSTATE_H
#define SIS_RUNSTATE_H

#include "provider/provider.h"
#include "roster.h"
#include "settings.h"

/* The columns of run_count, in its order (see runlog.c). */
typedef struct SisCounts
{
	SisOffer	offer;
	int64		rows_read;
	int64		received;
	int64		out_of_scope;
	int64		rejected;
	int64		unreadable;
	int64		created;
	int64		updated;
	int64		unchanged;
	int64		restored;
	int64		manual;
	int64		frozen;
	int64		to_update;
	int64		to_archive;		/* A */
	int64		archived;
	int64		in_force;		/* N */
	int64		allowed;
	int64		staged_rows;
	int64		active;			/* staged and not deleted; not in run_count */
	int64		refreshed;		/* fingerprints only; not in run_count */
} SisCounts;

typedef enum SisRunKind
{
	SIS_RUN_SYNC,				/* from the source */
	SIS_RUN_UNDO,
	SIS_RUN_REKEY,
	SIS_RUN_RETIRE,
	SIS_RUN_ERASE
} SisRunKind;

typedef struct SisRun
{
	int64		id;
	SisRunKind	kind;
	const SisSync *sync;
	int			slot;
	bool		applied;		/* an earlier step has written its creates */
	bool		dry_run;
	bool		looks_only;		/* a preview: nothing may be written */
	bool		commits;		/* an error does not take back what was done */
	bool		due;			/* by run_due(), one of many */
	SisRoster  *roster;
	SisCounts	counts[SIS_N_RECORD_TYPES];
	char	   *district_id;	/* of tonight's data, or NULL */
	TimestampTz source_as_of;	/* 0: not known */
	int64		options_hash;
	char	  **schools;		/* source_ids of the schools in scope */
	int			nschools;		/* -1: all schools */
	bool		ends_missing;	/* an end of a link is known and not there */
	int			links_whole;	/* types (SIS_TYPE_BIT) of which every staged
								 * link has been found to have both ends */
	bool		sections_past;	/* a stored section has ended or is frozen */
	int64		approved_run;	/* whose held records may go; 0: none */
	int64		approved;		/* of them, those that are gone tonight */
	int64	   *interrupted;	/* earlier runs that it has found so */
	int			ninterrupted;
	int64		approved_updates_run;	/* as many updates may be made; 0: none */
	struct SisHold *hold;		/* a trip holds back some schools only (hold.h) */
	StringInfoData note;		/* for run.note */
} SisRun;

/* Appends a sentence to run.note; false when it stands there already. */
extern bool sis_run_note(SisRun *run, const char *fmt,...)
			pg_attribute_printf(2, 3);

#endif
