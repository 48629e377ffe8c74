/*
 * rejectlog.h
 *		Rows that were not taken, and notes, into sis_sync.reject in groups.
 */
#ifndef SIS_REJECTLOG_H
#define SIS_REJECTLOG_H

typedef struct SisRejectLog SisRejectLog;

/* Strings are copied; those that may be NULL say so. */
typedef struct SisLoggedReject
{
	const char *record_type;
	const char *source;
	int64		line;
	const char *source_id;		/* not terminated; or NULL */
	int			source_id_len;
	const char *column;			/* or NULL */
	const char *reason;
	const char *row;			/* a JSON object, or NULL */
	bool		loaded;			/* only a note: the row was taken */
} SisLoggedReject;

/* In the current memory context, for one run. */
extern SisRejectLog *sis_rejectlog_create(int64 run_id);

/* Needs an SPI connection: a full group is written at once. */
extern void sis_rejectlog_add(SisRejectLog *log, const SisLoggedReject *reject);
extern void sis_rejectlog_flush(SisRejectLog *log);

#endif
