/*
 * explain.c
 *		sis_sync.explain_failure(): a run's end in words, and what to do next.
 *
 * For whoever looks after a district's sync and has never seen this one: what
 * happened, how far it is from the limit, who it is about, what has likely
 * caused it, and the statements to type next.  What is said of each error
 * stands in explain_words.c and explain_words_sql.c, what is known of this run
 * comes from explain_facts.c and its neighbours; this file puts both together.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/spi.h"
#include "base/value.h"
#include "explain.h"
#include "fmgr.h"
#include "utils/builtins.h"

typedef struct Fact
{
	const char *name;
	const char *value;
} Fact;

/* ----------
 * Facts
 * ----------
 */

void
sis_fact(SisExplained *ex, const char *name, const char *value)
{
	Fact	   *fact = palloc(sizeof(Fact));

	fact->name = name;
	fact->value = value;
	ex->facts = lappend(ex->facts, fact);
}

void
sis_fact_if(SisExplained *ex, const char *name, bool is_so)
{
	sis_fact(ex, name, is_so ? "" : NULL);
}

void
sis_fact_count(SisExplained *ex, const char *name, int64 n)
{
	sis_fact(ex, name, n == 0 ? NULL : psprintf("%lld", (long long) n));
}

/* What stands for the mark between the braces; NULL leaves the line out. */
static const char *
value_of(const SisExplained *ex, const char *mark, size_t len)
{
	bool		is_condition = mark[0] == '?' || mark[0] == '!';
	const char *name = is_condition ? mark + 1 : mark;
	size_t		namelen = is_condition ? len - 1 : len;
	ListCell   *lc;

	foreach(lc, ex->facts)
	{
		const Fact *fact = lfirst(lc);

		if (strlen(fact->name) != namelen ||
			strncmp(fact->name, name, namelen) != 0)
			continue;
		if (!is_condition)
			return fact->value;
		return (fact->value != NULL) == (mark[0] == '?') ? "" : NULL;
	}
	elog(ERROR, "there is no fact \"%.*s\"", (int) len, mark);
}

/* ----------
 * Texts with marks
 * ----------
 */

/* What stands for the next @ and the next # at the beginning of a line. */
typedef struct Counters
{
	char		letter;
	int			number;
} Counters;

/* Appends a line with its marks replaced; false when it is left out. */
static bool
append_line(const SisExplained *ex, StringInfo buf, const char *line,
			size_t len, Counters *counters)
{
	const char *end = line + len;
	int			start = buf->len;
	Counters	next = *counters;

	while (line < end)
	{
		const char *close = *line == '{' ? memchr(line, '}', end - line) : NULL;

		if (close != NULL)
		{
			const char *value = value_of(ex, line + 1, close - line - 1);

			if (value == NULL)
			{
				buf->len = start;
				buf->data[start] = '\0';
				return false;
			}
			appendStringInfoString(buf, value);
			line = close + 1;
		}
		else if (*line == '@' && buf->len - start == 2)
		{
			appendStringInfo(buf, "%c.", next.letter++);
			line++;
		}
		else if (*line == '#' && buf->len - start == 2)
		{
			appendStringInfo(buf, "%d.", next.number++);
			line++;
		}
		else
			appendStringInfoChar(buf, *line++);
	}
	appendStringInfoChar(buf, '\n');
	*counters = next;
	return true;
}

/* See explain.h. */
static void
append_words(const SisExplained *ex, StringInfo buf, const char *words)
{
	int			left_out = -1;	/* indentation of a line left out above */
	Counters	counters = {'A', 1};

	while (*words != '\0')
	{
		int			indent = (int) strspn(words, " ");
		size_t		len = strcspn(words, "\n");

		if (left_out < 0 || indent <= left_out)
		{
			if (indent == 0)
				appendStringInfoChar(buf, '\n');
			left_out = append_line(ex, buf, words, len, &counters) ? -1 : indent;
			if (left_out == 0)
				buf->data[--buf->len] = '\0';
		}
		words += len;
		if (*words == '\n')
			words++;
	}
}

