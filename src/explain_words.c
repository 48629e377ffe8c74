/*
 * explain_words.c
 *		What is to be said of each named error, and of ends without an error,
 *		in words for somebody who has never seen the system.
 *
 * "The source" is the service or the place that data comes from, "the export"
 * what it sent.
 */
#include "postgres.h"

#include "explain.h"
#include "explain_words.h"

#define ARCHIVED_MEANS \
	"  An archived record is kept and marked (archived_at); most applications hide it. It comes back by itself when the source sends it again.\n" \
	"  {!restores}(Not so sections and enrollments: this sync has restore_returning = false.)\n"

#define NEW_SECRET \
	"  @ {?token}Enter the new token " IN_QUOTES "; psql's history and the server's log may keep what you type:\n" \
	"    ALTER USER MAPPING FOR {mapping} SERVER {server} OPTIONS (SET token <NEW TOKEN>);\n" \
	"  @ {?client_secret}Enter the new client secret " IN_QUOTES "; psql's history and the server's log may keep what you type:\n" \
	"    ALTER USER MAPPING FOR {mapping} SERVER {server} OPTIONS (SET client_secret <NEW SECRET>);\n" \
	"  @ {?password}Enter the new password " IN_QUOTES "; psql's history and the server's log may keep what you type:\n" \
	"    ALTER USER MAPPING FOR {mapping} SERVER {server} OPTIONS (SET password <NEW PASSWORD>);\n" \
	"  @ {?private_key}Enter the new private key, the whole text of its file " IN_QUOTES "; psql's history and the server's log may keep what you type:\n" \
	"    ALTER USER MAPPING FOR {mapping} SERVER {server} OPTIONS (SET private_key <NEW KEY>);\n" \
	"  If it says that the option is not found, write ADD for SET.{?mapping_is_hidden} Take the way that this sync signs in by: you do not see the mapping's options.\n"

#define LOOK_AT_SERVER \
	"    SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname = {server_literal};\n"

#define CORRECT_FOLDER \
	"  @ {?files}The folder or zip file is another one ({now_path}): correct it " IN_QUOTES ", then try:\n" \
	"    ALTER SERVER {server} OPTIONS ({set_path} path <FOLDER>);\n" \
	TRY_FIRST

#define CORRECT_ADDRESS \
	"  @ {?sftp}The host is another one ({now_host}): correct it " IN_QUOTES ", then try:\n" \
	"    ALTER SERVER {server} OPTIONS ({set_host} host <HOST>);\n" \
	TRY_FIRST \
	"  @ {?rest}The address is another one ({now_base_url}): correct it " IN_QUOTES ", then try:\n" \
	"    ALTER SERVER {server} OPTIONS ({set_base_url} base_url <ADDRESS>);\n" \
	TRY_FIRST

