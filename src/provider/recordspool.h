/*
 * recordspool.h
 *		Records on their way from the network to a sink.
 *
 * What a service sends becomes records while it comes, before there is a
 * sink: fetching is done before anything is held that others wait for.  They
 * wait here, encrypted where they reach a disk (transport/spool.h).  Only what
 * is mapped is in them: no password, no key that nobody asked for.
 *
 * A page of a service is all or nothing: its records are put into a sink of
 * its own, and count when the page has come whole.
 */
#ifndef SIS_RECORDSPOOL_H
#define SIS_RECORDSPOOL_H

#include "provider/provider.h"

typedef struct SisRecordSpool SisRecordSpool;

/*
 * An empty spool in the current memory context, to be used up in the current
 * (sub)transaction.  wants must outlive it.
 */
extern SisRecordSpool *sis_recordspool_create(const SisWants *wants);

/* Frees it, and its files, at once. */
extern void sis_recordspool_free(SisRecordSpool *spool);

/*
 * A sink for the records of one page; any number may be open.  Of the members
 * of SisSink, put(), reject(), row_read() and wants can be used.  put() and
 * reject() copy all they are given.
 */
extern SisSink *sis_recordspool_page(SisRecordSpool *spool);

/* The page has come whole: its records are the spool's.  Frees the sink. */
extern void sis_recordspool_commit(SisSink *page);

/* The page has failed: it never was.  Frees the sink. */
extern void sis_recordspool_discard(SisSink *page);

/*
 * Says that what the spool has of these columns (SIS_COLUMN_BIT) of a type is
 * all there is, be it nothing: stored values do not stay.
 */
extern void sis_recordspool_say(SisRecordSpool *spool, SisRecordType type,
								uint64 columns);

/* Rows counted by row_read() in committed pages, of all types. */
extern int64 sis_recordspool_rows(const SisRecordSpool *spool);

/*
 * Puts all that was committed into a sink, page by page as they were
 * committed.  A column without a value in all records of a type is one that
 * the service does not share: the stored values stay (SisRecord.keep).
 */
extern void sis_recordspool_replay(SisRecordSpool *spool, SisSink *sink);

#endif
