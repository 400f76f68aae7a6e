/* smtp/path.h - reverse-paths and forward-paths (RFC 5321 4.1.2, RFC 6531 3.3)
 *
 * Reads addresses as lenient as Postfix does in its default settings, and makes one correct form of
 * them: whatever is in a struct path may be sent on as it stands. Two texts that mean the same
 * mailbox give the same path. It says which of the classic relay tricks a path carries, so that
 * policy can refuse it, and never acts on one itself, but for taking a source route
 * ("<@a,@b:user@c>") off. Plain values, no allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_PATH_H
#define POSTERN_SMTP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_DOMAIN_MAX 255  /* octets, RFC 5321 4.5.3.1.2 */
#define PATH_MAX_OCTETS 2048 /* local-part, "@", domain: what fits Postfix's command line */

struct path {
    char mailbox[PATH_MAX_OCTETS + 1]; /* "local@domain", the local part quoted only where it must
                                          be; "" = null reverse-path */
    size_t local_len;                  /* octets of mailbox before the "@" */
    const char *domain;                /* into mailbox, or "": nothing but a local part, or null */
    bool is_null;                      /* "<>" */
    bool has_source_route;             /* "<@relay:user@domain>": the route was dropped */
    bool has_routing_local;            /* the local part, quoted or not, holds '%', '!' or '@', or
                                          the "@" before the domain was quoted */
    bool is_literal;                   /* domain is "[...]" */
    bool is_utf8; /* octets over 127 somewhere (valid UTF-8): SMTPUTF8 needed */
};

enum path_result {
    PATH_OK,
    PATH_SYNTAX,   /* 501 5.1.7 (reverse) / 501 5.1.3 (forward) */
    PATH_TOO_LONG, /* 501 5.1.7 / 5.1.3: domain over 255, mailbox over PATH_MAX_OCTETS */
};

/* struct path holds a pointer into itself: copy it only with this. */
void path_copy(struct path *to, const struct path *from);

/* Nothing has been read. Of the mailbox only the first octet is written. */
void path_clear(struct path *path);

/* Puts a domain behind a path that has none ("postmaster"). False when it gets too long. */
bool path_add_domain(struct path *path, const char *domain);

/* "postmaster" without a domain, any case (RFC 5321 4.5.1). */
bool path_is_postmaster(const struct path *path);

/* Reads an address at the start of text[0..len); *used is the octets read, so parameters follow
 * there, after a blank. Angle brackets may be missing, stand twice, or have a display name before
 * them; comments and blanks between words are passed over; two dots in a row, a dot at either end
 * of the local part, and a local part that is empty or long are taken and quoted. A path may have
 * no domain, if it holds no '%', '!' or '@'.
 *
 * Reverse-paths may be "<>", and may have an unquoted second "@" (the last one counts);
 * forward-paths may have neither.
 *
 * Domains: letters, digits, hyphens (not at a label's ends), '_' allowed, labels up to 63, a final
 * dot is dropped; or address literals "[192.0.2.1]" / "[IPv6:...]" that really parse. UTF-8 passes
 * everywhere and sets is_utf8. */
enum path_result path_parse_reverse(struct path *path, const char *text, size_t len, size_t *used);
enum path_result path_parse_forward(struct path *path, const char *text, size_t len, size_t *used);

/* A domain name as paths may have it: no literal, no final dot. UTF-8 passes. */
bool path_is_domain(const char *text, size_t len);

/* What may be said in EHLO as it stands: up to PATH_HELO_MAX octets of printable ASCII without
 * blanks, '<', '>', '(', ')', '"', ';', '\\', '@'. Lenient in what such names mean ('_', no dot at
 * all, bare addresses): the next hop shall see what the client is like. */
#define PATH_HELO_MAX 255
bool path_is_helo_name(const char *text, size_t len);

/* Copies a name that a client has said, for log and trace: other octets become '?', and it is cut
 * at PATH_HELO_MAX. True when it is one already. */
bool path_clean_helo(const char *text, size_t len, char out[PATH_HELO_MAX + 1]);

#endif
