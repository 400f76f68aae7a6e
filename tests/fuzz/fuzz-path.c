/* tests/fuzz/fuzz-path.c - reverse-paths, forward-paths, EHLO names: what is accepted is clean and stable
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

typedef bool parser(struct path *path, const char *text, size_t len, size_t *used);

static bool is_atext(char octet)
{
    return (unsigned char)octet > 0x20 && octet != 0x7f && strchr("<>()[],;:\\\"@.", octet) == NULL;
}

/* RFC 5321 4.1.2: Dot-string, or Quoted-string. */
static void must_be_local_part(const char *local, size_t len)
{
    must(len > 0);
    if (local[0] != '"') {
        for (size_t i = 0; i < len; i++)
            must(is_atext(local[i]) ||
                 (local[i] == '.' && i > 0 && i + 1 < len && local[i - 1] != '.'));
        return;
    }
    must(len >= 2 && local[len - 1] == '"');
    for (size_t i = 1; i + 1 < len; i++) {
        must(local[i] != '"');
        if (local[i] == '\\')
            must(++i + 1 < len && (local[i] == '"' || local[i] == '\\'));
    }
}

/* A leniency hides no relaying: a flag tells if an address can be read in two ways. */
static void must_tell_relaying(const struct path *path, bool forward)
{
    const char *local = path->mailbox;
    bool routing = false;

    for (size_t i = 0; i < path->local_len; i++)
        routing |= strchr("%!@", local[i]) != NULL;
    must(path->has_routing_local == routing);
    if (path->domain[0] == '\0')
        must(!routing && !path->has_source_route);
    must(strpbrk(path->domain, "@%!<>,;\"\\ ") == NULL);
    /* A recipient with a domain has exactly one unquoted "@". */
    if (forward && local[0] != '"')
        must(memchr(local, '@', path->local_len) == NULL);
}

/* The next hop must read it as the same mailbox. */
static void check_again(parser *parse, const struct path *path)
{
    char text[PATH_MAX_OCTETS + 3];
    struct path again;
    size_t used = 0;
    int len = snprintf(text, sizeof text, "<%s>", path->mailbox);

    must(parse(&again, text, (size_t)len, &used) && used == (size_t)len);
    must(strcmp(again.mailbox, path->mailbox) == 0 && again.local_len == path->local_len);
    must(strcmp(again.domain, path->domain) == 0 && !again.has_source_route);
    must(again.has_routing_local == path->has_routing_local &&
         again.is_literal == path->is_literal && again.is_utf8 == path->is_utf8);
}

static void check(parser *parse, const char *text, size_t size, bool forward)
{
    struct path path, copy;
    size_t used = 0;

    if (!parse(&path, text, size, &used))
        return;
    must(used <= size && strlen(path.mailbox) <= PATH_MAX_OCTETS);
    for (const char *at = path.mailbox; *at != '\0'; at++)
        must((unsigned char)*at >= ' ' && *at != 0x7f);
    must(path.is_null == (path.mailbox[0] == '\0') && !(path.is_null && forward));
    must(path.domain[0] == '\0' || path.mailbox[path.local_len] == '@');
    must(path.domain[0] != '\0' || path.mailbox[path.local_len] == '\0');
    if (!path.is_null)
        must_be_local_part(path.mailbox, path.local_len);
    must_tell_relaying(&path, forward);
    path_copy(&copy, &path);
    must(strcmp(copy.domain, path.domain) == 0 &&
         copy.domain == copy.mailbox + (path.domain - path.mailbox));
    check_again(parse, &path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    char helo[PATH_HELO_MAX + 1];

    check(path_parse_reverse, text, size, false);
    check(path_parse_forward, text, size, true);
    bool same = path_clean_helo(text, size, helo);
    must(same == path_is_helo_name(text, size));
    must(!same || (strlen(helo) == size && memcmp(helo, text, size) == 0));
    for (const char *at = helo; *at != '\0'; at++)
        must(*at > ' ' && *at < 0x7f && strchr("<>()\";\\@", *at) == NULL);
    return 0;
}
