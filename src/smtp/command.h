/* smtp/command.h - lines become commands: verbs, arguments, MAIL and RCPT parameters
 *
 * The one place where the text of a command line is taken apart. Which command is legal when, and
 * what it does, is the session's table. No allocation; results point into the line.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_COMMAND_H
#define POSTERN_SMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smtp/path.h"

/* Octets, CRLF included: as much as Postfix takes (its line_length_limit), and what parameters may
 * add to that. */
#define COMMAND_LINE_MAX 4096

#define NOTIFY_MAX 31       /* octets of a NOTIFY value */
#define ORCPT_MAX 500       /* of an ORCPT value, RFC 3461 4.2 */
#define MECHANISMS_MAX 128  /* octets of a list of AUTH mechanisms */
#define AUTH_LINE_MAX 12290 /* RFC 4954 4.  12288 and CRLF */
#define ENVID_MAX 100       /* of an ENVID value, RFC 3461 4.4 */

enum command_verb {
    COMMAND_HELO,
    COMMAND_EHLO,
    COMMAND_MAIL,
    COMMAND_RCPT,
    COMMAND_DATA,
    COMMAND_RSET,
    COMMAND_NOOP,
    COMMAND_QUIT,
    COMMAND_VRFY,
    COMMAND_HELP,
    COMMAND_STARTTLS,
    COMMAND_XCLIENT, /* for trusted peers only */
    COMMAND_BDAT,
    COMMAND_AUTH,
    COMMAND_EXPN,
    COMMAND_ETRN, /* known, not implemented: 502 */
    COMMAND_HTTP, /* GET, POST, CONNECT, ...: not SMTP at all; ends the session */
    COMMAND_UNKNOWN,
};

struct command {
    enum command_verb verb;
    const char *argument; /* behind the verb, blanks at both ends removed; never NULL */
    size_t argument_len;
};

enum command_result {
    COMMAND_OK,
    COMMAND_GARBAGE, /* NUL, other control characters, or octets over 127 that are not UTF-8 */
};

/* Blanks may stand before the verb, and blanks and CRs at the end. HELO and EHLO may hold control
 * characters, as such names are never passed on. */
enum command_result command_parse(struct command *command, const char *line, size_t len);

/* Parameters of MAIL (RFC 1870, 6152, 6531, 3461). */
enum mail_body { MAIL_BODY_NONE, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_BODY_BINARYMIME };

/* Values of DSN parameters are in the form in which they may be sent on (RFC 3461 4, RFC 6533 3),
 * whatever they came like; "" = not said, or too long to be said to anybody. */
struct mail_parameters {
    uint64_t size; /* SIZE=, octets; 0 = not said; at most INT64_MAX */
    enum mail_body body;
    bool smtputf8;
    bool requiretls; /* RFC 8689 */
    bool dsn;        /* RET or ENVID has been said */
    bool envid_said;
    char ret[5]; /* FULL or HDRS */
    char envid[ENVID_MAX + 1];
};

struct rcpt_parameters {
    bool dsn; /* NOTIFY or ORCPT has been said */
    bool orcpt_said;
    char notify[NOTIFY_MAX + 1];
    char orcpt[ORCPT_MAX + 1];
};

enum parameter_result {
    PARAMETER_OK,
    PARAMETER_PREFIX,      /* "FROM:" / "TO:" is missing: 501 5.5.4 */
    PARAMETER_PATH_SYNTAX, /* 501 5.1.7 / 5.1.3 */
    PARAMETER_PATH_LENGTH,
    PARAMETER_BAD_VALUE, /* known keyword, bad or doubled value: 501 5.5.4 */
    PARAMETER_UNKNOWN,   /* unknown keyword: 555 5.5.4 */
};

/* "FROM:<path> [params]" / "TO:<path> [params]", as lenient as Postfix: blanks after the colon,
 * what smtp/path takes for a path, keywords in any case, '=' unencoded in xtext, SIZE, BODY and
 * SMTPUTF8 said again, NOTIFY with words said twice. AUTH= is the client's own claim (RFC 4954 5):
 * heard, whether AUTH is offered or not, and not passed on. */
enum parameter_result command_parse_mail(const struct command *command, struct path *path,
                                         struct mail_parameters *parameters);
enum parameter_result command_parse_rcpt(const struct command *command, struct path *path,
                                         struct rcpt_parameters *parameters);

/* "BDAT size [LAST]" (RFC 3030 2). False when it is not that. */
bool command_parse_bdat(const struct command *command, uint64_t *size, bool *last);

#endif
