/* relay-out/sts.c - MTA-STS: what records and policies say
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/sts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dns/name.h"

#define RECORD_MAX 1024 /* octets of a TXT record that are read */

/* A piece of text, not terminated. */
struct sts_text {
    const char *at;
    size_t len;
};

static bool sts_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool sts_is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool sts_equals(const struct sts_text *text, const char *word)
{
    return text->len == strlen(word) && memcmp(text->at, word, text->len) == 0;
}

static void sts_trim(struct sts_text *text)
{
    while (text->len > 0 && sts_is_blank(text->at[0]))
        text->at++, text->len--;
    while (text->len > 0 && sts_is_blank(text->at[text->len - 1]))
        text->len--;
}

/* Takes off the part up to `end`, and `end` itself. False if nothing is left. */
static bool sts_cut(struct sts_text *rest, char end, struct sts_text *part)
{
    if (rest->len == 0)
        return false;
    const char *at = memchr(rest->at, end, rest->len);
    *part = (struct sts_text){rest->at, at != NULL ? (size_t)(at - rest->at) : rest->len};
    size_t used = part->len + (at != NULL);
    rest->at += used, rest->len -= used;
    return true;
}

/* The record. */

/* Joins the record's strings (RFC 8461 3.1). -1 if they are malformed or too long. */
static int sts_join(const uint8_t *data, size_t len, char out[RECORD_MAX], struct sts_text *text)
{
    *text = (struct sts_text){out, 0};
    for (size_t at = 0; at < len;) {
        size_t part = data[at++];
        if (part > len - at || part > RECORD_MAX - text->len)
            return -1;
        memcpy(out + text->len, data + at, part);
        text->len += part;
        at += part;
    }
    return 0;
}

/* With a blank before the first ";" it is not an MTA-STS record (erratum 6285). */
static bool sts_is_record(const struct sts_text *text)
{
    static const char start[] = "v=STSv1;";
    return text->len >= sizeof start - 1 && memcmp(text->at, start, sizeof start - 1) == 0;
}

static bool sts_read_id(const struct sts_text *value, char id[STS_ID_MAX + 1])
{
    if (value->len == 0 || value->len > STS_ID_MAX)
        return false;
    for (size_t i = 0; i < value->len; i++) {
        if (!sts_is_alphanumeric(value->at[i]))
            return false;
    }
    memcpy(id, value->at, value->len);
    id[value->len] = '\0';
    return true;
}

static bool sts_read_fields(struct sts_text rest, char id[STS_ID_MAX + 1])
{
    struct sts_text field, name;

    while (sts_cut(&rest, ';', &field)) {
        sts_trim(&field);
        if (field.len == 0 || !sts_cut(&field, '=', &name) || !sts_equals(&name, "id"))
            continue;
        return sts_read_id(&field, id);
    }
    return false;
}

bool sts_read_record(const char *const *data, const int *lengths, size_t count,
                     char id[STS_ID_MAX + 1])
{
    char joined[RECORD_MAX], found[RECORD_MAX];
    struct sts_text text, record = {NULL, 0};

    id[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (lengths[i] <= 0 ||
            sts_join((const uint8_t *)data[i], (size_t)lengths[i], joined, &text) != 0 ||
            !sts_is_record(&text))
            continue;
        if (record.at != NULL)
            return false; /* RFC 8461 3.1: several count as none */
        memcpy(found, text.at, text.len);
        record = (struct sts_text){found, text.len};
    }
    return record.at != NULL && sts_read_fields(record, id);
}

/* The policy. */

enum { SEEN_VERSION = 1, SEEN_MODE = 2, SEEN_AGE = 4 };

struct sts_reading {
    struct sts_policy *policy;
    size_t used; /* octets of the policy's patterns */
    unsigned seen;
    const char *why;
};

static bool sts_refuse(struct sts_reading *reading, const char *why)
{
    reading->why = why;
    return false;
}

static bool sts_read_version(struct sts_reading *reading, const struct sts_text *value)
{
    return sts_equals(value, "STSv1") || sts_refuse(reading, "the version is not STSv1");
}

static bool sts_read_mode(struct sts_reading *reading, const struct sts_text *value)
{
    for (enum sts_mode mode = STS_MODE_NONE; mode <= STS_MODE_ENFORCE; mode++) {
        if (sts_equals(value, sts_mode_name(mode))) {
            reading->policy->mode = mode;
            return true;
        }
    }
    return sts_refuse(reading, "unknown mode");
}

static bool sts_read_age(struct sts_reading *reading, const struct sts_text *value)
{
    uint64_t age = 0;

    if (value->len == 0 || value->len > 10)
        return sts_refuse(reading, "max_age is not a number");
    for (size_t i = 0; i < value->len; i++) {
        if (value->at[i] < '0' || value->at[i] > '9')
            return sts_refuse(reading, "max_age is not a number");
        age = age * 10 + (unsigned)(value->at[i] - '0');
    }
    if (age > STS_AGE_MAX_S)
        return sts_refuse(reading, "max_age is longer than a year");
    reading->policy->max_age_s = (uint32_t)age;
    return true;
}

