/*
 * source.h
 *		Where the data comes from: a foreign server and its user mapping.
 */
#ifndef SIS_SOURCE_H
#define SIS_SOURCE_H

#include "nodes/pg_list.h"

typedef struct SisSource
{
	Oid			serverid;
	char	   *server;			/* name of the foreign server */
	char	   *wrapper;		/* "sis_directory", … */
	List	   *options;		/* DefElems of the server */
	List	   *secrets;		/* DefElems of the user mapping; never printed */
	uint64		options_hash;	/* of the server's options: source_as_of is
								 * compared only while they are unchanged */
} SisSource;

/*
 * Reads the server and, where the wrapper has one, the user mapping of the
 * current user (else PUBLIC's).  Errors: SI009 when the server or the mapping
 * is missing, 42501 without USAGE on the server.  Result in the current
 * memory context.
 */
extern SisSource *sis_source_load(const char *server);

/* 42501 unless the current user has USAGE on the server, if there is one. */
extern void sis_source_check_usage(const char *server);

/* The value of a server option; NULL when it is not set. */
extern const char *sis_source_option(const SisSource *source,
									 const char *name);

/* The same for an option of the user mapping. */
extern const char *sis_source_secret(const SisSource *source,
									 const char *name);

#endif
