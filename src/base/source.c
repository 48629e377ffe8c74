/*
 * source.c
 *		Where the data comes from: a foreign server and its user mapping.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "base/compat.h"
#include "base/error.h"
#include "base/fingerprint.h"
#include "base/source.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

static int
compare_options(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst_node(DefElem, a)->defname,
				  lfirst_node(DefElem, b)->defname);
}

/* The same for the same options, in whatever order they were set. */
static uint64
hash_options(List *options)
{
	StringInfoData buf;
	List	   *sorted = list_copy(options);
	ListCell   *lc;

	initStringInfo(&buf);
	list_sort(sorted, compare_options);
	foreach(lc, sorted)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		appendBinaryStringInfo(&buf, def->defname, strlen(def->defname) + 1);
		appendBinaryStringInfo(&buf, defGetString(def),
							   strlen(defGetString(def)) + 1);
	}
	return sis_hash64(buf.data, buf.len, 0);
}

/*
 * The options of the user's mapping, else PUBLIC's.  Not GetUserMapping():
 * it raises its own error when there is none, and ours says what to type.
 */
static bool
load_mapping(Oid userid, Oid serverid, List **options)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
										ObjectIdGetDatum(userid),
										ObjectIdGetDatum(serverid));
	Datum		datum;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
								ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		return false;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							Anum_pg_user_mapping_umoptions, &isnull);
	*options = isnull ? NIL : untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return true;
}

static void
check_usage(const ForeignServer *fs)
{
	if (sis_server_aclcheck(fs->serverid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", fs->servername),
				 errhint("Its owner can run GRANT USAGE ON FOREIGN SERVER %s TO %s.",
						 quote_identifier(fs->servername),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

void
sis_source_check_usage(const char *server)
{
	ForeignServer *fs = GetForeignServerByName(server, true);

	if (fs != NULL)
		check_usage(fs);
}

SisSource *
sis_source_load(const char *server)
{
	ForeignServer *fs = GetForeignServerByName(server, true);
	ForeignDataWrapper *fdw;
	SisSource  *source;

	if (fs == NULL)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("server \"%s\" does not exist", server),
				 errhint("Create it with CREATE SERVER, or name another one in sis_sync.sync.server.")));
	check_usage(fs);
	fdw = GetForeignDataWrapper(fs->fdwid);
	if (strncmp(fdw->fdwname, "sis_", 4) != 0)
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("server \"%s\" is no source of sis_sync", server),
				 errdetail("It belongs to the foreign-data wrapper \"%s\".",
						   fdw->fdwname),
				 errhint("Use a server of sis_directory, sis_sftp, sis_clever, sis_oneroster or sis_classlink.")));

	source = palloc0(sizeof(SisSource));
	source->serverid = fs->serverid;
	source->server = pstrdup(server);
	source->wrapper = pstrdup(fdw->fdwname);
	source->options = fs->options;
	source->options_hash = hash_options(fs->options);

	/* a folder needs no secrets, and so no mapping */
	if (strcmp(source->wrapper, "sis_directory") != 0 &&
		!load_mapping(GetUserId(), fs->serverid, &source->secrets))
		ereport(ERROR,
				(sis_errcode(SIS_ERR_NOT_CONFIGURED),
				 errmsg("server \"%s\" has no user mapping for role \"%s\"",
						server, GetUserNameFromId(GetUserId(), false)),
				 errhint("Create it with CREATE USER MAPPING FOR PUBLIC SERVER %s OPTIONS (...).",
						 quote_identifier(server))));
	return source;
}

static const char *
find_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

const char *
sis_source_option(const SisSource *source, const char *name)
{
	return find_option(source->options, name);
}

const char *
sis_source_secret(const SisSource *source, const char *name)
{
	return find_option(source->secrets, name);
}
