/* smtp/path.c - reverse-paths and forward-paths (RFC 5321 4.1.2, RFC 6531 3.3)
 *
 * Works in three steps. It finds the end of the word and the tokens that are the address; removes comments,
 * blanks and quotes (the plain form, in which the last "@" separates local part and domain); and builds the
 * one correct form of that.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/path.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/address.h"
#include "base/buffer.h"
#include "base/utf8.h"

#define PATH_LABEL_MAX 63

void path_copy(struct path *to, const struct path *from)
{
    memcpy(to->mailbox, from->mailbox, strlen(from->mailbox) + 1);
    to->local_len = from->local_len;
    to->domain = to->mailbox + (from->domain - from->mailbox);
    to->is_null = from->is_null;
    to->has_source_route = from->has_source_route;
    to->has_routing_local = from->has_routing_local;
    to->is_literal = from->is_literal;
    to->is_utf8 = from->is_utf8;
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

void path_clear(struct path *path)
{
    path->mailbox[0] = '\0';
    path->domain = path->mailbox;
    path->local_len = 0;
    path->is_null = path->is_literal = path->is_utf8 = false;
    path->has_source_route = path->has_routing_local = false;
}

bool path_is_postmaster(const struct path *path)
{
    return path->domain[0] == '\0' && strcasecmp(path->mailbox, "postmaster") == 0;
}

static bool path_is_blank(char octet)
{
    return octet == ' ' || octet == '\t';
}

static bool path_is_control(char octet)
{
    return (unsigned char)octet < 0x20 || octet == 0x7f;
}

static bool path_is_alnum(char octet)
{
    return (octet >= '0' && octet <= '9') || (octet >= 'A' && octet <= 'Z') ||
           (octet >= 'a' && octet <= 'z');
}

static bool path_is_atext(char octet)
{
    return (unsigned char)octet >= 0x80 || path_is_alnum(octet) ||
           (octet != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", octet) != NULL);
}

/* Domains. */

