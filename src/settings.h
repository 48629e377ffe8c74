/*
 * settings.h
 *		A sync as somebody set it up: a row of sis_sync.sync and its schools.
 */
#ifndef SIS_SETTINGS_H
#define SIS_SETTINGS_H

#include "provider/provider.h"

typedef struct SisSync
{
	int64		id;
	char	   *name;
	char	   *server;
	char	   *target_schema;
	bool		restore_returning;
	bool		all_schools;
	SisWants	wants;
	int			nschools;		/* rows of sync_school */
	int			this_year;		/* in the sync's time zone */
	char	   *today;			/* ISO date in the sync's time zone */
} SisSync;

/*
 * Reads a sync's settings, as the extension's owner, into the current
 * context.  SI009 when there is none of that name.
 */
extern SisSync *sis_sync_load(const char *name);

/* SI009 when the sync has neither schools nor all_schools. */
extern void sis_sync_check_schools(const SisSync *sync);

#endif
