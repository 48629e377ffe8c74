/*
 * explain_words.c
 *		What is to be said of each way in which a run can end, in words for
 *		somebody who has never seen the system.
 */
#include "postgres.h"

#include "explain_words.h"

/* After a cause that lies with the source has been removed. */
#define RUN_AGAIN "    CALL sis_sync.run({sync});"

/* First look at what would happen. */
#define TRY_DRY "    CALL sis_sync.run({sync}, dry_run => true);"

static const SisExplanation explanations[] = {
	{"SI001", NULL, SIS_FIGURES_LIMITS, false,
		"  More records are missing from the source than this sync may archive in one night.\n"
		"  New and changed records were taken over (not in a dry run). Nothing was archived, unless the error says that other schools go on: nobody it is about has lost anything.",
		"  - \"not in the feed\": the export was incomplete (a filter, a school or a file left out), or these people have really left.\n"
		"  - \"left scope\": they are in the export, but at schools that are not set up for this sync. Was a school taken out of sis_sync.sync_school, or has its ID changed?\n"
		"  - Everybody of one school: that school was most likely left out of the export.\n"
		"  - \"within ... days\": few are missing each night, and together they are more than creep_threshold of sis_sync.sync allows.\n"
		"  At the end of a school year large numbers are normal.",
		"  1. See the whole list:\n"
		"    SELECT * FROM sis_sync.pending_archive WHERE run_id = {run};\n"
		"  2. If they have not left: have the export mended, then run the sync again. The records are unchanged.\n"
		RUN_AGAIN "\n"
		"  3. If exactly these may go: approve them, then run the sync again. It counts once, for seven days, and for no other record.\n"
		"    SELECT sis_sync.approve({run}, 'why they may go');\n"
		RUN_AGAIN "\n"
		"  4. If this many are to be expected from now on, raise the limit (here to 20 percent), then run the sync again:\n"
		"    UPDATE sis_sync.sync SET deletion_threshold = 20 WHERE name = {sync};\n"
		"  5. If what it created and updated is wrong as well, put that back:\n"
	"    CALL sis_sync.undo({run});"},
	{"SI002", NULL, SIS_FIGURES_NONE, true,
		"  The source refused this sync's credentials, or no longer shares data with them, or another district answered than before. Nothing was changed.",
		"  - The token, key or password has expired, was replaced, or was mistyped.\n"
		"  - The district has taken back what it shares with the application.\n"
		"  - The server's address points to another district's data.",
		"  1. Ask the district whether it still shares its data with you, and for the present credentials.\n"
		"  2. See which options the server has, and enter the new secret (for SFTP \"password\", for Clever \"token\" or \"client_secret\", for OneRoster \"client_secret\"):\n"
		"    SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname = {server_literal};\n"
		"    ALTER USER MAPPING FOR PUBLIC SERVER {server} OPTIONS (SET client_secret '...');\n"
		"  3. Try it, then run the sync:\n"
		TRY_DRY "\n"
	RUN_AGAIN},
	{"SI003", NULL, SIS_FIGURES_SCHOOLS, true,
		"  A school that is set up for this sync is not among the schools in the source. Nothing was changed, for any school.",
		"  - The school's ID in the source has changed, or is written otherwise (a leading zero, a space).\n"
		"  - The school was left out of the export, or has closed.",
		"  1. Compare what is set up with what came:\n"
		"    SELECT school_id, app_school FROM sis_sync.sync_school WHERE sync = {sync};\n"
		"    SELECT source_id, sis_id, name FROM sis_sync.stage_school WHERE run_id = {run};\n"
		"  2. If the ID is another one now, correct it; if the school has closed, archive what is left of it:\n"
		"    UPDATE sis_sync.sync_school SET school_id = 'new' WHERE sync = {sync} AND school_id = 'old';\n"
		"    CALL sis_sync.retire_school({sync}, 'old', 'why');\n"
		"  3. If the export lacks it, have the export mended. Then:\n"
	RUN_AGAIN},
	{"SI004", NULL, SIS_FIGURES_NONE, true,
		"  The source could not be reached, or did not answer as it should. Nothing was changed.",
		"  - The service or the network is down for the moment: most of these go away by themselves.\n"
		"  - The address, the path or the folder is not (or no longer) the right one.\n"
		"  - The host has another key or certificate than the one on record: ask before you trust it.",
		"  1. Try again:\n"
		RUN_AGAIN "\n"
		"  2. If it stays, check the server's address and path:\n"
		"    SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname = {server_literal};\n"
		"  and ask the district or the service whether it is up.",
	},
	{"SI005", NULL, SIS_FIGURES_NONE, true,
		"  The source asked to be left alone for longer than this sync may wait: too many requests. Nothing was changed.",
		"  - Other programs use the same account at the same time, or the sync was run several times in a row.",
		"  1. Wait an hour, then:\n"
		RUN_AGAIN "\n"
	"  2. If it stays, run it at another time of day, or set a smaller max_connections on server {server}."},
	{"SI006", NULL, SIS_FIGURES_NONE, true,
		"  What the source sent is not what it should be: a file or page cannot be read as such. Nothing was changed.",
		"  - The export was changed: another layout, separator or header.\n"
		"  - The file was cut, or is no CSV file at all (an error page, a spreadsheet).",
		"  1. Send the message above to whoever makes the export: it names the file and the line.\n"
		"  2. When it is mended:\n"
	RUN_AGAIN},
	{"SI007", NULL, SIS_FIGURES_NONE, true,
		"  The data is incomplete, or older than what was taken over last. What is missing in it cannot be told from what has left, so nothing was changed.",
		"  - The export was still being written, or broke off.\n"
		"  - A file, or all records of one type, are missing; or an old export lies in the folder.\n"
		"  - The database has crashed since the data was fetched.",
		"  1. See what came of each type:\n"
		"    SELECT record_type, offered, received, rejected, out_of_scope FROM sis_sync.run_count WHERE run_id = {run};\n"
		"  2. Have the whole export sent again, then:\n"
	RUN_AGAIN},
	{"SI008", NULL, SIS_FIGURES_NONE, false,
		"  Another run of this sync was under way. This one ended at once and has changed nothing.",
		"  - It was started twice: by a schedule and by hand, or by two schedules.",
		"  1. See the run that is under way, and wait for it to end:\n"
		"    SELECT id, started_at, phase, run_by FROM sis_sync.run WHERE sync = {sync} AND status = 'running';\n"
		"  2. If it hangs, find its session and cancel it:\n"
		"    SELECT pid, usename, state, query_start FROM pg_stat_activity WHERE query LIKE 'CALL sis_sync.run%';\n"
	RUN_AGAIN},
	{"SI009", NULL, SIS_FIGURES_NONE, true,
		"  Something that the sync needs is not set up. Nothing was changed.",
		"  - The sync has no schools, its server or user mapping is missing, or its roster has not been made.",
		"  1. See how it is set up:\n"
		"    SELECT * FROM sis_sync.sync WHERE name = {sync};\n"
		"    SELECT * FROM sis_sync.sync_school WHERE sync = {sync};\n"
		"  2. Do what the advice below says, then try:\n"
	TRY_DRY},
	{"SI010", NULL, SIS_FIGURES_REJECTS, true,
		"  Too many rows of the source could not be read. A few bad rows are set aside; this many mean that the export is wrong. Nothing was changed.",
		"  - Letters with accents in another encoding than the one set for server {server}.\n"
		"  - A column that is required is empty, or was renamed.",
		"  1. See the rows, with file and line:\n"
		"    SELECT record_type, source, line, source_id, column_name, reason FROM sis_sync.reject WHERE run_id = {run} AND NOT loaded ORDER BY source, line;\n"
		"  2. If the reason is \"not valid UTF-8\", the files may be in Windows-1252:\n"
		"    ALTER SERVER {server} OPTIONS (ADD encoding 'WIN1252');\n"
		"  3. Else have the export mended. Then:\n"
	RUN_AGAIN},
	{"SI011", NULL, SIS_FIGURES_PAIRS, false,
		"  Most people in the source seem to be the ones that are known already, under other IDs. To take that as it comes would archive everybody and create them anew, so nothing was changed.",
		"  - A spreadsheet has taken the leading zeros off the IDs.\n"
		"  - The export was set up anew, or the district has moved to another system: the IDs are new for good.",
		"  1. Look at the pairs of old and new:\n"
		"    SELECT * FROM sis_sync.rekey_twin WHERE run_id = {run};\n"
		"  2. If the IDs were changed by mistake: have the export mended, then run the sync again.\n"
		RUN_AGAIN "\n"
		"  3. If they are the same people under new IDs for good: give the records their new IDs, then run the sync again. History and links stay.\n"
		"    CALL sis_sync.rekey({run});\n"
		RUN_AGAIN "\n"
		"  4. If the old ones have really left and others came: approve that, then run the sync again. (A source that sends only changes has to send whole files for that.)\n"
		"    SELECT sis_sync.approve({run}, 'why they may go');\n"
	RUN_AGAIN},
	{"SI012", NULL, SIS_FIGURES_NONE, false,
		"  More records would be changed than this sync may update in one night (update_threshold). Nothing was changed: no record was created or archived either.",
		"  - The export was changed: a column was moved, renamed or emptied, or all names are written otherwise.\n"
		"  - The district has changed something for everybody: grades at the start of a year, a new mail domain.\n"
		"  Behind each figure above stand the columns that differ most often.",
		"  1. Look at old and new values:\n"
		"    SELECT * FROM sis_sync.preview({run}) WHERE action = 'update';\n"
		"  2. If the new ones are wrong: have the export mended, then run the sync again.\n"
		RUN_AGAIN "\n"
		"  3. If they are right: let as many updates be made, once and within seven days, then run the sync again.\n"
		"    SELECT sis_sync.approve({run}, 'why they are right');\n"
		RUN_AGAIN "\n"
		"  4. If this many are to be expected from now on, raise the limit (here to 50 percent), or set none (NULL):\n"
	"    UPDATE sis_sync.sync SET update_threshold = 50 WHERE name = {sync};"},

	/* PostgreSQL's own */
	{"55P03", "a lock could not be had", SIS_FIGURES_NONE, false,
		"  Another session held records or tables of the roster for too long (lock timeout). Nothing was changed.",
		"  - A long transaction of the application, a schema change, or a backup that locks tables.",
		"  1. See who holds locks in the roster:\n"
		"    SELECT a.pid, a.usename, a.state, a.xact_start, l.relation::regclass FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.granted AND l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = {roster_literal}::regnamespace);\n"
		"  2. When it has ended, or with a longer lock_timeout:\n"
	RUN_AGAIN},
	{"40P01", "deadlock", SIS_FIGURES_NONE, false,
		"  The run and another session waited for each other, three times over. Nothing was changed.",
		"  - The application updates many roster rows in one transaction while the sync runs.",
		"  1. Run it when the application is quiet:\n"
	RUN_AGAIN},
	{"40", "a conflict with other transactions", SIS_FIGURES_NONE, false,
		"  Other transactions were in the way of the run, three times over. Nothing was changed.",
		"  - The application updates roster rows at the same time.",
		"  1. Run it when the application is quiet:\n"
	RUN_AGAIN},
	{"53100", "the disk is full", SIS_FIGURES_NONE, false,
		"  The database server has run out of disk space. Nothing was changed.",
		"  - A run needs room for the staged rows and for temporary files: about twice the size of the source.",
		"  1. See what takes the room, and have the server's administrator make some:\n"
		"    SELECT datname, pg_size_pretty(pg_database_size(oid)) FROM pg_database ORDER BY pg_database_size(oid) DESC;\n"
		"  2. Then:\n"
	RUN_AGAIN},
	{"53300", "no place is free", SIS_FIGURES_NONE, true,
		"  Too many runs, or too many connections, were under way at once. Nothing was changed.",
		"  - More than sixteen syncs were started at the same time.",
		"  1. Start some of them later, and this one now:\n"
	RUN_AGAIN},
	{"53", "the server lacks memory or room", SIS_FIGURES_NONE, false,
		"  The database server has run out of memory or of another resource. Nothing was changed.",
		NULL,
		"  1. Have the server's administrator look at the server's log for run {run}. Then:\n"
	RUN_AGAIN},
	{"42501", "a right is missing", SIS_FIGURES_NONE, true,
		"  The role that ran the sync lacks a right. Nothing was changed.",
		"  - The roster got a new table, or row security, or another owner.\n"
		"  - The role was not granted the server, or the roster's tables.",
		"  1. An administrator can grant what a run needs (put the role's name for sync_runner):\n"
		"    GRANT USAGE ON SCHEMA sis_sync, {roster} TO sync_runner;\n"
		"    GRANT USAGE ON FOREIGN SERVER {server} TO sync_runner;\n"
		"    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {roster} TO sync_runner;\n"
		"  2. Then, as that role:\n"
	RUN_AGAIN},
	{"57014", "it was cancelled", SIS_FIGURES_NONE, false,
		"  Somebody cancelled the run, or it took longer than statement_timeout allows. Nothing was changed.",
		NULL,
		"  1. See how long a statement may take for this role, and lengthen it if needed:\n"
		"    SHOW statement_timeout;\n"
		"  2. Then:\n"
	RUN_AGAIN},
	{"57", "the server was stopped", SIS_FIGURES_NONE, false,
		"  The database server was stopped, or the session was ended, while the run was under way. Nothing was changed.",
		NULL,
		"  1. Run it again:\n"
	RUN_AGAIN},
	{"23", "the roster refused a record", SIS_FIGURES_NONE, true,
		"  A record from the source breaks a rule that the application has put on its roster (a constraint). All of the run was taken back: nothing was changed.",
		"  - The application demands what the source does not keep to: a value that must be unique or must not be empty, a reference.",
		"  1. Ask the application's developers about the constraint that the message names. The values are not shown, since they are personal; the staged rows have them:\n"
		"    SELECT * FROM sis_sync.preview({run});\n"
		"  2. When the rule or the record is mended:\n"
	RUN_AGAIN},
	{"22", "the roster refused a value", SIS_FIGURES_NONE, true,
		"  A value from the source does not fit a column of the roster. All of the run was taken back: nothing was changed.",
		"  - The application has changed a column of the roster, or a trigger of its refuses the value.",
		"  1. Ask the application's developers about the table that the message names.\n"
		"  2. When that is mended:\n"
	RUN_AGAIN},

	/* ends without an error */
	{"succeeded", NULL, SIS_FIGURES_COUNTS, false,
		"  It did not fail.",
		NULL,
		"  Nothing needs to be done. Should the data turn out to be wrong, this puts back what the run did:\n"
	"    CALL sis_sync.undo({run});"},
	{"interrupted", NULL, SIS_FIGURES_NONE, false,
		"  The run's session ended before the run did. All or nothing of a run is written: either it had finished writing, or nothing was changed.",
		"  - The database server was restarted or crashed, or the connection was cut.",
		"  1. Run it again: it does what is left to do.\n"
	RUN_AGAIN},
	{"running", NULL, SIS_FIGURES_NONE, false,
		"  The run is still under way; or it is done step by step, and waits for its next step; or its session is gone, which the sync's next run will note.",
		NULL,
		"  1. See whether a session is at it:\n"
		"    SELECT pid, usename, state, query_start, query FROM pg_stat_activity WHERE query ILIKE '%sis_sync.%' AND pid <> pg_backend_pid();\n"
		"  2. If there is none:\n"
	RUN_AGAIN},

	/* anything else; comes last */
	{"", "an error of the database", SIS_FIGURES_NONE, true,
		"  The database raised an error that has nothing to do with the district's data as such. Nothing was changed.",
		NULL,
		"  1. Give the message above to the database's administrator.\n"
		"  2. Then:\n"
	RUN_AGAIN}
};

const SisExplanation *
sis_explanation_of(const char *status, const char *error_code)
{
	const char *wanted = error_code != NULL ? error_code : status;
	int			i = 0;

	while (strncmp(wanted, explanations[i].code, strlen(explanations[i].code)) != 0)
		i++;
	return &explanations[i];
}
