/*
 * notice.h
 *		What the session that runs a sync is told while it waits.
 *
 * One line for each phase, of level NOTICE, with counts and no personal value;
 * to clients only (see notice.c).
 */
#ifndef SIS_NOTICE_H
#define SIS_NOTICE_H

#include "runstate.h"

/* The run is logged, and is about to read its source. */
extern void sis_notice_begun(const SisRun *run);

/* The source has been read. */
extern void sis_notice_staged(const SisRun *run);

/* What was written, or of a dry run would be, has been committed. */
extern void sis_notice_written(const SisRun *run);

#endif