/* ----------
 * Which words
 * ----------
 */

static bool
says(const char *message, const char *parts)
{
	if (parts == NULL)
		return true;
	if (message == NULL)
		return false;
	for (;;)
	{
		size_t		len = strcspn(parts, "|");

		if (strstr(message, pnstrdup(parts, len)) != NULL)
			return true;
		if (parts[len] == '\0')
			return false;
		parts += len + 1;
	}
}

static const SisExplanation *
find_words(const SisExplained *ex)
{
	const char *wanted = ex->past.error_code ? ex->past.error_code :
		ex->past.status;
	const SisExplanation *const tables[] = {
		sis_explanations_named, sis_explanations_sql
	};

	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		for (const SisExplanation *words = tables[i]; words->code != NULL; words++)
		{
			if (strncmp(wanted, words->code, strlen(words->code)) == 0 &&
				says(ex->message, words->says))
				return words;
		}
	}
	elog(ERROR, "there are no words for \"%s\"", wanted);
}

/* ----------
 * The whole text
 * ----------
 */

/*
 * The run that has to be looked at instead: one that came after it and wrote,
 * or, for a run that has held nothing back, any.  0: none.
 */
static int64
superseded_by(const SisExplained *ex)
{
	const char *code = ex->past.error_code;

	if (code == NULL && strcmp(ex->past.status, "succeeded") == 0)
		return 0;
	if (ex->past.later != 0)
		return ex->past.later;
	if (code != NULL &&
		(strcmp(code, "SI001") == 0 || strcmp(code, "SI011") == 0) &&
		!ex->run->dry_run)
		return 0;
	return ex->past.newest != ex->run->id ? ex->past.newest : 0;
}

static void
append_title(const SisExplained *ex, StringInfo buf, const SisExplanation *words,
			 const char *started, const char *reason)
{
	appendStringInfo(buf, "Run %lld of sync \"%s\", %s%s%s: ",
					 (long long) ex->run->id, ex->run->sync->name, started,
					 ex->run_by ? ", by " : "",
					 ex->run_by ? sis_one_line(ex->run_by) : "");
	if (ex->past.error_code != NULL)
		appendStringInfo(buf, "failed, %s (%s).\n",
						 reason ? reason : words->title, ex->past.error_code);
	else
		appendStringInfo(buf, "%s.\n",
						 strcmp(ex->past.status, "running") == 0 ?
						 "has not ended" : ex->past.status);
	if (ex->past.undone_by != 0)
		appendStringInfo(buf, "What it did was undone by run %lld.\n",
						 (long long) ex->past.undone_by);
}

/* A line of SI001's detail whose figures explain_records.c shows in order. */
static bool
is_shown_as_figure(const char *line)
{
	size_t		len = strcspn(line, "\n");
	char	   *copy = pnstrdup(line, len);

	return strstr(copy, " would be archived, ") != NULL ||
		strcmp(copy, "Nothing was archived.") == 0;
}

static void
append_message(const SisExplained *ex, StringInfo buf)
{
	if (ex->message != NULL)
		appendStringInfo(buf, "  The error was: %s.\n", sis_one_line(ex->message));
	for (const char *line = ex->detail; line != NULL && *line != '\0';)
	{
		int			len = (int) strcspn(line, "\n");

		if (strcmp(ex->past.error_code, "SI001") != 0 ||
			!is_shown_as_figure(line))
			appendStringInfo(buf, "    %.*s\n", len, line);
		line += len + (line[len] == '\n' ? 1 : 0);
	}
}

