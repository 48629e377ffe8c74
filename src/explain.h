/*
 * explain.h
 *		What the parts of sis_sync.explain_failure() share: the run that is
 *		explained, the facts about it, and the words for each kind of end.
 *
 * The words are written down once, in explain_words*.c, as texts with marks;
 * the facts are what stands for a mark in the case of this run.
 */
#ifndef SIS_EXPLAIN_H
#define SIS_EXPLAIN_H

#include "lib/stringinfo.h"
#include "runlog.h"

/* So many records of a type, schools, reasons … are shown. */
#define SIS_EXPLAIN_SAMPLES	5

typedef struct SisExplained
{
	SisRun	   *run;
	SisPastRun	past;
	char	   *run_by;			/* role, or NULL where it is not known */
	char	   *message;		/* or NULL, as the next two */
	char	   *detail;
	char	   *hint;
	List	   *facts;
} SisExplained;

/*
 * One way in which a run can end.
 *
 * In the texts {name} stands for a fact's value.  A line with a fact that is
 * not the case of this run is left out, with the deeper indented lines below
 * it; {?name} and {!name} stand for nothing and leave the line out where the
 * fact is not, or is, the case.  A line that begins in the first column is a
 * heading; an @ becomes A., B., …, the ways of which one is to be taken, and a #
 * 1., 2., …, the steps of which all are.  A line of four spaces and a semicolon at its end is a statement; one that must
 * not run as it stands has a word such as <NEW TOKEN> in it.
 */
typedef struct SisExplanation
{
	const char *code;			/* SQLSTATE, or the first two signs of a class,
								 * or a status of sis_sync.run */
	const char *says;			/* parts of the error's message, separated by
								 * "|", one of which it has; NULL: any message */
	const char *title;			/* where run.reason has none */
	void		(*facts) (SisExplained *ex);	/* or NULL */
	const char *what;
	const char *figures;		/* with headings; or NULL */
	const char *cause;			/* or NULL */
	const char *next;
	const char *next_dry;		/* after a dry run; NULL: the same */
} SisExplanation;

/* explain_words.c: the named errors, and how a run ends without one */
extern const SisExplanation sis_explanations_named[];

/* explain_words_sql.c: PostgreSQL's own errors; the last fits any code */
extern const SisExplanation sis_explanations_sql[];

/*
 * A fact: value NULL when it is not the case, "" when it is and has no value.
 * Every fact that a text names has to be set, one way or the other.
 */
extern void sis_fact(SisExplained *ex, const char *name, const char *value);
extern void sis_fact_if(SisExplained *ex, const char *name, bool is_so);
extern void sis_fact_count(SisExplained *ex, const char *name, int64 n);	/* 0: NULL */

/* explain_facts.c: of the run and its sync (for every text), … */
extern void sis_facts_common(SisExplained *ex);
extern void sis_facts_source(SisExplained *ex); /* the server's options */
extern void sis_facts_secrets(SisExplained *ex);	/* and the mapping's */
extern void sis_facts_district(SisExplained *ex);
extern void sis_facts_session(SisExplained *ex);	/* who runs it, how long */
extern void sis_facts_error(SisExplained *ex);	/* what the message names */

/* … explain_records.c: and of the records it is about */
extern void sis_facts_threshold(SisExplained *ex);
extern void sis_facts_rekeyed(SisExplained *ex);
extern void sis_facts_rejects(SisExplained *ex);
extern void sis_facts_counts(SisExplained *ex);
extern bool sis_may_read_roster(const SisSync *sync);

/* … explain_schools.c: and of its schools */
extern void sis_facts_schools(SisExplained *ex);

#endif
