/*
 * error.h
 *		The named errors (design, section 5): SQLSTATE, condition name, reason.
 */
#ifndef SIS_ERROR_H
#define SIS_ERROR_H

#include "utils/elog.h"

typedef enum SisErrorCode
{
	SIS_OK,
	SIS_ERR_THRESHOLD,			/* SI001 */
	SIS_ERR_CREDENTIALS,		/* SI002 */
	SIS_ERR_SCHOOLS_NOT_FOUND,	/* SI003 */
	SIS_ERR_UNAVAILABLE,		/* SI004 */
	SIS_ERR_RATE_LIMITED,		/* SI005 */
	SIS_ERR_MALFORMED,			/* SI006 */
	SIS_ERR_INCOMPLETE,			/* SI007 */
	SIS_ERR_IN_PROGRESS,		/* SI008 */
	SIS_ERR_NOT_CONFIGURED,		/* SI009 */
	SIS_ERR_REJECTS,			/* SI010 */
	SIS_ERR_REKEYED,			/* SI011 */
	SIS_ERR_UPDATES				/* SI012 */
} SisErrorCode;

/*
 * A failure whose cause lies in the source.  It is written down, not thrown,
 * so that what has been staged so far survives for somebody to look at; run.c
 * throws it at a place of its choosing.  Strings live in the context that was
 * current when sis_fail() was called.  No secret and no personal value may
 * stand in any of them: file, line, column and ID only.
 */
typedef struct SisFailure
{
	SisErrorCode code;			/* SIS_OK: none yet */
	const char *record_type;	/* or NULL */
	const char *message;		/* primary, as PostgreSQL writes them */
	const char *detail;			/* or NULL */
	const char *hint;			/* or NULL */
} SisFailure;

/*
 * Writes down a failure unless there is one already (the first one is the
 * cause).  Always returns false, so that "return sis_fail(…)" reads well.
 * record_type, detail and hint may be NULL; detail and hint are taken as they
 * are (psprintf them), message is a format.
 */
extern bool sis_fail(SisFailure *failure, SisErrorCode code,
					 const char *record_type,
					 const char *detail, const char *hint,
					 const char *message,...) pg_attribute_printf(6, 7);

/* Raises a failure as an ERROR with SQLSTATE, constraint and table name. */
extern void sis_throw(const SisFailure *failure);

/* Copies a failure's texts into the current memory context. */
extern void sis_failure_keep(SisFailure *failure);

/* For use inside ereport(): errcode plus the condition name as constraint. */
extern int	sis_errcode(SisErrorCode code);

extern int	sis_error_sqlstate(SisErrorCode code);

/*
 * What stands in run.reason for an SQLSTATE: "Threshold" for SI001, …; NULL
 * for a code that is not ours.
 */
extern const char *sis_error_reason(int sqlerrcode);

#endif