bool path_is_domain(const char *text, size_t len)
{
    size_t label = 0;

    if (len == 0 || len > PATH_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i <= len; i++) {
        if (i == len || text[i] == '.') {
            if (label == 0 || label > PATH_LABEL_MAX || text[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        bool fits = path_is_alnum(text[i]) || text[i] == '_' || (unsigned char)text[i] >= 0x80 ||
                    (text[i] == '-' && label > 0);
        if (!fits)
            return false;
        label++;
    }
    return true;
}

/* RFC 5321 4.1.3: "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
static bool path_is_literal(const char *text, size_t len)
{
    char inner[ADDRESS_TEXT_MAX];
    struct address address;
    int family = AF_INET;

    if (len < 2 || text[0] != '[' || text[len - 1] != ']')
        return false;
    text++;
    len -= 2;
    if (len > 5 && strncasecmp(text, "IPv6:", 5) == 0) {
        family = AF_INET6;
        text += 5;
        len -= 5;
    }
    if (len >= sizeof inner || memchr(text, '\0', len) != NULL)
        return false;
    memcpy(inner, text, len);
    inner[len] = '\0';
    bool written_as_v6 = strchr(inner, ':') != NULL;
    return strchr(inner, '[') == NULL && written_as_v6 == (family == AF_INET6) &&
           address_parse_ip(&address, inner) == 0;
}

/* Words and tokens. */

/* Returns the place after the closing quote of the string at `at`; NULL if there is none. */
static const char *path_skip_quotes(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\' && ++at == end)
            return NULL;
    }
    return at < end ? at + 1 : NULL;
}

/* The same for angle brackets, which may contain quotes. */
static const char *path_skip_brackets(const char *at, const char *end)
{
    at++;
    while (at != NULL && at < end && *at != '>') {
        if (*at == '"')
            at = path_skip_quotes(at, end);
        else
            at += *at == '\\' && end - at > 1 ? 2 : 1;
    }
    return at != NULL && at < end ? at + 1 : NULL;
}

/* The same for comments, which nest (RFC 5322 3.2.2). */
static const char *path_skip_comment(const char *at, const char *end)
{
    unsigned depth = 0;
    for (; at < end; at++) {
        if (*at == '\\') {
            if (++at == end)
                return NULL;
            continue;
        }
        depth += *at == '(';
        if (*at == ')' && --depth == 0)
            return at + 1;
    }
    return NULL;
}

/* The number of octets before the first blank outside brackets and quotes; 0 if one of these does not end. */
static size_t path_word_len(const char *text, size_t len)
{
    const char *at = text, *end = text + len;

    while (at != NULL && at < end && !path_is_blank(*at)) {
        if (*at == '<')
            at = path_skip_brackets(at, end);
        else if (*at == '"')
            at = path_skip_quotes(at, end);
        else
            at += *at == '\\' && end - at > 1 ? 2 : 1;
    }
    return at != NULL ? (size_t)(at - text) : 0;
}

enum path_token {
    PATH_TOKEN_END,
    PATH_TOKEN_BAD, /* an unterminated token */
    PATH_TOKEN_WORD,
    PATH_TOKEN_QUOTED,  /* `text` without the quotes */
    PATH_TOKEN_LITERAL, /* `text` with the brackets */
    PATH_TOKEN_SPECIAL, /* one octet */
};

struct path_reader {
    const char *at, *end;
    const char *text; /* of the token just read */
    size_t len;
};

static bool path_is_special(char octet)
{
    return octet != '\0' && strchr("<>@,;:.])", octet) != NULL;
}

static const char *path_skip_word(const char *at, const char *end)
{
    while (at < end && !path_is_special(*at) && !path_is_blank(*at) && *at != '"' && *at != '(' &&
           *at != '[')
        at += *at == '\\' && end - at > 1 ? 2 : 1;
    return at;
}

static enum path_token path_next(struct path_reader *reader)
{
    const char *start, *behind;
    enum path_token token = PATH_TOKEN_WORD;

    while (reader->at < reader->end && (path_is_blank(*reader->at) || *reader->at == '(')) {
        reader->at =
            *reader->at == '(' ? path_skip_comment(reader->at, reader->end) : reader->at + 1;
        if (reader->at == NULL)
            return PATH_TOKEN_BAD;
    }
    start = reader->at;
    if (start == reader->end)
        return PATH_TOKEN_END;
    if (*start == '"') {
        behind = path_skip_quotes(start, reader->end);
        token = PATH_TOKEN_QUOTED;
    } else if (*start == '[') {
        const char *close = memchr(start, ']', (size_t)(reader->end - start));
        behind = close != NULL ? close + 1 : NULL;
        token = PATH_TOKEN_LITERAL;
    } else if (path_is_special(*start)) {
        behind = start + 1;
        token = PATH_TOKEN_SPECIAL;
    } else {
        behind = path_skip_word(start, reader->end);
    }
    if (behind == NULL)
        return PATH_TOKEN_BAD;
    reader->at = behind;
    reader->text = start + (token == PATH_TOKEN_QUOTED);
    reader->len = (size_t)(behind - start) - 2 * (token == PATH_TOKEN_QUOTED);
    return token;
}

/* Finds the address in a word: between the last '<' and the next '>', or the whole word. A display name may
 * precede it; nothing that could be another address may be on either side. */
static bool path_find_address(const char *word, size_t len, struct path_reader *address,
                              bool *has_name)
{
    struct path_reader reader = {word, word + len, NULL, 0};
    const char *begin = word, *end = NULL;
    bool may_be_name = true;

    *has_name = false;
    for (enum path_token token; (token = path_next(&reader)) != PATH_TOKEN_END;) {
        char special = token == PATH_TOKEN_SPECIAL ? *reader.text : '\0';
        if (token == PATH_TOKEN_BAD)
            return false;
        if (end != NULL) {
            if (special == '\0' || strchr(">,;", special) == NULL)
                return false;
        } else if (special == '<') {
            if (!may_be_name)
                return false;
            begin = reader.at;
        } else if (special == '>') {
            end = reader.text;
        } else {
            *has_name |= begin == word;
            may_be_name &= special == '\0' || special == '.' || special == ':';
        }
    }
    *has_name &= begin != word;
    *address = (struct path_reader){begin, end != NULL ? end : word + len, NULL, 0};
    return end != NULL || begin == word;
}

/* The plain form. */

struct path_plain {
    struct buffer text; /* local part "@" domain, without any quoting */
    size_t last_at;     /* place after the last unquoted "@"; 0 = none */
    unsigned ats;       /* number of unquoted "@" */
    bool route;         /* a source route was dropped */
    bool in_route;      /* it begins like a source route */
    bool listed;        /* the route has several hosts, so ":" must follow */
    bool literal;       /* the last token is an address literal */
    char storage[PATH_MAX_OCTETS + 1];
};

static bool path_plain_word(struct path_plain *plain, const struct path_reader *token)
{
    for (size_t i = 0; i < token->len; i++) {
        i += token->text[i] == '\\' && i + 1 < token->len;
        if (path_is_control(token->text[i]))
            return false;
        buffer_add(&plain->text, token->text + i, 1);
    }
    return true;
}

static bool path_plain_special(struct path_plain *plain, char special)
{
    switch (special) {
    case ',':
        plain->listed = true;
        return plain->in_route;
    case ';':
        return false;
    case ':':
        if (plain->in_route) {
            plain->text.len = plain->last_at = plain->ats = 0;
            plain->route = true;
            plain->in_route = plain->listed = false;
            return true;
        }
        break;
    case '@':
        plain->ats++;
        plain->last_at = plain->text.len + 1;
        break;
    default:
        break;
    }
    buffer_add(&plain->text, &special, 1);
    return true;
}

/* Makes the plain form. A literal is only allowed as a host, and words need something between them. */
static bool path_make_plain(struct path_plain *plain, struct path_reader *address)
{
    bool first = true, after_word = false;

    buffer_init(&plain->text, plain->storage, sizeof plain->storage);
    plain->last_at = plain->ats = 0;
    plain->route = plain->in_route = plain->listed = plain->literal = false;
    for (enum path_token token; (token = path_next(address)) != PATH_TOKEN_END; first = false) {
        bool special = token == PATH_TOKEN_SPECIAL;
        if (token == PATH_TOKEN_BAD || (!special && after_word) ||
            (special && plain->literal && !plain->in_route))
            return false;
        plain->in_route |= first && special && *address->text == '@';
        plain->literal = token == PATH_TOKEN_LITERAL;
        if (plain->literal && (plain->last_at == 0 || plain->last_at != plain->text.len))
            return false;
        if (special ? !path_plain_special(plain, *address->text) : !path_plain_word(plain, address))
            return false;
        after_word = !special;
    }
    return !plain->listed;
}

/* The correct form. */

static bool path_is_dot_string(const char *local, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool dot = local[i] == '.' && i > 0 && i + 1 < len && local[i - 1] != '.';
        if (!dot && !path_is_atext(local[i]))
            return false;
    }
    return len > 0;
}

/* RFC 5321 4.1.2: writes a Dot-string, or a Quoted-string if that is impossible. */
static void path_put_local(struct buffer *out, const char *local, size_t len)
{
    if (path_is_dot_string(local, len)) {
        buffer_add(out, local, len);
        return;
    }
    buffer_puts(out, "\"");
    for (size_t i = 0; i < len; i++) {
        if (local[i] == '"' || local[i] == '\\')
            buffer_puts(out, "\\");
        buffer_add(out, local + i, 1);
    }
    buffer_puts(out, "\"");
}

static bool path_holds_routing(const char *local, size_t len)
{
    return memchr(local, '%', len) != NULL || memchr(local, '!', len) != NULL ||
           memchr(local, '@', len) != NULL;
}

static bool path_store(struct path *path, const char *local, size_t local_len, const char *domain,
                       size_t domain_len)
{
    struct buffer mailbox;

    buffer_init(&mailbox, path->mailbox, sizeof path->mailbox);
    path_put_local(&mailbox, local, local_len);
    path->local_len = mailbox.len;
    if (domain_len > 0) {
        buffer_puts(&mailbox, "@");
        buffer_add(&mailbox, domain, domain_len);
    }
    if (mailbox.overflow)
        return false;
    path->domain = path->mailbox + mailbox.len - domain_len;
    path->has_routing_local = path_holds_routing(local, local_len);
    path->is_utf8 = !utf8_is_ascii(path->mailbox, mailbox.len);
    return true;
}

static bool path_store_plain(struct path *path, const struct path_plain *plain, bool forward)
{
    const char *local = plain->text.data, *end = local + plain->text.len;
    const char *at = memrchr(local, '@', plain->text.len);

    /* In a forward-path it must be clear which "@" counts. */
    if (forward && (plain->ats > 1 || (at != NULL && at + 1 != local + plain->last_at)))
        return false;
    if (at == NULL) /* nothing may look like a domain */
        return !plain->route && !path_holds_routing(local, plain->text.len) &&
               path_store(path, local, plain->text.len, "", 0);
    const char *domain = at + 1;
    size_t domain_len = (size_t)(end - domain);
    path->has_source_route = plain->route;
    path->is_literal = plain->literal && domain == local + plain->last_at;
    if (!path->is_literal && domain_len > 1 && end[-1] == '.')
        domain_len--;
    if (path->is_literal ? !path_is_literal(domain, domain_len)
                         : !path_is_domain(domain, domain_len))
        return false;
    return path_store(path, local, (size_t)(at - local), domain, domain_len);
}

/* May the octet be in a local part without quotes, and has it no meaning for routing? */
static bool path_is_simple(char octet)
{
    return path_is_alnum(octet) || octet == '-' || octet == '_' || octet == '+' || octet == '=';
}

/* Reads nearly all real paths: "<local@domain>" of simple octets, with the same result as the full grammar but
 * faster. False: use the grammar. `path` is empty. */
static bool path_parse_simple(struct path *path, const char *text, size_t len, size_t *used)
{
    const char *local = text + 1, *end = text + len, *at = local;

    if (len < 2 || *text != '<')
        return false;
    while (at < end && (path_is_simple(*at) || (*at == '.' && at > local && at[-1] != '.')))
        at++;
    if (at == end || *at != '@' || at == local || at[-1] == '.')
        return false;
    const char *domain = at + 1, *close = memchr(domain, '>', (size_t)(end - domain));
    if (close == NULL || (close + 1 < end && !path_is_blank(close[1])) ||
        close - local > PATH_MAX_OCTETS || !utf8_is_ascii(domain, (size_t)(close - domain)) ||
        !path_is_domain(domain, (size_t)(close - domain)))
        return false;
    memcpy(path->mailbox, local, (size_t)(close - local));
    path->mailbox[close - local] = '\0';
    path->local_len = (size_t)(at - local);
    path->domain = path->mailbox + path->local_len + 1;
    *used = (size_t)(close + 1 - text);
    return true;
}

static bool path_parse(struct path *path, const char *text, size_t len, size_t *used, bool forward)
{
    struct path_reader address;
    struct path_plain plain;
    bool has_name;

    path_clear(path);
    if (path_parse_simple(path, text, len, used))
        return true;
    size_t word_len = path_word_len(text, len);
    *used = word_len;
    if (word_len == 0 || !utf8_is_valid(text, word_len) ||
        !path_find_address(text, word_len, &address, &has_name) ||
        !path_make_plain(&plain, &address) || plain.text.overflow)
        return false;
    if (plain.text.len > 0)
        return path_store_plain(path, &plain, forward);
    path->is_null = !forward && !has_name && !plain.route && memchr(text, '<', word_len) != NULL;
    return path->is_null;
}

bool path_parse_reverse(struct path *path, const char *text, size_t len, size_t *used)
{
    return path_parse(path, text, len, used, false);
}

bool path_parse_forward(struct path *path, const char *text, size_t len, size_t *used)
{
    return path_parse(path, text, len, used, true);
}

static bool path_is_helo_octet(char octet)
{
    return octet > 0x20 && octet < 0x7f && strchr("<>()\";\\@", octet) == NULL;
}

bool path_is_helo_name(const char *text, size_t len)
{
    char cleaned[PATH_HELO_MAX + 1];
    return path_clean_helo(text, len, cleaned);
}

bool path_clean_helo(const char *text, size_t len, char out[PATH_HELO_MAX + 1])
{
    size_t kept = len < PATH_HELO_MAX ? len : PATH_HELO_MAX;
    bool clean = len > 0 && len == kept;

    for (size_t i = 0; i < kept; i++) {
        bool fits = path_is_helo_octet(text[i]);
        out[i] = fits ? text[i] : '?';
        clean &= fits;
    }
    out[kept] = '\0';
    return clean;
}
