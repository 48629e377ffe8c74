/*
 * explain_words.h
 *		What is to be said of each way in which a run can end.
 */
#ifndef SIS_EXPLAIN_WORDS_H
#define SIS_EXPLAIN_WORDS_H

/* Which figures go with the words. */
typedef enum SisFigures
{
	SIS_FIGURES_NONE,
	SIS_FIGURES_LIMITS,			/* the threshold, and who would go */
	SIS_FIGURES_PAIRS,			/* old and new IDs */
	SIS_FIGURES_REJECTS,
	SIS_FIGURES_SCHOOLS,		/* those that came */
	SIS_FIGURES_COUNTS			/* what was done */
} SisFigures;

/*
 * In the texts {run}, {sync}, {server} and {roster} stand for the run's number
 * and for the names as SQL writes them, {server_literal} and {roster_literal}
 * for a name within a string; a line of four spaces and a semicolon at its end
 * is a statement.
 */
typedef struct SisExplanation
{
	const char *code;			/* SQLSTATE, or the first two signs of a class,
								 * or a status of sis_sync.run */
	const char *title;			/* where run.reason has none */
	SisFigures	figures;
	bool		shows_hint;		/* the error's own hint says more */
	const char *what;
	const char *cause;			/* or NULL */
	const char *next;
} SisExplanation;

/* By the error's code (NULL: none), else by the run's status. */
extern const SisExplanation *sis_explanation_of(const char *status,
												const char *error_code);

#endif
