/*
 * option.c
 *		The options of the foreign-data wrappers, checked when they are set.
 *
 * How it works: one table names every option, the wrappers that have it, the
 * catalog it belongs to and the check of its value.  CREATE and ALTER of a
 * server or user mapping call the wrapper's validator with all options.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "access/reloptions.h"
#include "base/compat.h"
#include "base/error.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"

#define DIRECTORY	1
#define SFTP		2
#define CLEVER		4
#define ONEROSTER	8
#define CLASSLINK	16
#define REST		(ONEROSTER | CLASSLINK)
#define FILES		(DIRECTORY | SFTP)
#define NETWORK		(SFTP | CLEVER | REST)

typedef enum OptionCheck
{
	CHECK_ANY,					/* any text but the empty one */
	CHECK_SERVER_PATH,			/* absolute; needs pg_read_server_files */
	CHECK_SFTP_PATH,			/* absolute or ~/… */
	CHECK_WORD,					/* one of "words" */
	CHECK_NUMBER,				/* min to max */
	CHECK_URL,
	CHECK_FINGERPRINTS,
	CHECK_KNOWN_HOSTS
} OptionCheck;

typedef struct Option
{
	const char *name;
	int			wrappers;
	bool		secret;			/* of the user mapping */
	OptionCheck check;
	const char *words;			/* CHECK_WORD: separated by spaces */
	int			min;
	int			max;
} Option;

static const Option options[] = {
	{"path", DIRECTORY, false, CHECK_SERVER_PATH},
	{"path", SFTP, false, CHECK_SFTP_PATH},
	{"layout", FILES, false, CHECK_WORD, "oneroster clever"},
	{"encoding", FILES, false, CHECK_WORD, "UTF8 WIN1252"},
	{"host", SFTP, false, CHECK_ANY},
	{"port", SFTP, false, CHECK_NUMBER, NULL, 1, 65535},
	{"host_key_sha256", SFTP, false, CHECK_FINGERPRINTS},
	{"known_hosts", SFTP, false, CHECK_KNOWN_HOSTS},
	{"base_url", CLEVER | REST, false, CHECK_URL},
	{"token_url", CLEVER | REST, false, CHECK_URL},
	{"api_version", CLEVER, false, CHECK_WORD, "v3.0 v3.1"},
	{"district_id", CLEVER, false, CHECK_ANY},
	{"version", REST, false, CHECK_WORD, "1.1 1.2"},
	{"auth", REST, false, CHECK_WORD, "oauth1 oauth2 bearer"},
	{"signature_method", REST, false, CHECK_WORD, "HMAC-SHA256 HMAC-SHA1"},
	{"scope", REST, false, CHECK_ANY},
	{"application_id", CLASSLINK, false, CHECK_ANY},
	{"connect_timeout", NETWORK, false, CHECK_NUMBER, NULL, 1, 600},
	{"timeout", NETWORK, false, CHECK_NUMBER, NULL, 1, 86400},
	{"max_connections", NETWORK, false, CHECK_NUMBER, NULL, 1, 16},
	{"page_size", NETWORK, false, CHECK_NUMBER, NULL, 1, 10000},
	{"ca_file", NETWORK, false, CHECK_SERVER_PATH},
	{"username", SFTP, true, CHECK_ANY},
	{"password", SFTP, true, CHECK_ANY},
	{"private_key", SFTP, true, CHECK_ANY},
	{"passphrase", SFTP, true, CHECK_ANY},
	{"token", CLEVER | REST, true, CHECK_ANY},
	{"client_id", CLEVER | REST, true, CHECK_ANY},
	{"client_secret", CLEVER | REST, true, CHECK_ANY}
};

/* Lists the wrapper's options for that catalog: "layout, path". */
static char *
valid_options(int wrapper, Oid catalog)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if ((options[i].wrappers & wrapper) != 0 &&
			catalog == (options[i].secret ? UserMappingRelationId :
						ForeignServerRelationId))
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "",
							 options[i].name);
	}
	return buf.data;
}

static const Option *
find_option(const char *name, int wrapper, Oid catalog)
{
	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if ((options[i].wrappers & wrapper) != 0 &&
			strcmp(options[i].name, name) == 0 &&
			catalog == (options[i].secret ? UserMappingRelationId :
						ForeignServerRelationId))
			return &options[i];
	}
	return NULL;
}

/* The value itself is not repeated: it may be a secret in the wrong place. */
static void
invalid_value(const Option *option, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", option->name),
			 errhint("%s", hint),
			 errhidestmt(true)));
}

static void
check_word(const Option *option, const char *value)
{
	const char *word = option->words;
	StringInfoData hint;

	while (*word != '\0')
	{
		size_t		len = strcspn(word, " ");

		if (strlen(value) == len && strncmp(word, value, len) == 0)
			return;
		word += len;
		word += strspn(word, " ");
	}
	initStringInfo(&hint);
	appendStringInfoString(&hint, "Valid values are: ");
	for (word = option->words; *word != '\0'; word++)
	{
		if (*word == ' ')
			appendStringInfoString(&hint, ", ");
		else
			appendStringInfoChar(&hint, *word);
	}
	appendStringInfoChar(&hint, '.');
	invalid_value(option, hint.data);
}

static void
check_number(const Option *option, const char *value)
{
	char	   *end;
	long		number;

	if (!isdigit((unsigned char) value[0]))
		invalid_value(option, psprintf("It takes a whole number from %d to %d.",
									   option->min, option->max));
	errno = 0;
	number = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' ||
		number < option->min || number > option->max)
		invalid_value(option, psprintf("It takes a whole number from %d to %d.",
									   option->min, option->max));
}