/* A run that is not the last word: what came of it. */
static void
append_superseded(const SisExplained *ex, StringInfo buf, int64 by)
{
	SisParams	params = {0};
	int64		archived;

	sis_param_text(&params, ex->run->sync->name);
	sis_param_int8(&params, ex->run->id);
	sis_param_int8(&params, by);
	sis_exec_as_owner("SELECT (SELECT coalesce(sum(c.archived), 0)::int8 FROM sis_sync.run r "
					  "JOIN sis_sync.run_count c ON c.run_id = r.id "
					  "WHERE r.sync = $1 AND r.id > $2 AND NOT r.dry_run AND r.phase IN ('applied', 'archive', 'done')), "
					  "(SELECT CASE WHEN r.dry_run THEN '(a dry run) ' ELSE '' END || CASE r.status WHEN 'running' THEN 'has not ended' WHEN 'failed' THEN "
					  "'ended in ' || coalesce(r.reason || ' (' || r.error_code || ')', r.error_code) ELSE r.status END "
					  "FROM sis_sync.run r WHERE r.id = $3)",
					  &params, SPI_OK_SELECT);
	archived = sis_value_int8(0, 1);
	appendStringInfo(buf, "It is not the last word: run %lld came after it and %s.",
					 (long long) by, sis_value(0, 2));
	if (archived > 0)
		appendStringInfo(buf, " Runs that came after it have archived %lld record%s.",
						 (long long) archived, archived == 1 ? "" : "s");
	appendStringInfoChar(buf, '\n');
}

static char *
explain(int64 run_id)
{
	SisExplained ex = {0};
	SisParams	params = {0};
	const SisExplanation *words;
	StringInfoData buf;
	char	   *started;
	char	   *reason;
	int64		by;

	ex.run = sis_runlog_read(run_id, &ex.past);
	sis_runlog_check_reader(ex.run);
	sis_param_int8(&params, run_id);
	sis_exec_as_owner("SELECT to_char(started_at, 'YYYY-MM-DD HH24:MI TZ'), reason, run_by, message, detail, hint "
					  "FROM sis_sync.run WHERE id = $1",
					  &params, SPI_OK_SELECT);
	started = sis_value(0, 1);
	reason = sis_value(0, 2);
	ex.run_by = sis_value(0, 3);
	ex.message = sis_value(0, 4);
	ex.detail = sis_value(0, 5);
	ex.hint = sis_value(0, 6);
	words = find_words(&ex);
	by = superseded_by(&ex);
	sis_facts_common(&ex);
	if (words->facts != NULL)
		words->facts(&ex);

	initStringInfo(&buf);
	append_title(&ex, &buf, words, started, reason);
	if (by != 0)
		append_superseded(&ex, &buf, by);
	append_words(&ex, &buf, "WHAT HAPPENED\n"
				 "  {?dry}It was a dry run: it has changed nothing, and shows what a real one would come to.");
	append_words(&ex, &buf, words->what);
	append_message(&ex, &buf);
	append_words(&ex, &buf, "  {approval}\n  Note: {note}");
	if (words->figures != NULL)
		append_words(&ex, &buf, words->figures);
	if (by != 0)
	{
		append_words(&ex, &buf, "WHAT TO DO NEXT");
		appendStringInfo(&buf, "  Nothing about this run. Have the later one explained:\n"
						 "    SELECT sis_sync.explain_failure(%lld);\n", (long long) by);
		return buf.data;
	}
	if (words->cause != NULL)
	{
		append_words(&ex, &buf, "WHAT LIKELY CAUSED IT");
		append_words(&ex, &buf, words->cause);
	}
	append_words(&ex, &buf, "WHAT TO DO NEXT");
	append_words(&ex, &buf, ex.run->dry_run && words->next_dry != NULL ?
				 words->next_dry : words->next);
	if (ex.past.error_code != NULL)
		append_words(&ex, &buf, "  {!approved}If unsure, do nothing yet: as long as runs end like this, nobody is archived.\n"
					 "  {?approved}If unsure, withdraw the approval: the next run, also one by a schedule, archives these records.");
	return buf.data;
}

SIS_FUNCTION(sis_explain_failure);
Datum
sis_explain_failure(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	text	   *result;
	char	   *words;
	MemoryContext old;

	sis_connect(0);
	words = explain(PG_GETARG_INT64(0));
	/* people read this on terminals; what errors quote is anybody's */
	sis_hide_controls(words, (int) strlen(words), true);
	old = MemoryContextSwitchTo(cxt);
	result = cstring_to_text(words);
	MemoryContextSwitchTo(old);
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}
