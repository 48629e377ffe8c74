/*
 * ssh.h
 *		Who is at the other end of an SFTP transfer, and who we are: the host's
 *		key and the login.
 */
#ifndef SIS_SSH_H
#define SIS_SSH_H

#include "transport/transfer.h"

typedef struct SisSsh SisSsh;

/*
 * Reads host, port, keys and login from the source, and opens a session to it.
 * NULL, with SI009 in failure, when something is not set.  In the current
 * memory context.
 */
extern SisSsh *sis_ssh_open(const SisSource *source, SisFailure *failure);

/* Ends the session, and wipes what it took to log in. */
extern void sis_ssh_close(SisSsh *ssh);

extern SisSession *sis_ssh_session(const SisSsh *ssh);
extern const char *sis_ssh_host(const SisSsh *ssh);

/* True when the host has shown a key that is one of those configured. */
extern bool sis_ssh_knows_host(const SisSsh *ssh);

/*
 * A transfer of that path on the host: absolute, or "~/…".  Its options may be
 * added to before sis_transfer_start().
 */
extern SisTransfer *sis_ssh_transfer(SisSsh *ssh, const char *path,
									 const SisTarget *target);

/*
 * To be called when the first transfer of a connection has brought something:
 * the private key is needed no longer.
 */
extern void sis_ssh_logged_in(SisSsh *ssh);

/*
 * Writes down why a transfer failed: SI004 for the host, its key or the
 * connection, SI002 for the login.  Always returns false.
 */
extern bool sis_ssh_fail(const SisSsh *ssh, const SisTransfer *transfer,
						 SisFailure *failure);

#endif
