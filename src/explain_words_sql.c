/*
 * explain_words_sql.c
 *		What is to be said of PostgreSQL's own errors that end a run.
 */
#include "postgres.h"

#include "explain.h"
#include "explain_words.h"

const SisExplanation sis_explanations_sql[] = {
	{
		.code = "55P03",
		.title = "a lock could not be had",
		.what = UNCHANGED "Another session held records or tables of the roster for too long (lock_timeout).",
		.cause = "  - A long transaction of the application, a schema change, or a backup that locks tables.",
		.next =
		"  See who holds locks in the roster:\n"
		"    SELECT DISTINCT a.pid, a.usename, a.state, a.xact_start, l.relation::regclass FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.granted AND a.pid <> pg_backend_pid() AND l.relation IN (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {roster_literal}) ORDER BY a.xact_start;\n"
		"  When the oldest of them has ended:\n"
		RUN_AGAIN
	},
	{
		.code = "40P01",
		.title = "deadlock",
		.what = UNCHANGED "The run and another session waited for each other, three times over.",
		.cause = "  - The application updates many roster rows in one transaction while the sync runs.",
		.next =
		"  Run it when the application is quiet:\n"
		RUN_AGAIN
	},
	{
		.code = "40",
		.title = "a conflict with other transactions",
		.what = UNCHANGED "Other transactions were in the way of the run, three times over.",
		.cause = "  - The application updates roster rows at the same time.",
		.next =
		"  Run it when the application is quiet:\n"
		RUN_AGAIN
	},
	{
		.code = "53100",
		.title = "the disk is full",
		.what = UNCHANGED "The database server has run out of disk space.",
		.cause = "  - A run needs room for the staged rows and for temporary files: about twice the size of the export.",
		.next =
		"  # See what takes the room, and have the server's administrator make some:\n"
		"    SELECT datname, pg_size_pretty(pg_database_size(oid)) FROM pg_database ORDER BY pg_database_size(oid) DESC;\n"
		"  # Then:\n"
		RUN_AGAIN
	},
	{
		.code = "53300",
		.title = "no place is free",
		.what = UNCHANGED "Too many runs, or too many connections, were under way at once.",
		.cause = "  - More than sixteen syncs were started at the same time.",
		.next =
		"  See which runs are under way:\n"
		"    SELECT sync, id, started_at, phase FROM sis_sync.run WHERE status = 'running' ORDER BY started_at;\n"
		"  When one of them has ended:\n"
		RUN_AGAIN
		"  And start some of them later."
	},
	{
		.code = "53",
		.title = "the server lacks memory or room",
		.what = UNCHANGED "The database server has run out of memory or of another resource.",
		.next =
		"  Have the server's administrator look at the server's log for the time of run {run}. Then:\n"
		RUN_AGAIN
	},

	/* ----------
	 * Rights
	 * ----------
	 */
	{
		.code = "42501",
		.says = "row security|row-level security",
		.title = "a right is missing",
		.what = UNCHANGED "Row security would hide rows of the roster from role {role}, and a run has to see all of them.",
		.cause = "  - Row security was switched on for a table of the roster.",
		.next =
		"  Run the sync as the tables' owner, or as a role with BYPASSRLS; a superuser can give role {role} that:\n"
		"    ALTER ROLE {role} BYPASSRLS;\n"
		"  Then, as role {role}:\n"
		RUN_AGAIN
	},
	{
		.code = "42501",
		.says = "foreign server",
		.title = "a right is missing",
		.what = UNCHANGED "Role {role} may not use the server that the sync fetches with.",
		.cause = "  - It was not granted USAGE on the server, or that was taken back.",
		.next =
		"  If that role is to run the sync, the server's owner can grant it:\n"
		"    GRANT USAGE ON FOREIGN SERVER {server} TO {role};\n"
		"  Then, as role {role}:\n"
		RUN_AGAIN
	},
	{
		.code = "42501",
		.says = "for schema",
		.title = "a right is missing",
		.what = UNCHANGED "Role {role} may not use the schema that the message names.",
		.cause = "  - It was not granted USAGE on the schema, or that was taken back.",
		.next =
		"  If that role is to run the sync, an administrator can grant it:\n"
		"    GRANT USAGE ON SCHEMA sis_sync, {roster} TO {role};\n"
		"  Then, as role {role}:\n"
		RUN_AGAIN
	},
	{
		.code = "42501",
		.says = "for table|for relation|for view",
		.title = "a right is missing",
		.what = UNCHANGED "Role {role} may not read or write the table that the message names.",
		.cause = "  - The table is new in the roster or has another owner, or a trigger of the application's writes to it.",
		.next =
		"  A run needs SELECT, INSERT and UPDATE on the roster. If that role is to run the sync, the tables' owner can grant it:\n"
		"    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {roster} TO {role};\n"
		"  (If the table is not one of the roster's, ask the application's developers.) Then, as role {role}:\n"
		RUN_AGAIN
	},
	{
		.code = "42501",
		.title = "a right is missing",
		.what = UNCHANGED "Role {role} lacks the right that the message names.",
		.cause = "  - It was not granted it, or that was taken back.",
		.next =
		"  The error's own advice: {hint}\n"
		"  The grants that a role needs to run a sync are in docs/grants.md. Then, as role {role}:\n"
		RUN_AGAIN
	},

	/* ----------
	 * Cancelled and stopped
	 * ----------
	 */
	{
		.code = "57014",
		.says = "statement timeout",
		.title = "it was cancelled",
		.facts = sis_facts_session,
		.what = UNCHANGED "The run took longer than statement_timeout allows, and ended after {took}.",
		.cause =
		"  - More has to be read or written than usual, or the server or the source was slow.\n"
		"  - The last one that went well took {last_took}.",
		.next =
		"  # See what is set for the role that ran it (and for its database):\n"
		"    SELECT setdatabase, setconfig FROM pg_db_role_setting WHERE setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = {role_literal}));\n"
		"  # Give it longer for this run, in the same session " IN_QUOTES ":\n"
		"    SET statement_timeout = <TIME>;\n"
		RUN_AGAIN
	},
	{
		.code = "57014",
		.title = "it was cancelled",
		.facts = sis_facts_session,
		.what = UNCHANGED "Somebody cancelled the run, {took} after it had begun.",
		.cause = "  - A person or a program (the client, a scheduler) cancelled it.",
		.next =
		"  Run it again:\n"
		RUN_AGAIN
	},
	{
		.code = "57",
		.title = "the server was stopped",
		.what = UNCHANGED "The database server was stopped, or the session was ended, while the run was under way.",
		.cause = "  - The server was restarted, or an administrator ended the session.",
		.next =
		"  Run it again:\n"
		RUN_AGAIN
	},

	/* ----------
	 * What the roster refused
	 * ----------
	 */
	{
		.code = "23",
		.title = "the roster refused a record",
		.facts = sis_facts_error,
		.what = UNCHANGED "A record of the export breaks a rule that the application has put on its roster (a constraint). The run is all or nothing, so all of it was taken back.",
		.cause = "  - The application demands what the source does not keep to: a value that must be unique or must not be empty, a reference.",
		.next =
		"  # {?constraint_literal}See the rule:\n"
		"    SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = {constraint_literal};\n"
		"  # {?relation}Find the row that breaks it: put the rule for <THE RULE>. It shows the ID, file and line; its values are personal, do not mail them.\n"
		"    SELECT source_id, source, line FROM sis_sync.stage_{relation} WHERE run_id = {run} AND status = 'active' AND NOT (<THE RULE>);\n"
		"  # Have the record mended in the source, or ask the application's developers about the rule. Then:\n"
		RUN_AGAIN
	},
	{
		.code = "22",
		.title = "the roster refused a value",
		.what = UNCHANGED "A value of the export does not fit a column of the roster. The run is all or nothing, so all of it was taken back.",
		.cause = "  - The application has changed a column of the roster, or a trigger of its refuses the value.",
		.next =
		"  # See which columns take only short values:\n"
		"    SELECT table_name, column_name, character_maximum_length FROM information_schema.columns WHERE table_schema = {roster_literal} AND character_maximum_length IS NOT NULL;\n"
		"  # Find the row, for each such table and column. It shows the ID, file and line; the values are personal, do not mail them.\n"
		"    SELECT source_id, source, line FROM sis_sync.stage_<TABLE> WHERE run_id = {run} AND length(<COLUMN>) > <MAXIMUM>;\n"
		"  # Have the record mended in the source, or ask the application's developers about the column. Then:\n"
		RUN_AGAIN
	},

	/* anything else; comes last */
	{
		.code = "",
		.title = "an error of the database",
		.what = UNCHANGED "The database raised an error that has nothing to do with the district's data as such.",
		.next =
		"  # Give the message above, and the number of the run, to the database's administrator.\n"
		"  # Then:\n"
		RUN_AGAIN
	},
	{.code = NULL}
};
