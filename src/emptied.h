/*
 * emptied.h
 *		Columns that were filled and come empty (sync.keep_emptied_columns).
 */
#ifndef SIS_EMPTIED_H
#define SIS_EMPTIED_H

#include "runstate.h"

/*
 * Has tonight's staged rows, all of which are there, say nothing of such a
 * column, as if the source did not have it: the stored values stay.  Notes it
 * in the run and among the rejects, and remembers it in emptied_column.  Does
 * nothing where the sync has not set it.  run->roster is open.
 */
extern void sis_emptied_keep(SisRun *run);

#endif
