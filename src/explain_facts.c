/*
 * explain_facts.c
 *		What is known of a run, its sync, its source and its session, for the
 *		words of sis_sync.explain_failure().
 */
#include "postgres.h"

#include "base/spi.h"
#include "base/value.h"
#include "commands/defrem.h"
#include "explain.h"
#include "foreign/foreign.h"
#include "slot.h"
#include "utils/builtins.h"

/* ----------
 * Of every run
 * ----------
 */

/* "3 created, 4 updated"; NULL when there is none of all that. */
static char *
what_was_taken(const SisRun *run)
{
	int64		created = 0,
				updated = 0,
				restored = 0;
	StringInfoData buf;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
	{
		created += run->counts[t].created;
		updated += run->counts[t].updated;
		restored += run->counts[t].restored;
	}
	if (created + updated + restored == 0)
		return NULL;
	initStringInfo(&buf);
	appendStringInfo(&buf, "%lld created, %lld updated", (long long) created,
					 (long long) updated);
	if (restored > 0)
		appendStringInfo(&buf, ", %lld restored", (long long) restored);
	return buf.data;
}

static int64
count_archived(const SisRun *run)
{
	int64		archived = 0;

	for (int t = 0; t < SIS_N_RECORD_TYPES; t++)
		archived += run->counts[t].archived;
	return archived;
}

/* Whether, by whom and until when the run's held records were approved. */
static void
facts_approval(SisExplained *ex)
{
	SisParams	params = {0};
	bool		known,
				lapsed,
				spent;
	char	   *state;

	sis_param_int8(&params, ex->run->id);
	known = sis_exec_as_owner("SELECT approved_by, reason, spent_run, expires_at <= now(), "
							  "to_char(expires_at, 'FMDD Mon YYYY HH24:MI TZ') FROM sis_sync.approval WHERE run_id = $1",
							  &params, SPI_OK_SELECT) > 0;
	spent = known && sis_value(0, 3) != NULL;
	lapsed = known && !spent && sis_value_bool(0, 4);
	sis_fact_if(ex, "approvable", !known);
	sis_fact_if(ex, "approved", known && !spent && !lapsed);
	sis_fact_if(ex, "lapsed", lapsed);
	if (!known)
	{
		sis_fact(ex, "approval", NULL);
		return;
	}
	if (spent)
		state = psprintf(", and run %s has used that.", sis_value(0, 3));
	else if (lapsed)
		state = psprintf(", but that lapsed on %s.", sis_value(0, 5));
	else
		state = psprintf("; the next run uses that, until %s.", sis_value(0, 5));
	sis_fact(ex, "approval",
			 psprintf("It was approved by %s (%s)%s",
					  sis_one_line(sis_value(0, 1)),
					  sis_one_line(sis_value(0, 2)), state));
}

/* The hint, unless it names the sync as it was called before. */
static const char *
hint_of(const SisExplained *ex)
{
	char	   *name = quote_literal_cstr(ex->run->sync->name);

	if (ex->hint == NULL ||
		(strstr(ex->hint, "sync = '") != NULL && strstr(ex->hint, name) == NULL))
		return NULL;
	return sis_one_line(ex->hint);
}

void
sis_facts_common(SisExplained *ex)
{
	const SisRun *run = ex->run;
	const SisSync *sync = run->sync;
	const char *phase = ex->past.phase;
	bool		written = !run->dry_run &&
		(strcmp(phase, "applied") == 0 || strcmp(phase, "archive") == 0 ||
		 strcmp(phase, "done") == 0);
	char	   *taken = written ? what_was_taken(run) : NULL;
	/* no statement to be pasted is of two lines because of a name */
	bool		names_role = ex->run_by != NULL &&
		strcmp(sis_one_line(ex->run_by), ex->run_by) == 0;
	SisParams	params = {0};

	sis_fact(ex, "run", psprintf("%lld", (long long) run->id));
	sis_fact(ex, "sync", quote_literal_cstr(sync->name));
	sis_fact(ex, "server", quote_identifier(sync->server));
	sis_fact(ex, "server_literal", quote_literal_cstr(sync->server));
	sis_fact(ex, "roster", quote_identifier(sync->target_schema));
	sis_fact(ex, "roster_literal", quote_literal_cstr(sync->target_schema));
	sis_fact(ex, "role", names_role ? quote_identifier(ex->run_by) : "<ROLE>");
	sis_fact(ex, "role_literal",
			 names_role ? quote_literal_cstr(ex->run_by) : "<ROLE>");
	sis_fact_if(ex, "dry", run->dry_run);
	sis_fact_if(ex, "restores", sync->restore_returning);
	sis_fact(ex, "taken", taken);
	sis_fact_count(ex, "archived", written ? count_archived(run) : 0);
	sis_fact(ex, "unchanged", !written ? "Nothing was changed." :
			 psprintf("By then it had written: %s, %lld archived.",
					  taken ? taken : "0 created, 0 updated",
					  (long long) count_archived(run)));
	sis_fact(ex, "note", run->note.len > 0 ? sis_one_line(run->note.data) : NULL);
	sis_fact(ex, "hint", hint_of(ex));

	sis_param_text(&params, sync->name);
	sis_exec_as_owner("SELECT trim_scale(deletion_threshold)::text, trim_scale(reject_threshold)::text, trim_scale(update_threshold)::text "
					  "FROM sis_sync.sync WHERE name = $1",
					  &params, SPI_OK_SELECT);
	sis_fact(ex, "deletion_threshold", sis_value(0, 1));
	sis_fact(ex, "update_threshold", sis_value(0, 3));
	sis_fact(ex, "reject_threshold", sis_value(0, 2));
	facts_approval(ex);
}

