/*
 * hold.h
 *		What a trip in some schools holds back, while the others go on.
 */
#ifndef SIS_HOLD_H
#define SIS_HOLD_H

#include "delta.h"
#include "runstate.h"

typedef struct SisHold SisHold;

/*
 * Finds, among the records in the registered "gone" stores, those that belong
 * to the schools (source_ids), and what hangs on them: relations
 * "hold_student" (source_id), one for each type, registered with the current
 * SPI connection until sis_hold_close().
 */
extern SisHold *sis_hold_open(const SisRun *run, const SisDelta *delta,
							  char **schools, int nschools);
extern void sis_hold_close(SisHold *hold);

/*
 * A boolean over an SQL expression for the source_id of a type: is it held
 * back?  Only while a hold is open.
 */
extern char *sis_hold_names_sql(SisRecordType type, const char *source_id);

#endif
