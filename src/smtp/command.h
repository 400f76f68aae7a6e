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

#define COMMAND_LINE_MAX                                                                           \
    2048 /* octets, CRLF included: 512 of RFC 5321 plus what ESMTP
                                  extensions add (SIZE, BODY, SMTPUTF8, DSN, AUTH=) */

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

enum command_result command_parse(struct command *command, const char *line, size_t len);

/* Parameters of MAIL (RFC 1870, 6152, 6531, 3461). */
enum mail_body { MAIL_BODY_NONE, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_BODY_BINARYMIME };

struct mail_parameters {
    uint64_t size; /* SIZE=, octets; 0 = not said */
    enum mail_body body;
    bool smtputf8;
    bool requiretls; /* RFC 8689 */
    const char *ret;
    size_t ret_len; /* FULL or HDRS; NULL = not said */
    const char *envid;
    size_t envid_len;
    const char *auth;
    size_t auth_len;
};

/* NOTIFY, ORCPT and ENVID are checked (RFC 3461 4) and given as they came. */
struct rcpt_parameters {
    const char *notify;
    size_t notify_len;
    const char *orcpt;
    size_t orcpt_len;
};

enum parameter_result {
    PARAMETER_OK,
    PARAMETER_PREFIX,      /* "FROM:" / "TO:" is missing: 501 5.5.4 */
    PARAMETER_PATH_SYNTAX, /* 501 5.1.7 / 5.1.3 */
    PARAMETER_PATH_LENGTH,
    PARAMETER_BAD_VALUE, /* known keyword, bad or doubled value: 501 5.5.4 */
    PARAMETER_UNKNOWN,   /* unknown keyword: 555 5.5.4 */
};

/* "FROM:<path> [params]" / "TO:<path> [params]". A blank after the colon is tolerated (real
 * senders do it). Keywords any case, SIZE at most 20 digits and < 2^63. */
enum parameter_result command_parse_mail(const struct command *command, struct path *path,
                                         struct mail_parameters *parameters);
enum parameter_result command_parse_rcpt(const struct command *command, struct path *path,
                                         struct rcpt_parameters *parameters);

/* "BDAT size [LAST]" (RFC 3030 2). False when it is not that. */
bool command_parse_bdat(const struct command *command, uint64_t *size, bool *last);

#endif
