/*
 * error.c
 *		The named errors (design, section 5), in one table.
 */
#include "postgres.h"

#include "base/error.h"
#include "lib/stringinfo.h"
#include "utils/errcodes.h"

typedef struct NamedError
{
	int			sqlerrcode;
	const char *condition;
	const char *reason;
} NamedError;

static const NamedError named_errors[] = {
	[SIS_ERR_THRESHOLD] = {MAKE_SQLSTATE('S', 'I', '0', '0', '1'),
	"deletion_threshold_reached", "Threshold"},
	[SIS_ERR_CREDENTIALS] = {MAKE_SQLSTATE('S', 'I', '0', '0', '2'),
	"wrong_credentials", "Wrong Credentials"},
	[SIS_ERR_SCHOOLS_NOT_FOUND] = {MAKE_SQLSTATE('S', 'I', '0', '0', '3'),
	"schools_not_found", "Schools to Sync Are Not Found"},
	[SIS_ERR_UNAVAILABLE] = {MAKE_SQLSTATE('S', 'I', '0', '0', '4'),
	"source_unavailable", "Source Unavailable"},
	[SIS_ERR_RATE_LIMITED] = {MAKE_SQLSTATE('S', 'I', '0', '0', '5'),
	"rate_limited", "Rate Limited"},
	[SIS_ERR_MALFORMED] = {MAKE_SQLSTATE('S', 'I', '0', '0', '6'),
	"malformed_data", "Malformed Data"},
	[SIS_ERR_INCOMPLETE] = {MAKE_SQLSTATE('S', 'I', '0', '0', '7'),
	"incomplete_data", "Incomplete Data"},
	[SIS_ERR_IN_PROGRESS] = {MAKE_SQLSTATE('S', 'I', '0', '0', '8'),
	"sync_in_progress", "Sync In Progress"},
	[SIS_ERR_NOT_CONFIGURED] = {MAKE_SQLSTATE('S', 'I', '0', '0', '9'),
	"sync_not_configured", "Not Configured"},
	[SIS_ERR_REJECTS] = {MAKE_SQLSTATE('S', 'I', '0', '1', '0'),
	"too_many_rejects", "Too Many Rejects"},
	[SIS_ERR_REKEYED] = {MAKE_SQLSTATE('S', 'I', '0', '1', '1'),
	"ids_rekeyed", "IDs Re-keyed"},
	[SIS_ERR_UPDATES] = {MAKE_SQLSTATE('S', 'I', '0', '1', '2'),
	"update_threshold_reached", "Update Threshold"}
};

bool
sis_fail(SisFailure *failure, SisErrorCode code, const char *record_type,
		 const char *detail, const char *hint, const char *message,...)
{
	StringInfoData buf;

	if (failure->code != SIS_OK)
		return false;

	initStringInfo(&buf);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, message);
		needed = appendStringInfoVA(&buf, message, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	failure->code = code;
	failure->record_type = record_type;
	failure->message = buf.data;
	failure->detail = detail;
	failure->hint = hint;
	return false;
}

void
sis_throw(const SisFailure *failure)
{
	ereport(ERROR,
			(sis_errcode(failure->code),
			 errmsg_internal("%s", failure->message),
			 failure->detail ? errdetail_internal("%s", failure->detail) : 0,
			 failure->hint ? errhint("%s", failure->hint) : 0,
			 failure->record_type ?
			 err_generic_string(PG_DIAG_TABLE_NAME, failure->record_type) : 0));
}

void
sis_failure_keep(SisFailure *failure)
{
	failure->message = pstrdup(failure->message);
	failure->detail = failure->detail ? pstrdup(failure->detail) : NULL;
	failure->hint = failure->hint ? pstrdup(failure->hint) : NULL;
}

int
sis_errcode(SisErrorCode code)
{
	errcode(named_errors[code].sqlerrcode);
	return err_generic_string(PG_DIAG_CONSTRAINT_NAME,
							  named_errors[code].condition);
}

int
sis_error_sqlstate(SisErrorCode code)
{
	return named_errors[code].sqlerrcode;
}

const char *
sis_error_reason(int sqlerrcode)
{
	for (int i = SIS_ERR_THRESHOLD; i < (int) lengthof(named_errors); i++)
	{
		if (named_errors[i].sqlerrcode == sqlerrcode)
			return named_errors[i].reason;
	}
	return NULL;
}
