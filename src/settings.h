/*
 * settings.h
 *		A sync as somebody set it up: a row of sis_sync.sync and its schools.
 */
#ifndef SIS_SETTINGS_H
#define SIS_SETTINGS_H

#include "provider/provider.h"

/* How much of its work a sync does on a day: each does less than the last. */
typedef enum SisMode
{
	SIS_MODE_NORMAL,
	SIS_MODE_NO_ARCHIVE,
	SIS_MODE_ADDS_ONLY,			/* creates and restores */
	SIS_MODE_FROZEN				/* nothing at all */
} SisMode;

typedef struct SisSync
{
	int64		id;
	char	   *name;
	char	   *server;
	char	   *target_schema;
	bool		restore_returning;
	bool		all_schools;
	bool		holds_schools;	/* a trip in a school holds back that school */
	SisWants	wants;
	int			nschools;		/* rows of sync_school */
	int			this_year;		/* in the sync's time zone */
	char	   *today;			/* ISO date in the sync's time zone */
	SisMode		mode;			/* of today (window.h) */
	char	   *mode_until;		/* its last day; NULL: for good */
} SisSync;

/*
 * SI009 when the tables and functions in the database are of another version
 * than the library: their columns are not those that its statements name.
 */
extern void sis_check_version(void);

/*
 * Reads a sync's settings, as the extension's owner, into the current
 * context.  SI009 when there is none of that name, and as above.
 */
extern SisSync *sis_sync_load(const char *name);

/* As it stands in sync_window.mode. */
extern const char *sis_mode_name(SisMode mode);

/* SI009 when the sync has neither schools nor all_schools. */
extern void sis_sync_check_schools(const SisSync *sync);

#endif
