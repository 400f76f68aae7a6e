/* smtp/command.h - parses lines into commands: verbs, arguments, MAIL and RCPT parameters
 *
 * The one place that parses the text of a command line. The session's table says which command is legal
 * when, and what it does. No allocation; results point into the line. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_COMMAND_H
#define POSTERN_SMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smtp/path.h"

/* Octets including CRLF: what Postfix accepts (its line_length_limit), plus room for parameters. */
#define COMMAND_LINE_MAX 4096

#define NOTIFY_MAX 31       /* octets of a NOTIFY value */
#define ORCPT_MAX 500       /* octets of an ORCPT value, RFC 3461 4.2 */
#define MECHANISMS_MAX 128  /* octets of a list of AUTH mechanisms */
#define AUTH_LINE_MAX 12290 /* octets: 12288 (RFC 4954 4) and CRLF */
#define ENVID_MAX 100       /* octets of an ENVID value, RFC 3461 4.4 */

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
    COMMAND_XCLIENT, /* only for trusted peers */
    COMMAND_BDAT,
    COMMAND_AUTH,
    COMMAND_EXPN,
    COMMAND_ETRN, /* known, not implemented: 502 */
    COMMAND_HTTP, /* GET, POST, CONNECT, ...: not SMTP at all; ends the session */
    COMMAND_UNKNOWN,
};

struct command {
    enum command_verb verb;
    const char *argument; /* after the verb, without blanks at either end; never NULL */
    size_t argument_len;
};

/* Parses a line without its end. False if it contains a NUL, other control characters, or octets over 127 that
 * are not UTF-8. Blanks are allowed before the verb, blanks and CRs at the end. HELO and EHLO may contain
 * control characters, because such names are never passed on. */
bool command_parse(struct command *command, const char *line, size_t len);

/* NOTIFY= (RFC 3461 4.1); 0 = not given. */
enum {
    NOTIFY_NEVER = 1 << 0,
    NOTIFY_SUCCESS = 1 << 1,
    NOTIFY_FAILURE = 1 << 2,
    NOTIFY_DELAY = 1 << 3,
};

/* RET= (RFC 3461 4.3). */
enum mail_ret { MAIL_RET_NONE, MAIL_RET_FULL, MAIL_RET_HDRS };

/* Parameters of MAIL (RFC 1870, 6152, 6531, 3461). */
enum mail_body { MAIL_BODY_NONE, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_BODY_BINARYMIME };

/* Values of DSN parameters are converted to the form in which they can be sent on (RFC 3461 4, RFC 6533 3).
 * "" = not given, or too long to be sent on. */
struct mail_parameters {
    uint64_t size; /* SIZE=, octets; 0 = not given; at most INT64_MAX */
    enum mail_body body;
    bool smtputf8;
    bool requiretls; /* RFC 8689 */
    bool dsn;        /* RET or ENVID was given */
    bool envid_said;
    enum mail_ret ret;
    char envid[ENVID_MAX + 1];
};

struct rcpt_parameters {
    bool dsn; /* NOTIFY or ORCPT was given */
    bool orcpt_said;
    unsigned notify; /* NOTIFY_... */
    char orcpt[ORCPT_MAX + 1];
};

enum parameter_result {
    PARAMETER_OK,
    PARAMETER_BAD_PATH, /* 501 5.1.7 / 5.1.3 */
    PARAMETER_BAD_VALUE, /* "FROM:" / "TO:" is missing, or a known keyword has a bad or repeated value:
                            501 5.5.4 */
    PARAMETER_UNKNOWN, /* unknown keyword: 555 5.5.4 */
};

/* Parse "FROM:<path> [params]" and "TO:<path> [params]", as leniently as Postfix: blanks after the colon,
 * whatever smtp/path accepts as a path, keywords in any case, unencoded '=' in xtext, repeated SIZE, BODY and
 * SMTPUTF8, NOTIFY with repeated words. AUTH= is only the client's claim (RFC 4954 5): it is accepted,
 * whether or not AUTH is offered, and not passed on. */
enum parameter_result command_parse_mail(const struct command *command, struct path *path,
                                         struct mail_parameters *parameters);
enum parameter_result command_parse_rcpt(const struct command *command, struct path *path,
                                         struct rcpt_parameters *parameters);

/* The value of NOTIFY=: a list of words, in which empty ones are skipped. 0 if it is malformed; NEVER must be alone. */
unsigned command_parse_notify(const char *text, size_t len);
/* Writes "SUCCESS,FAILURE"; "" for 0. Returns `out`. */
const char *command_format_notify(unsigned notify, char out[NOTIFY_MAX + 1]);

/* Is word[0..len) in a list of words, in any case? For mechanisms of AUTH. */
bool command_is_listed(const char *list, const char *word, size_t len);

/* Parses "BDAT size [LAST]" (RFC 3030 2). False if malformed. */
bool command_parse_bdat(const struct command *command, uint64_t *size, bool *last);

#endif
