/*
 * ssh.c
 *		Who is at the other end of an SFTP transfer, and who we are: the host's
 *		key and the login.
 *
 * libcurl takes any host key unless told otherwise, so one that is configured
 * is always asked for; without one, no secret is given to libcurl, the
 * connection ends at the host's key, and the error tells its fingerprint.
 *
 * libcurl wants the private key and the known hosts as files.  They are files
 * in memory, which no other process can open by name.  libssh2 has read the
 * key when the login is done, and then it is wiped.
 *
 * Why a login failed, libcurl says only in the text that it writes for
 * debugging, so that is listened to.
 */
#include "postgres.h"

#include <ctype.h>
#include <sys/mman.h>
#include <unistd.h>

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/compat.h"
#include "storage/fd.h"
#include "transport/ssh.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define DEFAULT_PORT		22
#define HASH_SIZE			32
#define FINGERPRINT_SIZE	43	/* base64 without its padding */
#define SEPARATORS			" ,\t\r\n"

/* As much of a private key as tells its kind, and how it is encrypted. */
#define KEY_HEAD			240

/*
 * Rounds of bcrypt between a passphrase and its key: 16 to 24 by default, and
 * each takes 10 ms and more in which nothing else happens.  The text can ask
 * for years of them.
 */
#define MAX_ROUNDS			128

/* What libcurl writes before these: until 8.20, and since. */
static const char *const methods_texts[] = {
	"SSH authentication methods available: ",
	"SSH: host offers authentication via: ",
	NULL
};
static const char *const key_failed_texts[] = {
	"SSH public key authentication failed: ",
	"SSH: publickey authentication denied: ",
	NULL
};

typedef struct MemoryFile
{
	int			fd;				/* -1: none */
	char		path[32];
} MemoryFile;

struct SisSsh
{
	const char *server;			/* name of the foreign server */
	const char *host;
	int			port;
	const char *fingerprints;	/* accepted, or NULL */
	const char *known_hosts;	/* or NULL */
	const char *username;
	const char *password;		/* or NULL */
	const char *private_key;	/* or NULL */
	const char *passphrase;		/* or NULL */
	MemoryFile	key_file;
	bool		key_is_there;	/* in its file */
	MemoryFile	known_hosts_file;
	SisSession *session;

	/* what the host said, written by libcurl's callbacks: */
	bool		key_seen;
	bool		key_refused;
	bool		key_is_known;	/* known_hosts has another one of this host */
	const char *key_type;
	char		fingerprint[FINGERPRINT_SIZE + 2];
	char		methods[100];	/* ways to log in */
	char		key_text[160];	/* why our key was of no use */
	MemoryContextCallback callback;
};

/* ----------
 * Files in memory
 * ----------
 */

/* NB: must not ereport. */
static void
close_file(MemoryFile *file)
{
	if (file->fd < 0)
		return;
	close(file->fd);
	file->fd = -1;
	ReleaseExternalFD();
}

static void
wipe_file(MemoryFile *file)
{
	if (file->fd >= 0 && ftruncate(file->fd, 0) != 0)
		close_file(file);
}

static void
write_file(MemoryFile *file, const char *text)
{
	size_t		len = strlen(text);
	off_t		offset = 0;

	if (file->fd < 0)
	{
		if (!AcquireExternalFD())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not open a file in memory: %m")));
		file->fd = memfd_create("sis_sync", MFD_CLOEXEC);
		if (file->fd < 0)
		{
			ReleaseExternalFD();
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not open a file in memory: %m")));
		}
		snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
	}
	while ((size_t) offset < len)
	{
		ssize_t		n = pwrite(file->fd, text + offset, len - offset, offset);

		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write a file in memory: %m")));
		offset += n;
	}
	/* texts that were pasted often lack the end of their last line */
	if (len > 0 && text[len - 1] != '\n' &&
		pwrite(file->fd, "\n", 1, offset) != 1)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write a file in memory: %m")));
}

/* ----------
 * Callbacks of libcurl.  NB: must not ereport.
 * ----------
 */

