/*
 * compat.h
 *		Differences between PostgreSQL 14 and 18, in words.
 */
#ifndef SIS_COMPAT_H
#define SIS_COMPAT_H

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* before, SPI_commit() began no new transaction */
#if PG_VERSION_NUM < 140003
#error "sis_sync needs PostgreSQL 14.3 or newer"
#endif

/* known to files that include libcurl's header, which they do first */
#if defined(LIBCURL_VERSION_NUM) && LIBCURL_VERSION_NUM < 0x075700
#error "sis_sync needs libcurl 7.87 or newer"
#endif

/* libcurl's "too large", which it has since 8.6 */
#if defined(LIBCURL_VERSION_NUM) && LIBCURL_VERSION_NUM >= 0x080600
#define sis_curl_is_too_large(result)	((result) == CURLE_TOO_LARGE)
#else
#define sis_curl_is_too_large(result)	false
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#define sis_server_aclcheck(oid, role, mode) \
	object_aclcheck(ForeignServerRelationId, oid, role, mode)
#define sis_namespace_aclcheck(oid, role, mode) \
	object_aclcheck(NamespaceRelationId, oid, role, mode)
#else
#define sis_server_aclcheck(oid, role, mode) \
	pg_foreign_server_aclcheck(oid, role, mode)
#define sis_namespace_aclcheck(oid, role, mode) \
	pg_namespace_aclcheck(oid, role, mode)
#endif

/*
 * Checks a query's access to the tables of a schema against a role instead of
 * the current user.
 */
static inline void
sis_check_as_user(Query *query, Oid namespace, Oid role)
{
	ListCell   *lc;

#if PG_VERSION_NUM >= 160000
	foreach(lc, query->rteperminfos)
	{
		RTEPermissionInfo *info = lfirst_node(RTEPermissionInfo, lc);

		if (get_rel_namespace(info->relid) == namespace)
			info->checkAsUser = role;
	}
#else
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION &&
			get_rel_namespace(rte->relid) == namespace)
			rte->checkAsUser = role;
	}
#endif
}

/* A set of at most n events that belongs to no resource owner. */
static inline WaitEventSet *
sis_wait_event_set_create(int n)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, n);
#else
	return CreateWaitEventSet(TopMemoryContext, n);
#endif
}

/* What pg_stat_activity shows while we wait: that name, where it can. */
static inline uint32
sis_wait_event_new(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* Functions named in the install script. */
#define SIS_FUNCTION(name) \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

#endif
