/*
 * shim.h
 *		What the harness needs of the shim itself.
 */
#ifndef SHIM_H
#define SHIM_H

/* Ends the one memory context: its callbacks, then all its memory. */
extern void shim_reset(void);

/* Throws an error, to the innermost PG_TRY. */
extern void shim_throw(void) __attribute__((noreturn));

#endif
