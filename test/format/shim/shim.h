/*
 * shim.h
 *		What the harness needs of the shim itself.
 */
#ifndef SHIM_H
#define SHIM_H

/* Ends all memory contexts: their callbacks, then their memory. */
extern void shim_reset(void);

/* Throws an error, to the innermost PG_TRY. */
extern void shim_throw(void) __attribute__((noreturn));

/* Are the messages of errors kept back? */
extern bool shim_quiet;

#endif
