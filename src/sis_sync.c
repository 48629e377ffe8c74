/*
 * sis_sync.c
 *		Module entry.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
