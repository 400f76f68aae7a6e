/* smtp/path.h - reverse-paths and forward-paths (RFC 5321 4.1.2, RFC 6531 3.3)
 *
 * A strict parser of "<local-part@domain>": what it accepts is exactly what may be sent on, and it
 * says which of the classic relay tricks a path carries, so that policy can refuse it. It never
 * guesses and never rewrites, but for taking a source route ("<@a,@b:user@c>") off.
 * Plain values, no allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_PATH_H
#define POSTERN_SMTP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_LOCAL_MAX 64   /* octets, RFC 5321 4.5.3.1.1 */
#define PATH_DOMAIN_MAX 255 /* octets, RFC 5321 4.5.3.1.2 */
#define PATH_MAX_OCTETS 320 /* local-part, "@", domain; the wire limit of 256 is checked too */

struct path {
    char mailbox[PATH_MAX_OCTETS + 1]; /* "local@domain" as it came; "" = null reverse-path */
    size_t local_len;                  /* octets of mailbox before the "@" */
    const char *domain;                /* into mailbox, or "" ("postmaster", null path) */
    bool is_null;                      /* "<>" */
    bool has_source_route;             /* "<@relay:user@domain>": the route was dropped */
    bool has_routing_local;            /* the local part, quoted or
                                           not, holds '%', '!' or '@' */
    bool is_literal;                   /* domain is "[...]" */
    bool is_utf8; /* octets over 127 somewhere (valid UTF-8): SMTPUTF8 needed */
};

enum path_result {
    PATH_OK,
    PATH_SYNTAX,   /* 501 5.1.7 (reverse) / 501 5.1.3 (forward) */
    PATH_TOO_LONG, /* 501 5.1.7 / 5.1.3, local-part over 64, domain over 255, path over 256 */
};

/* struct path holds a pointer into itself: copy it only with this. */
void path_copy(struct path *to, const struct path *from);

/* Puts a domain behind a path that has none ("postmaster"). False when it gets too long. */
bool path_add_domain(struct path *path, const char *domain);

/* Reads "<...>" at the start of text[0..len); *used is the octets read, so parameters follow
 * there. Reverse-paths may be "<>"; forward-paths may be "<postmaster>" (any case, no domain).
 * Domains: letters, digits, hyphens (not at a label's ends), '_' allowed, labels up to 63, or
 * address literals "[192.0.2.1]" / "[IPv6:...]" that really parse; UTF-8 labels pass and set
 * is_utf8. A trailing dot, an empty label, "a@b@c" unquoted, or blanks around are PATH_SYNTAX. */
enum path_result path_parse_reverse(struct path *path, const char *text, size_t len, size_t *used);
enum path_result path_parse_forward(struct path *path, const char *text, size_t len, size_t *used);

/* A name as EHLO or HELO takes: domain or address literal, up to 255 octets. Lenient in what real
 * clients send ('_', no dot at all, bare addresses), strict about octets: only printable ASCII
 * without blanks, '<', '>', '(', ')', '"', ',', ';', '\\'. UTF-8 is refused. */
bool path_is_helo_name(const char *text, size_t len);

#endif
