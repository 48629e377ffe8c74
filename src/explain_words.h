/*
 * explain_words.h
 *		Sentences and statements that many explanations have.
 */
#ifndef SIS_EXPLAIN_WORDS_H
#define SIS_EXPLAIN_WORDS_H

#define RUN_AGAIN "    CALL sis_sync.run({sync});\n"

/* A run's number is not known before it: the newest is meant. */
#define EXPLAIN_IT \
	"    SELECT sis_sync.explain_failure(max(id)) FROM sis_sync.run WHERE sync = {sync};\n"

/* First look at what would happen. */
#define TRY_FIRST \
	"     It counts from now on, in scheduled runs too. See at once what it would do:\n" \
	"    CALL sis_sync.run({sync}, dry_run => true);\n" \
	EXPLAIN_IT \
	"     Only if it ends well, and with the counts that you expect (else put back what it was):\n" \
	RUN_AGAIN

#define UNCHANGED "  {unchanged} "

/* Where a statement has a word in angle brackets. */
#define IN_QUOTES "(in place of <...> write the value, in single quotes)"

#endif