const SisExplanation sis_explanations_named[] = {
	/* ----------
	 * The threshold
	 * ----------
	 */
	{
		.code = "SI001",
		.facts = sis_facts_threshold,
		.what =
		"  {!archived}This run archived nothing: nobody has lost anything by it. More records are missing than one run of this sync may archive.\n"
		"  {archived} records elsewhere were archived; nothing of what is listed below was. More records are missing there than one run may archive.\n"
		"  {!dry}New and changed records were taken over: {taken}.\n"
		ARCHIVED_MEANS,
		.figures =
		"HOW FAR FROM THE LIMIT\n"
		"  {limits}\n"
		"  Held back: {held}; {held_why}.\n"
		"WHO IT IS{?who}\n"
		"  {who}",
		.cause =
		"  - {?is_missing}Not in the export: it was incomplete (a filter, a school or a file left out), or they have really left.\n"
		"  - {?is_deleted}Deleted in the source: somebody marked them so there, or they have really left.\n"
		"  - {?has_moved}Now at a school that is not set up: they moved there, a school was taken out of sis_sync.sync_school, or its ID has changed.\n"
		"  - {?whole_school}Everybody of a school: that school was most likely left out of the export.\n"
		"  - {?creep}\"Within ... days\": few are missing each time, and together they are more than creep_threshold of sis_sync.sync allows.\n"
		"  At the end of a school year large numbers are normal.",
		.next =
		"  First look at the whole list:\n"
		"    SELECT * FROM sis_sync.pending_archive WHERE run_id = {run} ORDER BY record_type, source_id;\n"
		"  Then do ONE of these:\n"
		"  @ {?approved}They may go, as approved: run the sync.\n"
		RUN_AGAIN
		"  @ {?approved}They may not go after all: withdraw the approval (as the owner of the extension).\n"
		"    UPDATE sis_sync.approval SET expires_at = now() WHERE run_id = {run} AND spent_run IS NULL;\n"
		"  @ {!approved}They have not left: have the export mended, then run the sync. Their records are as they were.\n"
		RUN_AGAIN
		"  @ {?approvable}Exactly these may go: approve them, then run the sync. This approves all {held}. It counts for one run and lapses after seven days; any other record is under the limit as before.\n"
		"     (in place of <...> write the reason, in single quotes)\n"
		"    SELECT sis_sync.approve({run}, <WHY THEY MAY GO>);\n"
		RUN_AGAIN
		"  @ {?lapsed}Exactly these may go: the approval has lapsed. Run the sync once more, and approve that run.\n"
		RUN_AGAIN
		EXPLAIN_IT
		"  @ {!approved}Some have left and some have not: have the export mended for those who have not, then run the sync. If the others are still too many, that run is the one to approve.\n"
		RUN_AGAIN
		EXPLAIN_IT
		"  @ {!approved}{?raise}So many are to be expected until {season}, as at the end of a school year: raise these limits until then, and run the sync. They are the least that lets this run pass: write more where you expect more. Others than these may go as well; then the old limits hold again.\n"
		"    {raise}\n"
		RUN_AGAIN
		"  @ {!approved}So many are to be expected always (not once a year: that is the way above): raise the limit for all types and for good, {deletion_threshold} percent now. It protects the less; this run needs {needed}.\n"
		"    UPDATE sis_sync.sync SET deletion_threshold = <PERCENT> WHERE name = {sync};\n"
		RUN_AGAIN
		"  @ {?creep}{!approved}So many are to be expected over those days: raise that limit, or set none (NULL), then run the sync.\n"
		"    UPDATE sis_sync.sync SET creep_threshold = <PERCENT> WHERE name = {sync};\n"
		RUN_AGAIN
		"  @ {!approved}The whole export is wrong, also what was taken over ({taken}): put that back, and have it mended.\n"
		"    CALL sis_sync.undo({run});",
		.next_dry =
		"  A dry run cannot be decided on. See the list:\n"
		"    SELECT * FROM sis_sync.pending_archive WHERE run_id = {run} ORDER BY record_type, source_id;\n"
		"  If they have not left, have the export mended. If they have, run the sync, which takes over what is new and archives nothing while so many are missing, and decide on that run:\n"
		RUN_AGAIN
		EXPLAIN_IT
	},

	/* ----------
	 * Credentials
	 * ----------
	 */
	{
		.code = "SI002",
		.says = "the data is of another district",
		.facts = sis_facts_district,
		.what = UNCHANGED "Another district answered than the one whose children this sync has loaded so far.",
		.cause =
		"  - The server's address, path or credentials are those of another district.\n"
		"  - Or the district is the same, and its ID has changed.",
		.next =
		"  First see where the data comes from:\n"
		LOOK_AT_SERVER
		"  Then do ONE of these:\n"
		CORRECT_FOLDER
		CORRECT_ADDRESS
		"  @ {?rest}The credentials are of another district: enter those of {district_known} with ALTER USER MAPPING, then try:\n"
		TRY_FIRST
		"  @ Only after the district has confirmed that {district_known} is now called {district_found} (otherwise you load another district's children): forget the old ID, then try. (To take it back, set it to {district_known} again.)\n"
		"    UPDATE sis_sync.sync_state SET district_id = NULL WHERE sync = {sync};\n"
		TRY_FIRST
	},
	{
		.code = "SI002",
		.says = "the token is not of district",
		.facts = sis_facts_secrets,
		.what = UNCHANGED "The token is good, and is another district's than the server's option district_id says.",
		.cause = "  - The token of another district was entered, or district_id is not the right one.",
		.next =
		"  Do ONE of these, then try it as below:\n"
		NEW_SECRET
		"  @ The district is another one ({now_district_id}): correct it " IN_QUOTES ":\n"
		"    ALTER SERVER {server} OPTIONS ({set_district_id} district_id <DISTRICT ID>);\n"
		"  Try:\n"
		TRY_FIRST
	},
	{
		.code = "SI002",
		.says = "shares no data|is of no district|may not read the district|does not know district|status 403",
		.facts = sis_facts_source,
		.what = UNCHANGED "The source knows this sync's credentials, and gives it no data.",
		.cause = "  - The district has stopped sharing its data, or part of it, with the application.",
		.next =
		"  Ask the district to share its data with the application again. The credentials need not be changed.\n"
		"  The error's own advice: {hint}\n"
		"  When it shares:\n"
		TRY_FIRST
	},
	{
		.code = "SI002",
		.facts = sis_facts_secrets,
		.what = UNCHANGED "The source refused this sync's credentials.",
		.cause = "  - They have expired, were replaced, or were mistyped.",
		.next =
		"  The error's own advice: {hint}\n"
		"  If it does not help, ask the district or the service for new credentials. Then do ONE of these:\n"
		NEW_SECRET
		"  Try:\n"
		TRY_FIRST
	},

	/* ----------
	 * Schools
	 * ----------
	 */
	{
		.code = "SI003",
		.facts = sis_facts_schools,
		.what = UNCHANGED "A school that is set up for this sync is not among those in the export (or two have its ID). No school is synced until that is solved.",
		.figures =
		"SET UP AND NOT FOUND{?schools_missing}\n"
		"  {schools_missing}\n"
		"SCHOOLS IN THE SOURCE\n"
		"  {schools}\n"
		"  {!schools}None that can be shown: the staged rows of this run are gone.",
		.cause =
		"  - The school's ID in the source has changed, or is written otherwise (a leading zero, a space).\n"
		"  - The school was left out of the export, or has closed.",
		.next =
		"  First compare the names:\n"
		"    SELECT school_id, app_school FROM sis_sync.sync_school WHERE sync = {sync};\n"
		"  Then, for each school, do ONE of these:\n"
		"  @ It is another ID of the same school: correct it, then try. Write the first of its IDs above " IN_QUOTES ". Students keep their records if their own IDs are the same.\n"
		"    {schools_renamed}\n"
		TRY_FIRST
		"  @ It should be in the export: have that mended, then run the sync.\n"
		RUN_AGAIN
		"  @ It has closed, or was merged into another: archive what is left of it there; who is at another school of the sync stays. Undo can take that back.\n"
		"     (in place of <...> write the reason, in single quotes)\n"
		"    {schools_retired}\n"
		TRY_FIRST
		"  @ It is not to be synced any more: remove it, then try (INSERT it again to take that back). Records that are at no other school of the sync are frozen by that: kept as they are, neither changed nor archived.\n"
		"     {?no_school_is_left}No other school is set up: runs then end in SI009, until there is one.\n"
		"    {schools_removed}\n"
		TRY_FIRST
	},

	/* ----------
	 * The source cannot be reached
	 * ----------
	 */
	{
		.code = "SI004",
		.says = "key of host|no host key|known_hosts|verify host",
		.facts = sis_facts_source,
		.what = UNCHANGED "The host shows a key that is not on record, so nothing was sent to it.",
		.cause =
		"  - The site has got a new key, or a new machine.\n"
		"  - Or somebody else answers in its place.",
		.next =
		"  # Ask the site's administrator for the key's fingerprint, by telephone or another way than this connection, and compare it with the one in the message.\n"
		"  # Only if they are the same: {hint}\n"
		"  # Then try:\n"
		TRY_FIRST
	},
	{
		.code = "SI004",
		.says = "certificate|agree on TLS|agree on SSH",
		.facts = sis_facts_source,
		.what = UNCHANGED "No safe connection to the source could be made.",
		.cause =
		"  - Its certificate has expired, or is of an authority that this machine does not know.\n"
		"  - The address is of another host.",
		.next =
		"  Ask the service whether its certificate is in order; certificates are always verified. Then do ONE of these:\n"
		"  @ It has been put in order: run the sync.\n"
		RUN_AGAIN
		"  @ It is of a private authority ({now_ca_file}): name the file of that authority's certificate on the database server's machine " IN_QUOTES ", then try.\n"
		"    ALTER SERVER {server} OPTIONS ({set_ca_file} ca_file <FILE>);\n"
		TRY_FIRST
		CORRECT_ADDRESS
	},
	{
		.code = "SI004",
		.says = "could not open|could not read file|could not read zip|cannot open|could not look at",
		.facts = sis_facts_source,
		.what = UNCHANGED "The folder or file that the export should lie in cannot be read.",
		.cause =
		"  - It has another name, or was moved or removed.\n"
		"  - {?directory}It is on another machine: it has to be on the database server's own.\n"
		"  - {?directory}The operating system's user that PostgreSQL runs as may not read it.\n"
		"  - {?sftp}The user that the sync signs in as may not read it.",
		.next =
		"  Look for {place}. Then do ONE of these:\n"
		"  @ It is there now, and may be read: run the sync.\n"
		RUN_AGAIN
		CORRECT_FOLDER
	},
	{
		.code = "SI004",
		.facts = sis_facts_source,
		.what = UNCHANGED "The source could not be reached, or did not answer as it should.",
		.cause =
		"  - The service or the network is down for the moment: most of these go away by themselves.\n"
		"  - Or its address has changed.",
		.next =
		"  The error's own advice: {hint}\n"
		"  Do ONE of these:\n"
		"  @ Wait an hour, then run the sync.\n"
		RUN_AGAIN
		CORRECT_ADDRESS
		"  @ {!directory}It is slow: give it more time (option timeout, in seconds; {now_timeout}), then run the sync.\n"
		"    ALTER SERVER {server} OPTIONS ({set_timeout} timeout <SECONDS>);\n"
		RUN_AGAIN
	},
	{
		.code = "SI005",
		.facts = sis_facts_source,
		.what = UNCHANGED "The source takes no more requests for now.",
		.cause = "  - Other programs use the same account at the same time, or the sync was run several times in a row.",
		.next =
		"  Wait an hour, then:\n"
		RUN_AGAIN
		"  If it ends so again, run it at another time of day, or with fewer requests at once (max_connections of the server object, not PostgreSQL's: {now_max_connections}):\n"
		"    ALTER SERVER {server} OPTIONS ({set_max_connections} max_connections '1');"
	},

	/* ----------
	 * What was sent cannot be used
	 * ----------
	 */
	{
		.code = "SI006",
		.says = "separated by",
		.facts = sis_facts_source,
		.what = UNCHANGED "A file of the export cannot be read.",
		.cause = "  - A spreadsheet program of a country that writes decimal commas has saved the file.",
		.next =
		"  # Send whoever makes the export the message above: the columns have to be separated by commas. The file is in {place}.\n"
		"  # When it is mended:\n"
		RUN_AGAIN
	},
	{
		.code = "SI006",
		.says = "changed while|hold still|fit together|names a file twice|both layouts|zip files|set of CSV files|lacks files|layout",
		.facts = sis_facts_source,
		.what = UNCHANGED "The files or pages of the export do not make one whole.",
		.cause = "  - They were being written at that time, are of two exports, or lie in the wrong place.",
		.next =
		"  The error's own advice: {hint}\n"
		"  The export is in {place}. When it is whole:\n"
		RUN_AGAIN
	},
	{
		.code = "SI006",
		.facts = sis_facts_source,
		.what = UNCHANGED "A file or page of the export cannot be read as what it should be.",
		.cause =
		"  - The export was changed: other columns, another header.\n"
		"  - Or it was cut short, or something else was saved in its place (an error page, a spreadsheet).",
		.next =
		"  # Send whoever makes the export the message above{?has_line}; it names the line. It is about what is in {place}.\n"
		"  # {!has_line}Send whoever makes the export the message above. It is about what is in {place}.\n"
		"  The error's own advice: {hint}\n"
		"  # When it is mended:\n"
		RUN_AGAIN
	},
	{
		.code = "SI007",
		.says = "has no records of type",
		.facts = sis_facts_source,
		.what = UNCHANGED "The export lacks a whole type of records that the roster has. What is missing in it cannot be told from what has left.",
		.cause = "  - A file was left out, or was not yet written: {type_files}.",
		.next =
		"  Look into {place}. Then do ONE of these:\n"
		"  @ It should be there: have the whole export sent again, then:\n"
		RUN_AGAIN
		"  @ {?files}The source has stopped sending it for good, and its records of that type are to stay as they are: have its manifest.csv say \"absent\" for that file, then try:\n"
		TRY_FIRST
	},
	{
		.code = "SI007",
		.says = "no record of type",
		.facts = sis_facts_source,
		.what = UNCHANGED "The export holds no record at all of a type that the roster has.",
		.cause =
		"  - The file was exported empty, or with a filter: {type_files}.\n"
		"  - Or all of them are at schools that are not set up.",
		.next =
		"  See what came of each type:\n"
		"    SELECT record_type, offered, received, rejected, out_of_scope FROM sis_sync.run_count WHERE run_id = {run};\n"
		"  Then do ONE of these:\n"
		"  @ They should be there: have the export mended, then:\n"
		RUN_AGAIN
		"  @ It is really meant to be empty: until tomorrow, allow that all records of type {type} are archived, then try. They stay archived until the source sends them again.\n"
		"    INSERT INTO sis_sync.sync_threshold (sync, record_type, percent, valid_until) VALUES ({sync}, '{type}', 100, now() + '1 day') ON CONFLICT (sync, record_type) DO UPDATE SET percent = excluded.percent, valid_until = excluded.valid_until;\n"
		TRY_FIRST
	},
	{
		.code = "SI007",
		.says = "no student in scope",
		.facts = sis_facts_schools,
		.what = UNCHANGED "The export holds no student at any school that is set up. A run never takes that for the truth.",
		.figures =
		"SCHOOLS IN THE SOURCE\n"
		"  {schools}",
		.cause =
		"  - The source shares no students any more, or the file was exported empty.\n"
		"  - Or the schools that are set up are not the ones whose students came.",
		.next =
		"  Compare with the schools that are set up:\n"
		"    SELECT school_id, app_school FROM sis_sync.sync_school WHERE sync = {sync};\n"
		"  Have the export mended, then:\n"
		RUN_AGAIN
	},
	{
		.code = "SI007",
		.says = "is older than",
		.facts = sis_facts_source,
		.what = UNCHANGED "The export is older than the one that was taken over last.",
		.cause = "  - An old export lies in {place}, or the source was set back to an older state.",
		.next =
		"  Do ONE of these:\n"
		"  @ Have a new export sent, then:\n"
		RUN_AGAIN
		"  @ Going back to the older one is what you want: forget how new the last one was, then try.\n"
		"    UPDATE sis_sync.sync_state SET source_as_of = NULL WHERE sync = {sync};\n"
		TRY_FIRST
	},
	{
		.code = "SI007",
		.says = "are gone",
		.what = UNCHANGED "The rows that this run had fetched are no longer there.",
		.cause = "  - The database has crashed or was restored since, or other runs needed the room.",
		.next =
		"  Run the sync again; it fetches everything anew.\n"
		RUN_AGAIN
	},
	{
		.code = "SI007",
		.facts = sis_facts_source,
		.what = UNCHANGED "The export is incomplete. What is missing in it cannot be told from what has left.",
		.cause = "  - It was still being written, or broke off; or a file was left out.",
		.next =
		"  The error's own advice: {hint}\n"
		"  The export is in {place}. When it is whole:\n"
		RUN_AGAIN
	},

	/* ----------
	 * Runs and settings
	 * ----------
	 */
	{
		.code = "SI008",
		.facts = sis_facts_session,
		.what = "  Another run of this sync was under way. This one ended at once and has changed nothing.",
		.cause = "  - It was started twice: by a schedule and by hand, or by two schedules.",
		.next =
		"  {!pid}It has ended since. Run the sync, if it is still needed:\n"
		RUN_AGAIN
		"  {?pid}See the run that is under way, and wait for it to end:\n"
		"    SELECT id, started_at, phase, run_by FROM sis_sync.run WHERE sync = {sync} AND status = 'running';\n"
		"  {?pid}If it takes far longer than usual{usual}, cancel it; it then changes nothing:\n"
		"    SELECT pg_cancel_backend(pid) FROM sis_sync.progress WHERE sync = {sync};"
	},
	{
		.code = "SI009",
		.says = "has no schools",
		.facts = sis_facts_schools,
		.what = UNCHANGED "No school is set up for this sync.",
		.figures =
		"SCHOOLS IN THE SOURCE{?schools}\n"
		"  {schools}",
		.cause = "  - None was entered yet, or the last one was removed.",
		.next =
		"  Do ONE of these:\n"
		"  @ Enter each school to sync, by its ID in the source " IN_QUOTES ", then try:\n"
		"    INSERT INTO sis_sync.sync_school (sync, school_id) VALUES ({sync}, <SCHOOL ID>);\n"
		TRY_FIRST
		"  @ Take EVERY school of the source, now and later, with all its children. Only if the application is meant for all of them (write true for <TRUE>; false takes it back):\n"
		"    UPDATE sis_sync.sync SET all_schools = <TRUE> WHERE name = {sync};\n"
		TRY_FIRST
	},
	{
		.code = "SI009",
		.says = "has no user mapping",
		.facts = sis_facts_secrets,
		.what = UNCHANGED "The sync has no credentials for its source.",
		.cause = "  - No user mapping was made for the role that ran the sync, nor for PUBLIC.",
		.next =
		"  Enter them, then try " IN_QUOTES "; psql's history and the server's log may keep what you type:\n"
		"    {?sftp}CREATE USER MAPPING FOR PUBLIC SERVER {server} OPTIONS (username <USER>, password <PASSWORD>);\n"
		"    {?clever}CREATE USER MAPPING FOR PUBLIC SERVER {server} OPTIONS (token <TOKEN>);\n"
		"    {?oneroster}CREATE USER MAPPING FOR PUBLIC SERVER {server} OPTIONS (client_id <ID>, client_secret <SECRET>);\n"
		"    {?classlink}CREATE USER MAPPING FOR PUBLIC SERVER {server} OPTIONS (client_id <ID>, client_secret <SECRET>);\n"
		TRY_FIRST
	},
	{
		.code = "SI009",
		.what = UNCHANGED "Something that the sync needs is not set up.",
		.cause = "  - The message above names what is missing, or does not fit.",
		.next =
		"  # See how the sync is set up:\n"
		"    SELECT * FROM sis_sync.sync WHERE name = {sync};\n"
		"  # The error's own advice: {hint}\n"
		"  # Then try:\n"
		TRY_FIRST
	},

	/* ----------
	 * Rejects
	 * ----------
	 */
	{
		.code = "SI010",
		.facts = sis_facts_rejects,
		.what = UNCHANGED "Too many rows of the export could not be read, so that it is taken to be wrong as a whole.\n"
		"  A row that cannot be read is rejected: set aside, and written down with the reason. A person whose row is rejected keeps the record there is, and is not archived. Up to {reject_threshold} percent of a type's rows may be rejected, and never fewer than 5.",
		.figures =
		"WHAT WAS REJECTED\n"
		"  {rejects}",
		.cause =
		"  - {?bytes}Letters with accents are in another encoding than the one set ({now_encoding}; without one they are read as UTF8).\n"
		"  - {!bytes}A column that is required is empty, or was renamed.",
		.next =
		"  See the rows, with file and line:\n"
		"    SELECT record_type, source, line, source_id, column_name, reason FROM sis_sync.reject WHERE run_id = {run} AND NOT loaded ORDER BY source, line;\n"
		"  Then do ONE of these:\n"
		"  @ Have the export mended, then run the sync.\n"
		RUN_AGAIN
		"  @ {?bytes}The files are in Windows-1252: say so, then try. (ALTER SERVER {server} OPTIONS (DROP encoding) takes that back.)\n"
		"    ALTER SERVER {server} OPTIONS ({set_encoding} encoding 'WIN1252');\n"
		TRY_FIRST
		"  @ So many bad rows are to be lived with: allow more of them, {reject_threshold} percent now (write that again to take it back), then try. Who is on record keeps the record; who is new is not created.\n"
		"    UPDATE sis_sync.sync SET reject_threshold = <PERCENT> WHERE name = {sync};\n"
		TRY_FIRST
	},

	/* ----------
	 * IDs
	 * ----------
	 */
	{
		.code = "SI011",
		.facts = sis_facts_rekeyed,
		.what =
		UNCHANGED "Most people in the export seem to be the ones that are known already, under other IDs.\n"
		"  To take that as it comes would archive them all and create them anew, without what the application has about them.",
		.figures =
		"OLD AND NEW IDs\n"
		"  {matches}\n"
		"  {pairs}\n"
		"  {!pairs}No pair was found: the new records share nothing with those that are gone.",
		.cause =
		"  - {?zeros}The IDs have lost (or got) leading zeros: a spreadsheet program does that.\n"
		"  - {!zeros}The export was set up anew, with other IDs by mistake.\n"
		"  - The district has moved to another system: the IDs are new for good.",
		.next =
		"  First look at the pairs of old and new:\n"
		"    SELECT * FROM sis_sync.rekey_match WHERE run_id = {run};\n"
		"  Then do ONE of these:\n"
		"  @ The IDs were changed by mistake: have the export mended, then run the sync.\n"
		RUN_AGAIN
		"  @ {?pairs}They are the same people, under new IDs for good: give the records their new IDs. History and links stay. Then try.\n"
		"     The {unmatched} without a match keep their old IDs, and count as gone in the next run.\n"
		"    CALL sis_sync.rekey({run});\n"
		TRY_FIRST
		"     To take it back, undo the run that rekey has made: find it, and put its number for <RUN>.\n"
		"    SELECT max(id) FROM sis_sync.run WHERE sync = {sync} AND kind = 'rekey' AND of_run = {run};\n"
		"    CALL sis_sync.undo(<RUN>);\n"
		"  @ {?approvable}The old ones have really left and others came: approve that, then run the sync. It archives {held}, also those with a match, and takes the new ones as strangers. (A source that sends only changes has to send whole files for that.)\n"
		"     (in place of <...> write the reason, in single quotes)\n"
		"    SELECT sis_sync.approve({run}, <WHY THEY MAY GO>);\n"
		RUN_AGAIN
		"  @ {?approved}They may go, as approved: run the sync.\n"
		RUN_AGAIN
		"  @ {?approved}They may not go after all: withdraw the approval (as the owner of the extension).\n"
		"    UPDATE sis_sync.approval SET expires_at = now() WHERE run_id = {run} AND spent_run IS NULL;\n",
		.next_dry =
		"  A dry run cannot be decided on. Look at the pairs:\n"
		"    SELECT * FROM sis_sync.rekey_match WHERE run_id = {run};\n"
		"  If the IDs were changed by mistake, have the export mended. If not, run the sync, which will end in the same way, and decide on that run:\n"
		RUN_AGAIN
		EXPLAIN_IT
	},
	{
		.code = "SI012",
		.what = UNCHANGED "More records would be changed than this sync may update in one run (update_threshold). None was created or archived either.",
		.cause =
		"  - The export was changed: a column was moved, renamed or emptied, or all names are written otherwise.\n"
		"  - The district has changed something for everybody: grades at the start of a year, a new mail domain.\n"
		"  The columns that differ most often stand behind each figure above.",
		.next =
		"  First look at old and new values:\n"
		"    SELECT * FROM sis_sync.preview({run}) WHERE action = 'update';\n"
		"  Then do ONE of these:\n"
		"  @ {?approved}The new ones are right, as approved: run the sync.\n"
		RUN_AGAIN
		"  @ {!approved}The new ones are wrong: have the export mended, then run the sync.\n"
		RUN_AGAIN
		"  @ {?approvable}The new ones are right: let as many updates be made, in one run and within seven days, then run the sync.\n"
		"     (in place of <...> write the reason, in single quotes)\n"
		"    SELECT sis_sync.approve({run}, <WHY THEY ARE RIGHT>);\n"
		RUN_AGAIN
		"  @ {?lapsed}The new ones are right: the approval has lapsed. Run the sync once more, and approve that run.\n"
		RUN_AGAIN
		EXPLAIN_IT
		"  @ {!approved}So many are to be expected always: raise the limit ({update_threshold} percent now), or set none (NULL), then run the sync.\n"
		"    UPDATE sis_sync.sync SET update_threshold = <PERCENT> WHERE name = {sync};\n"
		RUN_AGAIN,
		.next_dry =
		"  A dry run cannot be decided on. Look at old and new values:\n"
		"    SELECT * FROM sis_sync.preview({run}) WHERE action = 'update';\n"
		"  If the new ones are wrong, have the export mended. If they are right, run the sync, which changes nothing while so many differ, and decide on that run:\n"
		RUN_AGAIN
		EXPLAIN_IT
	},

	/* ----------
	 * Ends without an error
	 * ----------
	 */
	{
		.code = "succeeded",
		.facts = sis_facts_counts,
		.what =
		"  It did not fail.\n"
		"  {!did}It found nothing to do: all is as in the export.",
		.figures =
		"WHAT IT DID{!dry}{?did}\n"
		"  {did}\n"
		"WHAT A REAL RUN WOULD DO{?dry}{?did}\n"
		"  {did}",
		.next =
		"  Nothing needs to be done.\n"
		"  {?did}{!undone}Should the data turn out to be wrong, this puts back what the run did:\n"
		"    CALL sis_sync.undo({run});",
		.next_dry =
		"  See each record, with old and new values:\n"
		"    SELECT * FROM sis_sync.preview({run}) WHERE action <> 'unchanged';\n"
		"  If that is what you want:\n"
		RUN_AGAIN
	},
	{
		.code = "interrupted",
		.what =
		UNCHANGED "The run's session ended before the run did. All or nothing of a run is written.",
		.cause = "  - The database server was restarted or crashed, or the connection was cut.",
		.next =
		"  Run it again: it does what is left to do.\n"
		RUN_AGAIN
	},
	{
		.code = "running",
		.facts = sis_facts_session,
		.what =
		"  {?pid}The run is under way, for {took} by now.\n"
		"  {!pid}No session is at it: it is done step by step and waits for its next step, or its session is gone, which the sync's next run will note.",
		.next =
		"  {?pid}Wait for it to end. If it takes far longer than usual{usual}, cancel it; it then changes nothing:\n"
		"    SELECT pg_cancel_backend(pid) FROM sis_sync.progress WHERE sync = {sync};\n"
		"  {!pid}If nobody does it step by step:\n"
		RUN_AGAIN
	},
	{.code = NULL}
};