/* Notes the fingerprint of the host's key, as ssh-keygen prints it. */
static bool
note_host_key(SisSsh *ssh, int type, const char *key, size_t len)
{
	unsigned char hash[HASH_SIZE];
	unsigned char base64[FINGERPRINT_SIZE + 2];

	ssh->key_type = type == CURLKHTYPE_ED25519 ? "ed25519" :
		type == CURLKHTYPE_ECDSA ? "ecdsa" :
		type == CURLKHTYPE_RSA ? "rsa" : "host";
	if (EVP_Digest(key, len, hash, NULL, EVP_sha256(), NULL) != 1)
		return false;
	EVP_EncodeBlock(base64, hash, HASH_SIZE);
	memcpy(ssh->fingerprint, base64, FINGERPRINT_SIZE);
	ssh->fingerprint[FINGERPRINT_SIZE] = '\0';
	ssh->key_seen = true;
	return true;
}

/* With or without SHA256: before it and = after it. */
static bool
is_accepted(const SisSsh *ssh)
{
	const char *p = ssh->fingerprints;

	while (p != NULL && *(p += strspn(p, SEPARATORS)) != '\0')
	{
		size_t		len = strcspn(p, SEPARATORS);
		size_t		start = strncmp(p, "SHA256:", 7) == 0 ? 7 : 0;

		if (len - start >= FINGERPRINT_SIZE &&
			strncmp(p + start, ssh->fingerprint, FINGERPRINT_SIZE) == 0)
			return true;
		p += len;
	}
	return false;
}

static int
on_host_key(void *arg, int type, const char *key, size_t len)
{
	SisSsh	   *ssh = arg;

	if (note_host_key(ssh, type, key, len) && is_accepted(ssh))
		return CURLKHMATCH_OK;
	ssh->key_refused = true;
	return CURLKHMATCH_MISMATCH;
}

static int
on_known_host(CURL *easy, const struct curl_khkey *known,
			  const struct curl_khkey *found, enum curl_khmatch match,
			  void *arg)
{
	SisSsh	   *ssh = arg;

	note_host_key(ssh, (int) found->keytype, found->key,
				  found->len > 0 ? found->len : strlen(found->key));
	if (match == CURLKHMATCH_OK)
		return CURLKHSTAT_FINE;
	ssh->key_refused = true;
	ssh->key_is_known = match == CURLKHMATCH_MISMATCH;
	return CURLKHSTAT_REJECT;
}

/* Copies what follows one of these beginnings, up to the end of the line. */
static void
note_text(char *to, size_t size, const char *const *beginnings,
		  const char *text, size_t len)
{
	size_t		skip = 0;
	size_t		n = 0;

	for (; *beginnings != NULL; beginnings++)
	{
		skip = strlen(*beginnings);
		if (len >= skip && memcmp(text, *beginnings, skip) == 0)
			break;
	}
	if (*beginnings == NULL)
		return;
	for (; skip < len && n < size - 1 && text[skip] != '\n'; skip++)
		to[n++] = text[skip] < ' ' || text[skip] > '~' ? '?' : text[skip];
	to[n] = '\0';
}

static int
on_debug(CURL *easy, curl_infotype type, char *text, size_t len, void *arg)
{
	SisSsh	   *ssh = arg;

	if (type != CURLINFO_TEXT)
		return 0;
	note_text(ssh->methods, sizeof(ssh->methods), methods_texts, text, len);
	note_text(ssh->key_text, sizeof(ssh->key_text), key_failed_texts, text, len);
	return 0;
}

/* ----------
 * Private keys
 * ----------
 */

/* The binary beginning of a private key's text; its length, 0 if it has none. */
static int
decode_key_head(const char *text, unsigned char *head)
{
	unsigned char base64[KEY_HEAD / 3 * 4];
	const char *p = strstr(text, "-----BEGIN ");
	int			n = 0;
	int			len;

	p = p != NULL ? strstr(p, "PRIVATE KEY-----") : NULL;
	if (p == NULL)
		return 0;
	for (p += 16; n < (int) sizeof(base64); p++)
	{
		if (isspace((unsigned char) *p))
			continue;
		if (!isalnum((unsigned char) *p) && *p != '+' && *p != '/')
			break;
		base64[n++] = (unsigned char) *p;
	}
	len = EVP_DecodeBlock(head, base64, n / 4 * 4);
	OPENSSL_cleanse(base64, sizeof(base64));
	return Max(len, 0);
}

