/*
 * sink.h
 *		A sink that takes what a provider makes of hostile input, and checks
 *		that each record keeps what providers promise.
 */
#ifndef FUZZ_SINK_H
#define FUZZ_SINK_H

#include "provider/provider.h"

/*
 * Empties it for another pull, which wants demographics and the extra columns
 * named here; in the current memory context.
 */
extern SisSink *fuzz_sink(char **extra_columns, int nextra_columns);

/* How many rows were taken and refused since. */
extern int	fuzz_sink_count(void);

#endif
