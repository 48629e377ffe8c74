/*
 * headers_total.c
 *		The total number of rows that a response's headers tell, by the function
 *		of src/provider/oneroster_pages.c, which is its own.
 */
#include "postgres.h"

#include "provider/oneroster_pages.c"

#include "headers_total.h"

int64
headers_total(const SisRestCall *call)
{
	return total_of(call);
}
