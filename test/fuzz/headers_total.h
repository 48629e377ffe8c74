/*
 * headers_total.h
 *		The total number of rows that a response's headers tell.
 */
#ifndef HEADERS_TOTAL_H
#define HEADERS_TOTAL_H

#include "provider/rest.h"

extern int64 headers_total(const SisRestCall *call);

#endif
