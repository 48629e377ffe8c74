/*
 * guard.h
 *		The checks that stand between a feed and a roster (design, section 4).
 *
 * Cause before symptom (rule 8): run.c calls them in the order below.
 */
#ifndef SIS_GUARD_H
#define SIS_GUARD_H

#include "delta.h"
#include "runstate.h"

/*
 * Holds the sync's name until the end of the transaction, and raises 55000
 * when it has been renamed or dropped; SI009 when the roster holds records of
 * this sync_id that no run of this installation has written.
 */
extern void sis_guard_settings(SisRun *run);

/*
 * SI007 unless the staging tables hold what the log says they should: after a
 * crash they are empty, or another run has taken the slot.  Counts the active
 * records of each type.
 */
extern void sis_guard_staged(SisRun *run);

/* SI007 when a file that is missing would leave stored records alone. */
extern void sis_guard_offers(SisRun *run);

/* SI002 when the data is of another district than the first time; SI007 when
 * it is older than what was applied last, and a warning when it is older than
 * max_age_hours. */
extern void sis_guard_district(SisRun *run);
extern void sis_guard_age(SisRun *run);

/* Finds the schools in scope among those received; SI003 (rule 2). */
extern void sis_guard_schools(SisRun *run);

/*
 * For SI003: sentences, each after a space, that tell how many students of
 * each missing school (hits: 0) are at which other school tonight, by IDs and
 * numbers; "" when none is on record, or nobody has moved.  *closed is the
 * first of the schools that nobody is said to be at any more, or NULL.
 */
extern char *sis_guard_whereabouts(SisRun *run, char **missing,
								   const int64 *hits, int nmissing,
								   const char **closed);

/*
 * Of the IDs of schools that were received, the one that comes nearest: equal
 * but for leading zeros, else by edit distance.  NULL when none is near.
 */
extern const char *sis_guard_nearest(const char *id, char **received, int n);

/*
 * SI010 when too many rows of a type were rejected (rule 4).  Links to an end
 * that is leaving do not count: an export that lags behind is no bad export.
 */
extern void sis_guard_rejects(SisRun *run, const SisDelta *delta);

/* SI007 when a type is empty tonight that was not (rule 3). */
extern void sis_guard_empty(SisRun *run);

/* Do the settings let all records of a type go?  (a percent of 100) */
extern bool sis_guard_allows_all(const SisRun *run, SisRecordType type);

/* For hints: the statement that lets a percent of a type go until tomorrow. */
extern char *sis_guard_raise_sql(const SisRun *run, SisRecordType type,
								 const char *percent);

/*
 * SI011 when students or staff seem to have got new IDs (rule 8): a change of
 * IDs must not look like everybody leaving.  Writes the pairs and those that
 * are gone into the log, and returns the error to raise; NULL without one.
 * The delta's stores are registered.
 */
extern SisFailure *sis_guard_rekeyed(SisRun *run, SisDelta *delta);

/*
 * SI012 when more records of a type would be updated than update_threshold
 * allows; returned as of sis_guard_rekeyed(), and nothing may be done then.
 */
extern SisFailure *sis_guard_updates(SisRun *run, const SisDelta *delta);

/* Takes back the planned figures of a run that does nothing of its plan. */
extern void sis_guard_nothing_done(SisRun *run);

/*
 * Drops from the "gone" stores what must stay whatever the threshold says:
 * records of a type that is not offered whole, or has unreadable rejects.
 */
extern void sis_guard_keep(SisRun *run, SisDelta *delta);

/*
 * The threshold (rule 1).  Drops from the "gone" stores what must stay,
 * counts A, N and allowed into run->counts, writes run_school, and on a trip
 * pending_archive.  Returns the error to raise, NULL without a trip.  Where a
 * trip holds back some schools only, run->hold says what, until it is closed.
 * In a window that archives nothing a trip is no error.
 */
extern SisFailure *sis_guard_threshold(SisRun *run, SisDelta *delta);

#endif