static bool
contains(const unsigned char *data, int len, const char *what, int what_len)
{
	for (int i = 0; i + what_len <= len; i++)
	{
		if (memcmp(data + i, what, what_len) == 0)
			return true;
	}
	return false;
}

#define OPENSSH_MAGIC	"openssh-key-v1"
#define OPENSSH_PLAIN	"\0\0\0\4none"
#define RSA_OID			"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01"

/* Moves over a string as SSH writes it: four bytes of length come first. */
static bool
skip_string(const unsigned char **p, const unsigned char *end)
{
	size_t		len;

	if (end - *p < 4)
		return false;
	len = (size_t) (*p)[0] << 24 | (*p)[1] << 16 | (*p)[2] << 8 | (*p)[3];
	if ((size_t) (end - *p - 4) < len)
		return false;
	*p += 4 + len;
	return true;
}

/*
 * Could libssh2 try to open this key for longer than anybody waits?  It cannot
 * be told to stop, so what is not known to be quick is not given to it.
 */
static bool
is_slow_to_open(const char *text)
{
	unsigned char head[KEY_HEAD];
	const unsigned char *end = head + decode_key_head(text, head);
	const unsigned char *p = head + sizeof(OPENSSH_MAGIC);
	const char *begin = strstr(text, "-----BEGIN ");
	bool		slow;

	/* of several keys it may take another one than we look at */
	if (begin != NULL && strstr(begin + 1, "-----BEGIN ") != NULL)
		return true;
	if (strstr(text, "BEGIN OPENSSH PRIVATE KEY") == NULL)
		return strstr(text, "BEGIN ENCRYPTED PRIVATE KEY") != NULL;

	/* magic; cipher; name of the way from passphrase to key; salt and rounds */
	slow = end < p || memcmp(head, OPENSSH_MAGIC, sizeof(OPENSSH_MAGIC)) != 0 ||
		!skip_string(&p, end) || !skip_string(&p, end);
	if (!slow && end - p >= 4 && memcmp(p, "\0\0\0\0", 4) != 0)
	{
		p += 4;
		slow = !skip_string(&p, end) || end - p < 4 ||
			p[0] != 0 || p[1] != 0 || p[2] != 0 || p[3] > MAX_ROUNDS;
	}
	OPENSSL_cleanse(head, sizeof(head));
	return slow;
}

/* ----------
 * Opening
 * ----------
 */

/* NB: must not ereport. */
static void
clean_up(void *arg)
{
	SisSsh	   *ssh = arg;

	close_file(&ssh->key_file);
	close_file(&ssh->known_hosts_file);
}

static bool
fail_not_set(const SisSource *source, const char *option, bool of_mapping,
			 SisFailure *failure)
{
	const char *server = quote_identifier(source->server);

	return sis_fail(failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
					of_mapping ?
					psprintf("Set it with ALTER USER MAPPING FOR ... SERVER %s OPTIONS (ADD %s '...').",
							 server, option) :
					psprintf("Set it with ALTER SERVER %s OPTIONS (ADD %s '...').",
							 server, option),
					of_mapping ?
					"the user mapping of server \"%s\" has no option \"%s\"" :
					"server \"%s\" has no option \"%s\"",
					source->server, option);
}

static bool
is_configured(const SisSsh *ssh, const SisSource *source, SisFailure *failure)
{
	const char *library = curl_version_info(CURLVERSION_NOW)->libssh_version;

	/* with another one it could not verify the host as we ask it to */
	if (library == NULL || strncmp(library, "libssh2/", 8) != 0)
		return sis_fail(failure, SIS_ERR_NOT_CONFIGURED, NULL,
						psprintf("It is built with %s.",
								 library != NULL ? library : "no such library"),
						"Install a libcurl that is built with libssh2, as Debian's is.",
						"the libcurl of this machine cannot be used for SFTP");
	if (ssh->host == NULL)
		return fail_not_set(source, "host", false, failure);
	if (strpbrk(ssh->host, "/@?#\\ \t\r\n") != NULL)
		return sis_fail(failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
						"It takes the name or the address of a host; port, path and user have options of their own.",
						"the option \"host\" of server \"%s\" is no host",
						source->server);
	if (ssh->username == NULL)
		return fail_not_set(source, "username", true, failure);
	if (ssh->password == NULL && ssh->private_key == NULL)
		return sis_fail(failure, SIS_ERR_NOT_CONFIGURED, NULL, NULL,
						psprintf("Set one with ALTER USER MAPPING FOR ... SERVER %s OPTIONS (ADD password '...').",
								 quote_identifier(source->server)),
						"the user mapping of server \"%s\" has neither a password nor a private key",
						source->server);
	if (ssh->passphrase != NULL && ssh->private_key != NULL &&
		is_slow_to_open(ssh->private_key))
		return sis_fail(failure, SIS_ERR_CREDENTIALS, NULL,
						psprintf("It is damaged, or in the format PKCS #8, or one of several in the text, or has more than %d rounds between passphrase and key.",
								 MAX_ROUNDS),
						psprintf("Have ssh-keygen -p -a 16 -f FILE write it, and set the text of that file with ALTER USER MAPPING FOR ... SERVER %s.",
								 quote_identifier(source->server)),
						"the encrypted private key for server \"%s\" might take too long to open",
						source->server);
	return true;
}

