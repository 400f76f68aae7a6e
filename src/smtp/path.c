/* smtp/path.c - reverse-paths and forward-paths (RFC 5321 4.1.2, RFC 6531 3.3)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/path.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/address.h"
#include "base/utf8.h"

#define PATH_WIRE_MAX 256 /* octets with the angle brackets, RFC 5321 4.5.3.1.3 */
#define LABEL_MAX 63

/* A place in the text being read. */
struct cursor {
    const char *at, *end;
};

static bool more(const struct cursor *cursor)
{
    return cursor->at < cursor->end;
}

static bool next_is(const struct cursor *cursor, char octet)
{
    return more(cursor) && *cursor->at == octet;
}

static bool is_alnum(char octet)
{
    return (octet >= '0' && octet <= '9') || (octet >= 'A' && octet <= 'Z') ||
           (octet >= 'a' && octet <= 'z');
}

static bool is_atext(char octet)
{
    return is_alnum(octet) || (octet != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", octet) != NULL);
}

void path_copy(struct path *to, const struct path *from)
{
    *to = *from;
    to->domain = to->mailbox + (from->domain - from->mailbox);
}

bool path_add_domain(struct path *path, const char *domain)
{
    size_t len = strlen(path->mailbox), domain_len = strlen(domain);

    if (len + 1 + domain_len > PATH_MAX_OCTETS)
        return false;
    path->mailbox[len] = '@';
    memcpy(path->mailbox + len + 1, domain, domain_len + 1);
    path->local_len = len;
    path->domain = path->mailbox + len + 1;
    return true;
}

/* A UTF-8 character beyond ASCII (RFC 6531 3.3). */
static bool take_utf8(struct cursor *cursor, struct path *path)
{
    size_t len = utf8_character(cursor->at, (size_t)(cursor->end - cursor->at));
    if (len < 2)
        return false;
    path->is_utf8 = true;
    cursor->at += len;
    return true;
}

static bool take_label(struct cursor *cursor, struct path *path)
{
    const char *start = cursor->at;
    while (more(cursor)) {
        if (is_alnum(*cursor->at) || *cursor->at == '-' || *cursor->at == '_')
            cursor->at++;
        else if (!take_utf8(cursor, path))
            break;
    }
    size_t len = (size_t)(cursor->at - start);
    return len > 0 && len <= LABEL_MAX && *start != '-' && cursor->at[-1] != '-';
}

static bool take_domain_name(struct cursor *cursor, struct path *path)
{
    if (!take_label(cursor, path))
        return false;
    while (next_is(cursor, '.')) {
        cursor->at++;
        if (!take_label(cursor, path))
            return false;
    }
    return true;
}

/* RFC 5321 4.1.3: "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
static bool take_literal(struct cursor *cursor)
{
    char text[ADDRESS_TEXT_MAX];
    struct address address;
    const char *close = memchr(cursor->at, ']', (size_t)(cursor->end - cursor->at));
    if (close == NULL)
        return false;
    size_t len = (size_t)(close - cursor->at - 1);
    const char *inner = cursor->at + 1;
    int family = AF_INET;
    if (len > 5 && strncasecmp(inner, "IPv6:", 5) == 0) {
        family = AF_INET6;
        inner += 5;
        len -= 5;
    }
    if (len >= sizeof text || memchr(inner, '\0', len) != NULL)
        return false;
    memcpy(text, inner, len);
    text[len] = '\0';
    bool written_as_v6 = strchr(text, ':') != NULL;
    if (strchr(text, '[') != NULL || written_as_v6 != (family == AF_INET6) ||
        address_parse_ip(&address, text) != 0)
        return false;
    cursor->at = close + 1;
    return true;
}

static bool take_domain(struct cursor *cursor, struct path *path)
{
    if (!next_is(cursor, '['))
        return take_domain_name(cursor, path);
    path->is_literal = true;
    return take_literal(cursor);
}

/* RFC 5321 4.1.2: '"' *( qtextSMTP / "\" %d32-126 ) '"' */
static bool take_quoted(struct cursor *cursor, struct path *path)
{
    cursor->at++;
    while (more(cursor) && *cursor->at != '"') {
        unsigned char octet = (unsigned char)*cursor->at;
        if (octet >= 0x80) {
            if (!take_utf8(cursor, path))
                return false;
            continue;
        }
        if (octet == '\\' && ++cursor->at == cursor->end)
            return false;
        octet = (unsigned char)*cursor->at;
        if (octet < 0x20 || octet > 0x7e)
            return false;
        cursor->at++;
    }
    if (!more(cursor))
        return false;
    cursor->at++;
    return true;
}

static bool take_dot_string(struct cursor *cursor, struct path *path)
{
    const char *start = cursor->at;
    while (more(cursor)) {
        if (is_atext(*cursor->at))
            cursor->at++;
        else if (*cursor->at == '.' && cursor->at > start && cursor->at[-1] != '.')
            cursor->at++;
        else if (!take_utf8(cursor, path))
            break;
    }
    return cursor->at > start && cursor->at[-1] != '.';
}

static bool take_local(struct cursor *cursor, struct path *path)
{
    return next_is(cursor, '"') ? take_quoted(cursor, path) : take_dot_string(cursor, path);
}

/* "@a,@b:" in front of the mailbox, obsolete but to be understood (RFC 5321 appendix C). */
static bool take_source_route(struct cursor *cursor, struct path *path)
{
    struct path ignored;
    if (!next_is(cursor, '@'))
        return true;
    path->has_source_route = true;
    for (;;) {
        if (!next_is(cursor, '@'))
            return false;
        cursor->at++;
        memset(&ignored, 0, sizeof ignored);
        if (!take_domain(cursor, &ignored))
            return false;
        if (!next_is(cursor, ','))
            break;
        cursor->at++;
    }
    if (!next_is(cursor, ':'))
        return false;
    cursor->at++;
    return true;
}

static bool holds_routing(const char *local, size_t len)
{
    return memchr(local, '%', len) != NULL || memchr(local, '!', len) != NULL ||
           memchr(local, '@', len) != NULL;
}

static bool is_postmaster(const char *text, size_t len)
{
    return len == 10 && strncasecmp(text, "postmaster", 10) == 0;
}

static enum path_result store(struct path *path, const char *mailbox, size_t local_len, size_t len)
{
    size_t domain_len = len > local_len ? len - local_len - 1 : 0;
    if (local_len > PATH_LOCAL_MAX || domain_len > PATH_DOMAIN_MAX || len > PATH_MAX_OCTETS)
        return PATH_TOO_LONG;
    memcpy(path->mailbox, mailbox, len);
    path->mailbox[len] = '\0';
    path->local_len = local_len;
    path->domain = path->mailbox + len - domain_len;
    path->has_routing_local = holds_routing(mailbox, local_len);
    return PATH_OK;
}

/* What stands between the angle brackets. */
static enum path_result take_mailbox(struct cursor *cursor, struct path *path, bool forward)
{
    if (!take_source_route(cursor, path))
        return PATH_SYNTAX;
    const char *start = cursor->at;
    if (!take_local(cursor, path))
        return PATH_SYNTAX;
    size_t local_len = (size_t)(cursor->at - start);
    if (next_is(cursor, '@')) {
        cursor->at++;
        if (!take_domain(cursor, path))
            return PATH_SYNTAX;
    } else if (!forward || path->has_source_route || !is_postmaster(start, local_len)) {
        return PATH_SYNTAX;
    }
    if (!next_is(cursor, '>'))
        return PATH_SYNTAX;
    return store(path, start, local_len, (size_t)(cursor->at - start));
}

static enum path_result parse(struct path *path, const char *text, size_t len, size_t *used,
                              bool forward)
{
    struct cursor cursor = {text, text + len};

    memset(path, 0, sizeof *path);
    path->domain = path->mailbox;
    if (!next_is(&cursor, '<'))
        return PATH_SYNTAX;
    cursor.at++;
    if (!forward && next_is(&cursor, '>')) {
        path->is_null = true;
    } else {
        enum path_result result = take_mailbox(&cursor, path, forward);
        if (result != PATH_OK)
            return result;
    }
    cursor.at++;
    *used = (size_t)(cursor.at - text);
    return *used > PATH_WIRE_MAX ? PATH_TOO_LONG : PATH_OK;
}

enum path_result path_parse_reverse(struct path *path, const char *text, size_t len, size_t *used)
{
    return parse(path, text, len, used, false);
}

enum path_result path_parse_forward(struct path *path, const char *text, size_t len, size_t *used)
{
    return parse(path, text, len, used, true);
}

bool path_is_helo_name(const char *text, size_t len)
{
    if (len == 0 || len > PATH_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] > 0x7e || strchr("<>()\",;\\", text[i]) != NULL)
            return false;
    }
    return true;
}
