/*
 * stage.h
 *		Records into staging tables: values judged, rejects written down.
 */
#ifndef SIS_STAGE_H
#define SIS_STAGE_H

#include "provider/provider.h"
#include "roster.h"
#include "settings.h"
#include "stagerow.h"

/* the line of a stored record that a package of changes does not name */
#define SIS_CARRIED_LINE	0

/* What came in, by record type. */
typedef struct SisStaged
{
	int64		rows_read;
	int64		received;		/* distinct records */
	int64		active;			/* of them, those not deleted */
	int64		rejected;
	int64		unreadable;		/* rejects whose ID cannot be read */
	int64		staged_rows;	/* rows in the staging table */
} SisStaged;

typedef struct SisStage SisStage;

/*
 * Opens the slot's staging tables for the run.  Needs an SPI connection and
 * an active snapshot until sis_stage_close().
 */
extern SisStage *sis_stage_open(int64 run_id, int slot, const SisSync *sync,
								SisFailure *failure);

/* Where the provider puts what it reads. */
extern SisSink *sis_stage_sink(SisStage *stage);

/*
 * Writes what is still buffered and makes one row of the rows of one ID
 * (roster: the stored version of a record wins among different ones).
 * After a failure of the source, fold is false: rows stay as they came.
 */
extern void sis_stage_close(SisStage *stage, const SisRoster *roster, bool fold);

extern const SisStaged *sis_stage_counts(const SisStage *stage,
										 SisRecordType type);

/* ----------
 * For fold.c and carry.c
 * ----------
 */

/* Judges and writes a finished record with the given status. */
extern void sis_stage_write(SisStage *stage, SisRecord *record,
							SisStageStatus status, int64 fingerprint);
extern int64 sis_stage_fingerprint(SisStage *stage, const SisRecord *record);
extern void sis_stage_log_reject(SisStage *stage, SisRecordType type,
								 const char *source, int64 line,
								 const char *source_id, int source_id_len,
								 const char *column, const char *reason,
								 const char *row, bool loaded);
extern void sis_stage_flush(SisStage *stage);

/* The same, so that later statements see what has been written. */
extern void sis_stage_flush_visibly(SisStage *stage);
extern int	sis_stage_slot(const SisStage *stage);
extern int64 sis_stage_run_id(const SisStage *stage);
extern SisStaged *sis_stage_counts_for_update(SisStage *stage,
											  SisRecordType type);

#endif