SisSsh *
sis_ssh_open(const SisSource *source, SisFailure *failure)
{
	SisSsh	   *ssh = palloc0(sizeof(SisSsh));
	const char *port = sis_source_option(source, "port");

	ssh->server = source->server;
	ssh->host = sis_source_option(source, "host");
	ssh->port = port != NULL ? (int) strtol(port, NULL, 10) : DEFAULT_PORT;
	ssh->fingerprints = sis_source_option(source, "host_key_sha256");
	ssh->known_hosts = sis_source_option(source, "known_hosts");
	ssh->username = sis_source_secret(source, "username");
	ssh->password = sis_source_secret(source, "password");
	ssh->private_key = sis_source_secret(source, "private_key");
	ssh->passphrase = sis_source_secret(source, "passphrase");
	if (!is_configured(ssh, source, failure))
		return NULL;

	ssh->key_file.fd = ssh->known_hosts_file.fd = -1;
	ssh->callback.func = clean_up;
	ssh->callback.arg = ssh;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &ssh->callback);
	if (ssh->fingerprints == NULL && ssh->known_hosts != NULL)
		write_file(&ssh->known_hosts_file, ssh->known_hosts);
	ssh->session = sis_session_open(source);
	return ssh;
}

void
sis_ssh_close(SisSsh *ssh)
{
	sis_session_close(ssh->session);
	clean_up(ssh);
}

SisSession *
sis_ssh_session(const SisSsh *ssh)
{
	return ssh->session;
}

const char *
sis_ssh_host(const SisSsh *ssh)
{
	return ssh->host;
}

bool
sis_ssh_knows_host(const SisSsh *ssh)
{
	return ssh->key_seen && !ssh->key_refused;
}

/* ----------
 * Transfers
 * ----------
 */

/* sftp://host:port/path, everything unusual in the path encoded. */
static char *
make_url(const SisSsh *ssh, const char *path)
{
	StringInfoData url;
	bool		is_ipv6 = strchr(ssh->host, ':') != NULL &&
		ssh->host[0] != '[';

	initStringInfo(&url);
	appendStringInfo(&url, is_ipv6 ? "sftp://[%s]:%d" : "sftp://%s:%d",
					 ssh->host, ssh->port);
	if (path[0] == '~')
		appendStringInfoChar(&url, '/');
	for (const unsigned char *p = (const unsigned char *) path; *p != '\0'; p++)
	{
		if (*p < 0x80 && (isalnum(*p) || strchr("/~-._", *p) != NULL))
			appendStringInfoChar(&url, *p);
		else
			appendStringInfo(&url, "%%%02X", *p);
	}
	return url.data;
}

/* The host is who it should be, or else nothing secret is sent. */
static void
set_host_key_options(SisSsh *ssh, SisTransfer *transfer)
{
	if (ssh->known_hosts_file.fd >= 0)
	{
		sis_transfer_set(transfer, CURLOPT_SSH_KNOWNHOSTS,
						 ssh->known_hosts_file.path);
		sis_transfer_set(transfer, CURLOPT_SSH_KEYFUNCTION, on_known_host);
		sis_transfer_set(transfer, CURLOPT_SSH_KEYDATA, ssh);
	}
	else
	{
		sis_transfer_set(transfer, CURLOPT_SSH_HOSTKEYFUNCTION, on_host_key);
		sis_transfer_set(transfer, CURLOPT_SSH_HOSTKEYDATA, ssh);
	}
}

