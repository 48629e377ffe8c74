/*
 * creep.h
 *		The threshold over several days (sync.creep_threshold).
 */
#ifndef SIS_CREEP_H
#define SIS_CREEP_H

#include "delta.h"
#include "runstate.h"

typedef struct SisCreep
{
	char	   *percent;		/* NULL: no such threshold is set */
	int64		days;
	TimestampTz since;
} SisCreep;

/* What counts against it, for one type. */
typedef struct SisCreepCount
{
	int64		before;			/* archived in these days, and still gone */
	int64		in_force;		/* when they began */
	int64		allowed;
} SisCreepCount;

extern void sis_creep_load(const SisRun *run, SisCreep *creep);

/*
 * Counts a type; its counts and its delta of tonight are known.  What ended, what went with
 * an end, what came again under another ID, and what was approved does not
 * count, as it does not in a night.
 */
extern void sis_creep_count(const SisRun *run, const SisDelta *delta,
							const SisCreep *creep, SisRecordType type,
							SisCreepCount *count);

#endif
