/*
 * whereabouts.c
 *		Where the students of a school that is missing are tonight (SI003).
 */
#include "postgres.h"

#include "base/spi.h"
#include "base/value.h"
#include "guard.h"
#include "slot.h"
#include "utils/builtins.h"

/* So many other schools are named; of more, only how many. */
#define MAX_NAMED	5

static char *
number_of(int64 n, const char *noun)
{
	return psprintf("%lld %s%s", (long long) n, noun, n == 1 ? "" : "s");
}

/*
 * One row for each other school that students of the missing one are at
 * tonight, most first, with numbers of all of them: the school's ID, its
 * students, all students, those not in the data, those of no other school.
 * A student at two of them counts in both.
 */
static uint64
find_students(SisRun *run, const char *school)
{
	SisParams	params = {0};

	sis_param_int8(&params, run->id);
	sis_param_int8(&params, run->sync->id);
	sis_param_text(&params, school);
	return sis_exec_on_roster(psprintf(
									   "WITH missing AS (SELECT x.source_id FROM (SELECT t.source_id, "
									   "rank() OVER (ORDER BY (t.sis_id = btrim($3)) IS TRUE DESC) AS rank FROM %s t "
									   "WHERE t.sync_id = $2 AND t.archived_at IS NULL "
									   "AND (t.sis_id = btrim($3) OR t.source_id = btrim($3))) x WHERE x.rank = 1), "
									   "student AS (SELECT t.source_id FROM %s t, missing m WHERE t.sync_id = $2 "
									   "AND t.sis_managed AND t.archived_at IS NULL "
									   "AND (t.school_source_id = m.source_id OR m.source_id = ANY (t.school_source_ids))), "
									   "tonight AS (SELECT t.source_id, s.source_id AS staged, "
									   "array_remove(array_append(s.school_source_ids::text[], s.school_source_id), (SELECT source_id FROM missing LIMIT 1)) AS schools "
									   "FROM student t LEFT JOIN %s s ON s.source_id = t.source_id AND s.run_id = $1 AND s.status = 'active'), "
									   "placed AS (SELECT DISTINCT n.source_id, u.school FROM tonight n, unnest(n.schools) AS u (school) WHERE u.school IS NOT NULL), "
									   "total AS (SELECT count(*) AS students, count(*) FILTER (WHERE staged IS NULL) AS absent, "
									   "count(*) FILTER (WHERE staged IS NOT NULL AND source_id NOT IN (SELECT source_id FROM placed)) AS still FROM tonight) "
									   "SELECT coalesce((SELECT min(c.sis_id) FROM %s c WHERE c.run_id = $1 AND c.status = 'active' AND c.source_id = p.school), p.school), "
									   "p.n, t.students, t.absent, t.still FROM total t "
									   "LEFT JOIN (SELECT school, count(*) AS n FROM placed GROUP BY school) p ON true "
									   "WHERE t.students > 0 ORDER BY p.n DESC, p.school",
									   run->roster->tables[SIS_SCHOOL],
									   run->roster->tables[SIS_STUDENT],
									   sis_stage_leaf(SIS_STUDENT, run->slot),
									   sis_stage_leaf(SIS_SCHOOL, run->slot)),
							  &params);
}

char *
sis_guard_whereabouts(SisRun *run, char **missing, const int64 *hits,
					  int nmissing, const char **closed)
{
	StringInfoData text;

	*closed = NULL;
	initStringInfo(&text);
	for (int i = 0; i < nmissing; i++)
	{
		uint64		n = hits[i] == 0 ? find_students(run, missing[i]) : 0;
		int64		still;

		if (n == 0)
			continue;
		still = sis_value_int8(0, 5);
		/* nobody has moved: it is there, under another ID */
		if (still == sis_value_int8(0, 3))
			continue;
		if (still == 0 && *closed == NULL)
			*closed = missing[i];
		appendStringInfo(&text, " Of the %s of \"%s\"",
						 number_of(sis_value_int8(0, 3), "student"),
						 sis_printable(missing[i]));
		for (uint64 row = 0; row < n && sis_value(row, 1) != NULL; row++)
		{
			if (row == MAX_NAMED)
			{
				appendStringInfo(&text, ", some are at %s",
								 number_of((int64) (n - row), "other school"));
				break;
			}
			appendStringInfo(&text, ", %lld are now at school \"%s\"",
							 (long long) sis_value_int8(row, 2),
							 sis_printable(sis_value(row, 1)));
		}
		if (sis_value_int8(0, 4) > 0)
			appendStringInfo(&text, ", %lld are not in the data",
							 (long long) sis_value_int8(0, 4));
		if (still > 0)
			appendStringInfo(&text, ", %lld are still said to be there",
							 (long long) still);
		appendStringInfoChar(&text, '.');
	}
	return text.data;
}