static bool sts_read_pattern(struct sts_reading *reading, const struct sts_text *value)
{
    char *pattern = reading->policy->patterns + reading->used;

    if (value->len >= DNS_NAME_MAX)
        return sts_refuse(reading, "an mx is not a host name");
    for (size_t i = 0; i < value->len; i++) {
        char c = value->at[i];
        pattern[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    pattern[value->len] = '\0';
    if (!dns_name_is_hostname(strncmp(pattern, "*.", 2) == 0 ? pattern + 2 : pattern))
        return sts_refuse(reading, "an mx is not a host name");
    reading->used += value->len + 1;
    reading->policy->pattern_count++;
    return true;
}

static const struct sts_field {
    const char *name;
    unsigned once; /* the first one counts (RFC 8461 3.2) */
    bool (*read)(struct sts_reading *, const struct sts_text *);
} sts_fields[] = {
    {"version", SEEN_VERSION, sts_read_version},
    {"mode", SEEN_MODE, sts_read_mode},
    {"max_age", SEEN_AGE, sts_read_age},
    {"mx", 0, sts_read_pattern},
};

static bool sts_is_field_name(const struct sts_text *name)
{
    if (name->len == 0 || !sts_is_alphanumeric(name->at[0]))
        return false;
    for (size_t i = 1; i < name->len; i++) {
        if (!sts_is_alphanumeric(name->at[i]) && strchr("_-.", name->at[i]) == NULL)
            return false;
    }
    return true;
}

/* Ignores fields with other names, which are for later versions (RFC 8461 3.2). */
static bool sts_read_line(struct sts_reading *reading, struct sts_text line)
{
    struct sts_text name;

    if (memchr(line.at, '\0', line.len) != NULL)
        return sts_refuse(reading, "a line contains NUL");
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    sts_trim(&line);
    if (line.len == 0)
        return true;
    if (memchr(line.at, ':', line.len) == NULL || !sts_cut(&line, ':', &name) ||
        !sts_is_field_name(&name))
        return sts_refuse(reading, "a line is not a field");
    sts_trim(&line);
    for (size_t i = 0; i < sizeof sts_fields / sizeof sts_fields[0]; i++) {
        const struct sts_field *field = &sts_fields[i];
        if (!sts_equals(&name, field->name))
            continue;
        if ((reading->seen & field->once) != 0)
            return true;
        reading->seen |= field->once;
        return field->read(reading, &line);
    }
    return true;
}

static bool sts_is_complete(struct sts_reading *reading)
{
    if ((reading->seen & SEEN_VERSION) == 0)
        return sts_refuse(reading, "no version");
    if ((reading->seen & SEEN_MODE) == 0)
        return sts_refuse(reading, "no mode");
    if ((reading->seen & SEEN_AGE) == 0)
        return sts_refuse(reading, "no max_age");
    if (reading->policy->pattern_count == 0 && reading->policy->mode != STS_MODE_NONE)
        return sts_refuse(reading, "no mx");
    return true;
}

struct sts_policy *sts_read_policy(const char *text, size_t len, const char **why)
{
    struct sts_text rest = {text, len}, line;
    struct sts_reading reading = {.why = "out of memory"};
    bool is_valid = true;

    if (len > STS_POLICY_MAX) {
        *why = "it is longer than 64 KiB";
        return NULL;
    }
    /* A pattern is shorter than its line, in which "mx:" leaves room for the NUL. */
    reading.policy = calloc(1, sizeof *reading.policy + len + 1);
    if (reading.policy == NULL)
        is_valid = false;
    while (is_valid && sts_cut(&rest, '\n', &line))
        is_valid = sts_read_line(&reading, line);
    if (is_valid && sts_is_complete(&reading))
        return reading.policy;
    *why = reading.why;
    free(reading.policy);
    return NULL;
}

const char *sts_mode_name(enum sts_mode mode)
{
    static const char *const names[] = {"none", "testing", "enforce"};
    return names[mode];
}

bool sts_allows(const struct sts_policy *policy, const char *host)
{
    const char *pattern = policy->patterns, *below = strchr(host, '.');

    for (size_t i = 0; i < policy->pattern_count; i++, pattern += strlen(pattern) + 1) {
        /* RFC 8461 4.1: a wildcard is for one label, the leftmost. */
        bool is_wild = pattern[0] == '*';
        if (is_wild ? below != NULL && below != host && strcasecmp(pattern + 1, below) == 0
                    : strcasecmp(pattern, host) == 0)
            return true;
    }
    return false;
}

bool sts_is_policy_type(const char *content_type)
{
    static const char type[] = "text/plain";

    if (content_type == NULL || strncasecmp(content_type, type, sizeof type - 1) != 0)
        return false;
    const char *end = content_type + sizeof type - 1;
    end += strspn(end, " \t");
    return *end == '\0' || *end == ';';
}