/* ----------
 * Of the source
 * ----------
 */

static const char *
option_of(const ForeignServer *server, const char *name)
{
	ListCell   *lc;

	foreach(lc, server->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

/* Where what was sent lies. */
static const char *
place_of(const ForeignServer *server, const char *wrapper)
{
	const char *path = option_of(server, "path");
	const char *host = option_of(server, "host");
	const char *url = option_of(server, "base_url");

	if (path != NULL && host != NULL)
		return psprintf("\"%s\" on host \"%s\"", sis_one_line(path),
						sis_one_line(host));
	if (path != NULL && strcmp(wrapper, "sis_directory") == 0)
		return psprintf("\"%s\" on the database server's machine",
						sis_one_line(path));
	if (url != NULL)
		return psprintf("the service at \"%s\"", sis_one_line(url));
	return psprintf("what server \"%s\" names", server->servername);
}

/*
 * For each option {set_NAME}, SET or ADD, as ALTER SERVER needs it, and
 * {now_NAME}, its present value in words; and the kind of source.
 */
void
sis_facts_source(SisExplained *ex)
{
	static const char *const names[] = {
		"path", "host", "base_url", "token_url", "ca_file", "encoding",
		"district_id", "timeout", "max_connections", "layout"
	};
	static const char *const kinds[] = {
		"sis_directory", "sis_sftp", "sis_clever", "sis_oneroster",
		"sis_classlink"
	};
	ForeignServer *server = GetForeignServerByName(ex->run->sync->server, true);
	const char *wrapper = server == NULL ? "" :
		GetForeignDataWrapper(server->fdwid)->fdwname;

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		const char *value = server ? option_of(server, names[i]) : NULL;

		sis_fact(ex, psprintf("set_%s", names[i]), value ? "SET" : "ADD");
		sis_fact(ex, psprintf("now_%s", names[i]),
				 value ? psprintf("now \"%s\"", sis_printable(value)) : "none is set now");
	}
	for (int i = 0; i < (int) lengthof(kinds); i++)
		sis_fact_if(ex, kinds[i] + strlen("sis_"),
					strcmp(wrapper, kinds[i]) == 0);
	sis_fact_if(ex, "files", strcmp(wrapper, "sis_directory") == 0 ||
				strcmp(wrapper, "sis_sftp") == 0);
	sis_fact_if(ex, "rest", strcmp(wrapper, "sis_clever") == 0 ||
				strcmp(wrapper, "sis_oneroster") == 0 ||
				strcmp(wrapper, "sis_classlink") == 0);
	sis_fact(ex, "place", server ? place_of(server, wrapper) :
			 psprintf("server \"%s\"", ex->run->sync->server));
	sis_facts_error(ex);
}

/*
 * Which secrets there are to be entered anew.  The names of those that the
 * mapping has are shown to those who see its options; to others, those that a
 * mapping of this kind can have.
 */
void
sis_facts_secrets(SisExplained *ex)
{
	static const struct
	{
		const char *name;
		const char *wrappers;	/* separated by a space */
	}			secrets[] = {
		{"password", "sis_sftp"},
		{"private_key", "sis_sftp"},
		{"token", "sis_clever sis_oneroster sis_classlink"},
		{"client_secret", "sis_clever sis_oneroster sis_classlink"}
	};
	SisParams	params = {0};
	const char *mapping = "PUBLIC";
	const char *wrapper = "";
	char	   *has = NULL;
	ForeignServer *server = GetForeignServerByName(ex->run->sync->server, true);

	sis_facts_source(ex);
	if (server != NULL)
		wrapper = GetForeignDataWrapper(server->fdwid)->fdwname;
	sis_param_text(&params, ex->run->sync->server);
	sis_param_text(&params, ex->run_by);
	if (sis_exec_on_roster("SELECT CASE m.umuser WHEN 0 THEN 'PUBLIC' ELSE quote_ident(m.usename) END, "
						   "(SELECT string_agg(split_part(o.option, '=', 1), ' ') FROM unnest(m.umoptions) AS o (option)) "
						   "FROM pg_catalog.pg_user_mappings m WHERE m.srvname = $1 AND (m.umuser = 0 OR m.usename = $2) "
						   "ORDER BY m.umuser = 0 LIMIT 1", &params) > 0)
	{
		mapping = sis_value(0, 1);
		has = sis_value(0, 2);
	}
	sis_fact(ex, "mapping", mapping);
	for (int i = 0; i < (int) lengthof(secrets); i++)
		sis_fact_if(ex, secrets[i].name,
					strstr(secrets[i].wrappers, wrapper) != NULL && wrapper[0] != '\0' &&
					(has == NULL || strstr(psprintf(" %s ", has),
										   psprintf(" %s ", secrets[i].name)) != NULL));
	sis_fact_if(ex, "mapping_is_hidden", has == NULL);
}

void
sis_facts_district(SisExplained *ex)
{
	SisParams	params = {0};
	char	   *known = NULL;

	sis_facts_source(ex);
	sis_param_text(&params, ex->run->sync->name);
	if (sis_exec_as_owner("SELECT district_id FROM sis_sync.sync_state WHERE sync = $1",
						  &params, SPI_OK_SELECT) > 0)
		known = sis_value(0, 1);
	sis_fact(ex, "district_known", known ? psprintf("\"%s\"", sis_printable(known)) :
			 "the known district");
	sis_fact(ex, "district_found", ex->run->district_id ?
			 psprintf("\"%s\"", sis_printable(ex->run->district_id)) :
			 "the one that answered");
}

/* ----------
 * Of its session
 * ----------
 */

void
sis_facts_session(SisExplained *ex)
{
	SisParams	params = {0};
	int			pid = sis_sync_lock_holder(ex->run->sync->id);
	char	   *last_took;
	bool		found;

	sis_fact_count(ex, "pid", pid);
	sis_param_text(&params, ex->run->sync->name);
	sis_param_int8(&params, ex->run->id);
	found = sis_exec_as_owner("SELECT CASE WHEN finished_at - started_at < '1 second' THEN 'less than a second' ELSE date_trunc('second', finished_at - started_at)::text END FROM sis_sync.run "
							  "WHERE sync = $1 AND status = 'succeeded' AND kind = 'sync' AND id <> $2 ORDER BY id DESC LIMIT 1",
							  &params, SPI_OK_SELECT) > 0;
	last_took = found ? sis_value(0, 1) : NULL;
	sis_fact(ex, "last_took", last_took);
	sis_fact(ex, "usual", found ?
			 psprintf(" (the last one that went well took %s)", last_took) : "");
	sis_exec_as_owner("SELECT date_trunc('second', coalesce(finished_at, clock_timestamp()) - started_at)::text FROM sis_sync.run WHERE id = $2",
					  &params, SPI_OK_SELECT);
	sis_fact(ex, "took", sis_value(0, 1));
}

/* ----------
 * What the error's message names
 * ----------
 */

/* What stands in double quotes behind a word; NULL without it. */
static char *
quoted_after(const char *text, const char *word)
{
	const char *at = text ? strstr(text, word) : NULL;

	if (at == NULL)
		return NULL;
	at += strlen(word);
	return pnstrdup(at, strcspn(at, "\""));
}

/* The files of the layouts that hold a type, where a layout has such files. */
static const char *
files_of(SisRecordType type)
{
	switch (type)
	{
		case SIS_SCHOOL:
			return "orgs.csv (OneRoster) or schools.csv (Clever)";
		case SIS_TERM:
			return "academicSessions.csv (OneRoster) or sections.csv (Clever)";
		case SIS_COURSE:
			return "courses.csv (OneRoster) or sections.csv (Clever)";
		case SIS_SECTION:
			return "classes.csv (OneRoster) or sections.csv (Clever)";
		case SIS_STUDENT:
		case SIS_CONTACT:
		case SIS_STUDENT_CONTACT:
			return "users.csv (OneRoster) or students.csv (Clever)";
		case SIS_STAFF:
			return "users.csv (OneRoster) or teachers.csv and staff.csv (Clever)";
		case SIS_ENROLLMENT:
			return "enrollments.csv (OneRoster and Clever)";
		default:
			return NULL;
	}
}

void
sis_facts_error(SisExplained *ex)
{
	const char *detail = ex->detail ? ex->detail : "";
	const char *at = ex->message ? strstr(ex->message, "of type ") : NULL;
	char	   *relation = quoted_after(ex->message, "relation \"");
	char	   *constraint = quoted_after(ex->message, "constraint \"");
	SisRecordType type;
	bool		has_type = false;

	if (at != NULL)
	{
		at += strlen("of type ");
		has_type = sis_record_type_by_name(pnstrdup(at, strspn(at, "abcdefghijklmnopqrstuvwxyz_")),
										   &type);
	}
	sis_fact(ex, "type", has_type ? sis_record_desc(type)->name : NULL);
	sis_fact(ex, "type_files", has_type ? files_of(type) : NULL);
	sis_fact_if(ex, "has_line", ex->message != NULL &&
				(strstr(ex->message, " line ") != NULL || strstr(detail, " line ") != NULL));
	if (relation != NULL && !sis_record_type_by_name(relation, &type))
		relation = NULL;
	sis_fact(ex, "relation", relation);
	sis_fact(ex, "constraint_literal",
			 constraint ? quote_literal_cstr(constraint) : NULL);
}
