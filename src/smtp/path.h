/* smtp/path.h - reverse-paths and forward-paths (RFC 5321 4.1.2, RFC 6531 3.3)
 *
 * Reads addresses as leniently as Postfix with its default settings, and converts them to one correct
 * form: a struct path can always be sent on unchanged. Two texts for the same mailbox give the same
 * path. It reports which of the classic relay tricks a path uses, so that policy can refuse it. It never
 * acts on one itself, except that it drops a source route ("<@a,@b:user@c>"). Plain values, no
 * allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_PATH_H
#define POSTERN_SMTP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_DOMAIN_MAX 255  /* octets, RFC 5321 4.5.3.1.2 */
#define PATH_MAX_OCTETS 2048 /* local-part, "@", domain: the limit of Postfix's command line */

struct path {
    char mailbox[PATH_MAX_OCTETS + 1]; /* "local@domain", the local part quoted only if necessary;
                                          "" = null reverse-path */
    size_t local_len;                  /* octets of mailbox before the "@" */
    const char *domain;                /* into mailbox, or "": only a local part, or null */
    bool is_null;                      /* "<>" */
    bool has_source_route;             /* "<@relay:user@domain>": the route was dropped */
    bool has_routing_local;            /* the local part, quoted or not, contains '%', '!' or '@',
                                          or the "@" before the domain was quoted */
    bool is_literal;                   /* domain is "[...]" */
    bool is_utf8; /* it contains octets over 127 (valid UTF-8): needs SMTPUTF8 */
};

/* struct path contains a pointer into itself: copy it only with this. */
void path_copy(struct path *to, const struct path *from);

/* Makes the path empty. Writes only the first octet of the mailbox. */
void path_clear(struct path *path);

/* Adds a domain to a path that has none ("postmaster"). False if it becomes too long. */
bool path_add_domain(struct path *path, const char *domain);

/* Is it "postmaster" without a domain, in any case (RFC 5321 4.5.1)? */
bool path_is_postmaster(const struct path *path);

/* Read an address at the start of text[0..len). False if it is malformed or too long. *used is the number of octets read; parameters follow there,
 * after a blank. Angle brackets may be missing, doubled, or preceded by a display name. Comments and blanks
 * between words are skipped. Consecutive dots, a dot at either end of the local part, and an empty or long
 * local part are accepted and quoted. A path may lack a domain if it contains no '%', '!' or '@'.
 *
 * Reverse-paths may be "<>", and may have a second unquoted "@" (the last one counts); forward-paths may not.
 *
 * Domains: letters, digits, hyphens (not at the ends of a label), '_' allowed, labels up to 63 octets, a final
 * dot is dropped; or valid address literals "[192.0.2.1]" / "[IPv6:...]". UTF-8 is allowed everywhere and sets
 * is_utf8. */
bool path_parse_reverse(struct path *path, const char *text, size_t len, size_t *used);
bool path_parse_forward(struct path *path, const char *text, size_t len, size_t *used);

/* Is it a domain name as paths may have it: not a literal, no final dot, UTF-8 allowed? */
bool path_is_domain(const char *text, size_t len);

/* Can the name be passed on in EHLO unchanged: up to PATH_HELO_MAX octets of printable ASCII without blanks,
 * '<', '>', '(', ')', '"', ';', '\\', '@'? Lenient about the rest ('_', no dot at all, bare addresses), so that
 * the next hop sees the client as it is. */
#define PATH_HELO_MAX 255
bool path_is_helo_name(const char *text, size_t len);

/* Copies a client's name for log and trace: other octets become '?', and it is cut at PATH_HELO_MAX. True if
 * the name is unchanged. */
bool path_clean_helo(const char *text, size_t len, char out[PATH_HELO_MAX + 1]);

#endif