static void
set_login_options(SisSsh *ssh, SisTransfer *transfer)
{
	sis_transfer_set(transfer, CURLOPT_USERNAME, ssh->username);
	if (ssh->fingerprints == NULL && ssh->known_hosts == NULL)
	{
		sis_transfer_set(transfer, CURLOPT_SSH_AUTH_TYPES,
						 (long) CURLSSH_AUTH_NONE);
		return;
	}
	if (ssh->private_key == NULL)
	{
		sis_transfer_set(transfer, CURLOPT_SSH_AUTH_TYPES,
						 (long) (CURLSSH_AUTH_PASSWORD |
								 CURLSSH_AUTH_KEYBOARD));
		sis_transfer_set(transfer, CURLOPT_PASSWORD, ssh->password);
		return;
	}
	/* the same path each time, or libcurl takes no connection again */
	if (!ssh->key_is_there)
		write_file(&ssh->key_file, ssh->private_key);
	ssh->key_is_there = true;
	sis_transfer_set(transfer, CURLOPT_SSH_AUTH_TYPES,
					 (long) CURLSSH_AUTH_PUBLICKEY);
	sis_transfer_set(transfer, CURLOPT_SSH_PRIVATE_KEYFILE,
					 ssh->key_file.path);
	if (ssh->passphrase != NULL)
		sis_transfer_set(transfer, CURLOPT_KEYPASSWD, ssh->passphrase);
}

SisTransfer *
sis_ssh_transfer(SisSsh *ssh, const char *path, const SisTarget *target)
{
	SisTransfer *transfer = sis_transfer_create(ssh->session, ssh->host,
												ssh->port, true, target);

	sis_transfer_set(transfer, CURLOPT_URL, make_url(ssh, path));
	sis_transfer_set(transfer, CURLOPT_PATH_AS_IS, 1L);
	sis_transfer_set(transfer, CURLOPT_PROTOCOLS_STR, "sftp");
	sis_transfer_set(transfer, CURLOPT_VERBOSE, 1L);
	sis_transfer_set(transfer, CURLOPT_DEBUGFUNCTION, on_debug);
	sis_transfer_set(transfer, CURLOPT_DEBUGDATA, ssh);
	set_host_key_options(ssh, transfer);
	set_login_options(ssh, transfer);
	return transfer;
}

void
sis_ssh_logged_in(SisSsh *ssh)
{
	wipe_file(&ssh->key_file);
	ssh->key_is_there = false;
}

/* ----------
 * What went wrong
 * ----------
 */

/* With the fingerprint received, and what to type if it is the right one. */
static bool
fail_host_key(const SisSsh *ssh, SisFailure *failure)
{
	const char *detail = psprintf("The host presented the %s key SHA256:%s.",
								  ssh->key_type, ssh->fingerprint);
	const char *server = quote_identifier(ssh->server);

	if (ssh->fingerprints == NULL && ssh->known_hosts == NULL)
		return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, detail,
						psprintf("Compare it with what the site's administrator tells you; if it is the same, run ALTER SERVER %s OPTIONS (ADD host_key_sha256 'SHA256:%s').",
								 server, ssh->fingerprint),
						"cannot verify host \"%s\" port %d: no host key is configured",
						ssh->host, ssh->port);
	if (ssh->fingerprints != NULL)
		return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, detail,
						psprintf("This may be an attack. If the site's administrator confirms the key, run ALTER SERVER %s OPTIONS (SET host_key_sha256 'SHA256:%s'); a host with several keys can have several fingerprints there.",
								 server, ssh->fingerprint),
						"the key of host \"%s\" port %d is not one of those configured",
						ssh->host, ssh->port);
	return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL, detail,
					psprintf("This may be an attack. If the site's administrator confirms the key, write it into known_hosts, or run ALTER SERVER %s OPTIONS (ADD host_key_sha256 'SHA256:%s', DROP known_hosts).",
							 server, ssh->fingerprint),
					ssh->key_is_known ?
					"the key of host \"%s\" port %d is not the one in known_hosts" :
					"host \"%s\" port %d is not in known_hosts",
					ssh->host, ssh->port);
}