/* 127.0.0.0/8, ::1 or localhost, exactly: nothing that merely starts so. */
static bool
is_loopback(const char *host, size_t len)
{
	char	   *name = pnstrdup(host, len);
	struct in_addr in;

	if (pg_strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, name, &in) == 1 &&
		(ntohl(in.s_addr) >> 24) == 127;
}

static void
check_url(const Option *option, const char *value)
{
	const char *host;
	size_t		hostlen,
				authority;
	bool		plain = false;

	if (strncmp(value, "https://", 8) == 0)
		host = value + 8;
	else if (strncmp(value, "http://", 7) == 0)
	{
		host = value + 7;
		plain = true;
	}
	else
	{
		invalid_value(option, "It takes an address that begins with https://.");
		return;
	}
	for (const char *p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || *p == '\\' || *p == 0x7F)
			invalid_value(option, "An address has no spaces, backslashes or control characters.");
	}
	authority = strcspn(host, "/?#");
	if (memchr(host, '@', authority) != NULL)
		invalid_value(option, "An address names no user: put credentials into the user mapping.");
	if (host[0] == '[')
	{
		const char *close = memchr(host, ']', authority);

		hostlen = close ? (size_t) (close - host) + 1 : 0;
		if (hostlen < authority && host[hostlen] != ':')
			hostlen = 0;		/* [::1]example.org is no loopback */
	}
	else
	{
		const char *colon = memchr(host, ':', authority);

		hostlen = colon ? (size_t) (colon - host) : authority;
	}
	if (hostlen == 0)
		invalid_value(option, "The address lacks a host.");
	if (plain && !is_loopback(host, hostlen))
		invalid_value(option, "It takes an address that begins with https:// (http:// only for this machine).");
}

static void
check_fingerprints(const Option *option, const char *value)
{
	const char *p = value;
	int			n = 0;

	while (*(p += strspn(p, " ,\t\r\n")) != '\0')
	{
		size_t		len = strcspn(p, " ,\t\r\n");
		size_t		start = strncmp(p, "SHA256:", 7) == 0 ? 7 : 0;
		size_t		i;

		for (i = start; i < len; i++)
		{
			if (!isalnum((unsigned char) p[i]) && p[i] != '+' && p[i] != '/' &&
				p[i] != '=')
				break;
		}
		/* 32 bytes are 43 characters of base64, or 44 with the padding */
		if (i < len || len - start < 43 || len - start > 44)
			invalid_value(option, "It takes fingerprints as ssh-keygen -lf prints them: SHA256: and 43 characters.");
		p += len;
		n++;
	}
	if (n == 0)
		invalid_value(option, "It takes at least one fingerprint.");
}

static void
check_known_hosts(const Option *option, const char *value)
{
	/* a line has a host, a key type and a key; a path has no space */
	if (value[0] == '/' || value[0] == '~' || strchr(value, ' ') == NULL)
		invalid_value(option, "It takes lines of a known_hosts file, not its path.");
}

static void
check_value(const Option *option, const char *value)
{
	if (value[0] == '\0')
		invalid_value(option, "It may not be empty: leave it out, or DROP the option.");
	switch (option->check)
	{
		case CHECK_ANY:
			break;
		case CHECK_SERVER_PATH:
			if (!is_absolute_path(value))
				invalid_value(option, "It takes an absolute path on the database host.");
			if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied to set option \"%s\"",
								option->name),
						 errdetail("Only roles with privileges of the role \"%s\" may name files of the database host.",
								   "pg_read_server_files")));
			break;
		case CHECK_SFTP_PATH:
			if (value[0] != '/' && strncmp(value, "~/", 2) != 0)
				invalid_value(option, "It takes an absolute path, or one that begins with ~/.");
			break;
		case CHECK_WORD:
			check_word(option, value);
			break;
		case CHECK_NUMBER:
			check_number(option, value);
			break;
		case CHECK_URL:
			check_url(option, value);
			break;
		case CHECK_FINGERPRINTS:
			check_fingerprints(option, value);
			break;
		case CHECK_KNOWN_HOSTS:
			check_known_hosts(option, value);
			break;
	}
}

static void
validate(const char *wrapper_name, int wrapper, Datum array, Oid catalog)
{
	List	   *list = untransformRelOptions(array);
	ListCell   *lc;

	foreach(lc, list)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const Option *option = find_option(def->defname, wrapper, catalog);

		if (option == NULL)
		{
			char	   *valid = valid_options(wrapper, catalog);
			bool		of_server = find_option(def->defname, wrapper,
											   ForeignServerRelationId) != NULL;
			bool		of_mapping = find_option(def->defname, wrapper,
												UserMappingRelationId) != NULL;

			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", def->defname),
					 of_server || of_mapping ?
					 errdetail("\"%s\" is an option of %s.", def->defname,
							   of_server ? "the server" : "a user mapping") : 0,
					 valid[0] != '\0' ?
					 errhint("Valid options in this context are: %s", valid) :
					 errhint("%s has no options in this context.",
							 wrapper_name),
					 errhidestmt(true)));
		}
		check_value(option, defGetString(def));
	}
}

#define VALIDATOR(name, bit) \
SIS_FUNCTION(sis_##name##_validator); \
Datum \
sis_##name##_validator(PG_FUNCTION_ARGS) \
{ \
	validate("sis_" #name, bit, PG_GETARG_DATUM(0), PG_GETARG_OID(1)); \
	PG_RETURN_VOID(); \
}

VALIDATOR(directory, DIRECTORY)
VALIDATOR(sftp, SFTP)
VALIDATOR(clever, CLEVER)
VALIDATOR(oneroster, ONEROSTER)
VALIDATOR(classlink, CLASSLINK)
