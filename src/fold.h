/*
 * fold.h
 *		Makes one staged row of the rows of one ID.
 */
#ifndef SIS_FOLD_H
#define SIS_FOLD_H

#include "stage.h"

/*
 * Folds the staged rows of a type.  whole: the layout spreads its records
 * over several rows (needs_parts); else only the IDs of the relation
 * "suspects", registered with SPI, that occur more than once.  False when
 * there was nothing to fold.
 */
extern bool sis_fold(SisStage *stage, SisRecordType type, int64 sync_id,
					 const char *roster_table, int needs_parts, bool whole);

#endif
