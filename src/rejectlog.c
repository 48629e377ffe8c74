/*
 * rejectlog.c
 *		Rows that were not taken, and notes, into sis_sync.reject in groups.
 */
#include "postgres.h"

#include "base/spi.h"
#include "catalog/pg_type.h"
#include "rejectlog.h"
#include "utils/array.h"
#include "utils/memutils.h"

#define GROUP_SIZE	500

struct SisRejectLog
{
	int64		run_id;
	MemoryContext cxt;			/* of the group; reset when it is written */
	SisLoggedReject rejects[GROUP_SIZE];
	int			n;
};

SisRejectLog *
sis_rejectlog_create(int64 run_id)
{
	SisRejectLog *log = palloc0(sizeof(SisRejectLog));

	log->run_id = run_id;
	log->cxt = AllocSetContextCreate(CurrentMemoryContext, "sis_sync rejects",
									 ALLOCSET_DEFAULT_SIZES);
	return log;
}

static const char *
copy(const char *text)
{
	return text == NULL ? NULL : pstrdup(text);
}

void
sis_rejectlog_add(SisRejectLog *log, const SisLoggedReject *reject)
{
	MemoryContext old = MemoryContextSwitchTo(log->cxt);
	SisLoggedReject *mine = &log->rejects[log->n++];

	*mine = *reject;
	mine->record_type = copy(reject->record_type);
	mine->source = copy(reject->source);
	mine->source_id = reject->source_id == NULL ? NULL :
		pnstrdup(reject->source_id, reject->source_id_len);
	mine->column = copy(reject->column);
	mine->reason = copy(reject->reason);
	mine->row = copy(reject->row);
	MemoryContextSwitchTo(old);
	if (log->n == GROUP_SIZE)
		sis_rejectlog_flush(log);
}

void
sis_rejectlog_flush(SisRejectLog *log)
{
	MemoryContext old;
	SisParams	params = {0};
	const char *columns[6][GROUP_SIZE];
	int64		lines[GROUP_SIZE];
	Datum		loaded[GROUP_SIZE];

	if (log->n == 0)
		return;
	old = MemoryContextSwitchTo(log->cxt);
	for (int i = 0; i < log->n; i++)
	{
		const SisLoggedReject *reject = &log->rejects[i];

		columns[0][i] = reject->record_type;
		columns[1][i] = reject->source;
		columns[2][i] = reject->source_id;
		columns[3][i] = reject->column;
		columns[4][i] = reject->reason;
		columns[5][i] = reject->row;
		lines[i] = reject->line;
		loaded[i] = BoolGetDatum(reject->loaded);
	}
	sis_param_int8(&params, log->run_id);
	for (int c = 0; c < 6; c++)
		sis_param_text_array(&params, (char **) columns[c], log->n);
	sis_param_int8_array(&params, lines, log->n);
	sis_param(&params, BOOLARRAYOID,
			  PointerGetDatum(construct_array(loaded, log->n, BOOLOID, 1, true,
											  TYPALIGN_CHAR)), false);
	sis_exec_as_owner("INSERT INTO sis_sync.reject (run_id, record_type, source, source_id, "
					  "column_name, reason, \"row\", line, loaded) "
					  "SELECT $1, u.t, u.s, u.i, u.c, u.r, u.w::jsonb, u.l, u.o "
					  "FROM unnest($2, $3, $4, $5, $6, $7, $8, $9) AS u (t, s, i, c, r, w, l, o)",
					  &params, SPI_OK_INSERT);
	MemoryContextSwitchTo(old);
	MemoryContextReset(log->cxt);
	log->n = 0;
}