/* Before 1.11 libssh2 signs with RSA only by SHA-1, which hosts refuse now. */
static bool
rsa_is_of_use(void)
{
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
	int			major;
	int			minor;

	return info->libssh_version == NULL ||
		sscanf(info->libssh_version, "libssh2/%d.%d", &major, &minor) != 2 ||
		major > 1 || minor >= 11;
}

/* What can be told from the private key's text about its being refused. */
static const char *
explain_private_key(const SisSsh *ssh)
{
	unsigned char head[KEY_HEAD];
	int			len = decode_key_head(ssh->private_key, head);
	bool		is_openssh = contains(head, len, OPENSSH_MAGIC,
									  sizeof(OPENSSH_MAGIC) - 1);
	bool		is_encrypted = is_openssh ?
		!contains(head, len, OPENSSH_PLAIN, sizeof(OPENSSH_PLAIN) - 1) :
		strstr(ssh->private_key, "ENCRYPTED") != NULL;
	bool		is_rsa = strstr(ssh->private_key, "BEGIN RSA") != NULL ||
		contains(head, len, "ssh-rsa", 7) ||
		contains(head, len, RSA_OID, sizeof(RSA_OID) - 1);

	OPENSSL_cleanse(head, sizeof(head));
	if (strstr(ssh->key_text, "private key file") == NULL)
		return is_rsa && !rsa_is_of_use() ?
			"The host did not take the private key for this user. It is an RSA key, which libssh2 before 1.11 signs only in a way that hosts of today refuse: an ed25519 or ecdsa key is needed." :
			"The host did not take the private key for this user: the user name may be wrong, or the public key is not in its authorized_keys.";
	if (len == 0)
		return "The text of \"private_key\" is not a private key: it begins with -----BEGIN and holds the whole file.";
	if (!is_encrypted)
		return "The text of \"private_key\" cannot be read as a private key: it may be cut or damaged.";
	return ssh->passphrase == NULL ?
		"The private key is encrypted, and the user mapping has no passphrase." :
		"The passphrase does not open the private key.";
}

static bool
fail_login(const SisSsh *ssh, SisFailure *failure)
{
	const char *detail;
	const char *method = ssh->private_key != NULL ? "publickey" : "password";

	if (ssh->methods[0] != '\0' && strstr(ssh->methods, method) == NULL &&
		(ssh->private_key != NULL ||
		 strstr(ssh->methods, "keyboard-interactive") == NULL))
		detail = psprintf("The host does not offer a login by %s to this user, but by %s.",
						  ssh->private_key != NULL ? "private key" : "password",
						  ssh->methods);
	else if (ssh->private_key != NULL)
		detail = explain_private_key(ssh);
	else
		detail = "The host did not take the password for this user: either may be wrong.";
	return sis_fail(failure, SIS_ERR_CREDENTIALS, NULL, detail,
					psprintf("Set what is right with ALTER USER MAPPING FOR ... SERVER %s.",
							 quote_identifier(ssh->server)),
					"the login to host \"%s\" port %d was refused",
					ssh->host, ssh->port);
}

bool
sis_ssh_fail(const SisSsh *ssh, const SisTransfer *transfer,
			 SisFailure *failure)
{
	int			code = sis_transfer_code(transfer);
	const char *text = sis_transfer_text(transfer);

	if (sis_transfer_end(transfer) != SIS_END_FAILED)
		return sis_transfer_fail(transfer, failure);
	if (ssh->key_refused)
		return fail_host_key(ssh, failure);
	if (code == CURLE_LOGIN_DENIED)
		return fail_login(ssh, failure);
	if (!sis_ssh_knows_host(ssh) &&
		(code == CURLE_FAILED_INIT || code == CURLE_SSH))
		return sis_fail(failure, SIS_ERR_UNAVAILABLE, NULL,
						psprintf("libcurl: %s.", text),
						strstr(text, "banner") != NULL ?
						"The host did not even greet: it may be no SSH server, have too many connections, or shut this machine out for some minutes after logins that failed." :
						"The host needs a key of type ecdsa or ed25519; an RSA key alone may be of no use.",
						"could not agree on SSH with \"%s\" port %d",
						ssh->host, ssh->port);
	return sis_transfer_fail(transfer, failure);
}
