/* spool/spool-envelope-text.c - writes and reads the text of an envelope file (postern-spool(5))
 *
 * A line is a name, a space and a value. The fields of a recipient follow its "recipient" line, indented by
 * one space. In values '\' is written "\\", a line feed "\n" and any other control octet "\xNN", so that a
 * value never spans lines.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/spool-envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/i18n.h"

#define MAGIC "postern-envelope"

static const char *const state_names[] = {"queued", "delivered", "failed"};
static const char *const body_names[] = {"", "7BIT", "8BITMIME", "BINARYMIME"};
static const char *const ret_names[] = {"", "FULL", "HDRS"};

#define NAMES(table) (sizeof(table) / sizeof *(table))

/* Writing. */

static void envelope_put_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char octet = (unsigned char)*text;
        if (octet == '\\')
            fputs("\\\\", out);
        else if (octet == '\n')
            fputs("\\n", out);
        else if (octet < 0x20 || octet == 0x7f)
            fprintf(out, "\\x%02X", octet);
        else
            putc(octet, out);
    }
}

static void envelope_put_text(FILE *out, const char *name, const char *value)
{
    if (value == NULL || *value == '\0')
        return;
    fprintf(out, "%s ", name);
    envelope_put_escaped(out, value);
    putc('\n', out);
}

static void envelope_put_time(FILE *out, const char *name, int64_t when)
{
    char text[SPOOL_TIME_MAX];
    if (when != 0)
        envelope_put_text(out, name, spool_time_format(when, text));
}

static void envelope_put_path(FILE *out, const char *name, const struct path *path)
{
    fprintf(out, "%s <", name);
    envelope_put_escaped(out, path->mailbox);
    fputs(">\n", out);
}

static void envelope_put_recipient(FILE *out, const struct spool_recipient *recipient)
{
    char notify[NOTIFY_MAX + 1];
    envelope_put_path(out, "recipient", &recipient->path);
    envelope_put_text(out, " state", state_names[recipient->state]);
    envelope_put_text(out, " notify", command_format_notify(recipient->notify, notify));
    envelope_put_text(out, " orcpt", recipient->orcpt);
    if (recipient->attempts != 0)
        fprintf(out, " attempts %u\n", recipient->attempts);
    envelope_put_time(out, " last-try", recipient->last_try);
    envelope_put_time(out, " next-try", recipient->next_try);
    envelope_put_text(out, " delay-notified", recipient->delay_notified ? "yes" : NULL);
    envelope_put_text(out, " remote", recipient->remote);
    envelope_put_text(out, " reply", recipient->reply);
    fputs(recipient->unknown != NULL ? recipient->unknown : "", out);
}

char *spool_envelope_format(const struct spool_envelope *envelope, size_t *len)
{
    char id[SPOOL_ID_LEN + 1], *text = NULL;
    FILE *out = open_memstream(&text, len);

    if (out == NULL)
        return NULL;
    fprintf(out, MAGIC " %d\n", ENVELOPE_VERSION);
    envelope_put_text(out, "id", spool_id_format(envelope->id, id));
    fprintf(out, "size %" PRIu64 "\n", envelope->size);
    envelope_put_time(out, "arrived", envelope->arrived);
    envelope_put_time(out, "expires", envelope->expires);
    envelope_put_text(out, "hold", envelope->hold ? "yes" : NULL);
    envelope_put_time(out, "held-since", envelope->held_since);
    envelope_put_text(out, "report", envelope->report ? "yes" : NULL);
    envelope_put_text(out, "origin", envelope->origin);
    envelope_put_path(out, "sender", &envelope->sender);
    envelope_put_text(out, "body", body_names[envelope->body]);
    envelope_put_text(out, "smtputf8", envelope->smtputf8 ? "yes" : NULL);
    envelope_put_text(out, "requiretls", envelope->requiretls ? "yes" : NULL);
    envelope_put_text(out, "ret", ret_names[envelope->ret]);
    envelope_put_text(out, "envid", envelope->envid);
    fputs(envelope->unknown != NULL ? envelope->unknown : "", out);
    for (size_t i = 0; i < envelope->recipient_count; i++)
        envelope_put_recipient(out, &envelope->recipients[i]);
    fputs("end\n", out);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* Reading. Every reader gets an unescaped value and returns false if it is malformed. */

static bool envelope_read_number(const char *value, uint64_t max, uint64_t *number)
{
    uint64_t sum = 0;
    if (*value == '\0')
        return false;
    for (; *value != '\0'; value++) {
        if (*value < '0' || *value > '9' || sum > (max - (uint64_t)(*value - '0')) / 10)
            return false;
        sum = sum * 10 + (uint64_t)(*value - '0');
    }
    *number = sum;
    return true;
}

static bool envelope_read_time(const char *value, int64_t *when)
{
    struct tm tm = {.tm_isdst = 0};
    char again[SPOOL_TIME_MAX];
    const char *end = strptime(value, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0')
        return false;
    *when = (int64_t)timegm(&tm);
    /* strptime(3) is lenient: accept only what we would write. */
    return strcmp(spool_time_format(*when, again), value) == 0;
}

static bool envelope_read_yes(const char *value, bool *yes)
{
    *yes = strcmp(value, "yes") == 0;
    return *yes || strcmp(value, "no") == 0;
}

static bool envelope_read_name(const char *value, const char *const *names, size_t count,
                               int *index)
{
    for (size_t i = 0; i < count; i++) {
        if (*names[i] != '\0' && strcmp(names[i], value) == 0) {
            *index = (int)i;
            return true;
        }
    }
    return false;
}

static bool envelope_read_text(const char *value, char **field)
{
    return spool_envelope_set_text(field, value, ENVELOPE_FILE_MAX) == 0;
}

static bool envelope_read_path(const char *value, bool reverse, struct path *path)
{
    size_t used, len = strlen(value);
    bool valid = reverse ? path_parse_reverse(path, value, len, &used)
                         : path_parse_forward(path, value, len, &used);
    /* SMTP accepts sloppier forms; the file must have exactly the form that we write. */
    return valid && used == len && value[0] == '<' && value[len - 1] == '>';
}

enum field_result { FIELD_READ, FIELD_BAD, FIELD_UNKNOWN };

static enum field_result envelope_took(bool well)
{
    return well ? FIELD_READ : FIELD_BAD;
}

static enum field_result envelope_read_envelope_field(struct spool_envelope *envelope,
                                                      const char *name, const char *value)
{
    int index = 0;
    bool well;

    if (strcmp(name, "id") == 0)
        return envelope_took(spool_id_parse(value, strlen(value), &envelope->id));
    if (strcmp(name, "size") == 0)
        return envelope_took(envelope_read_number(value, INT64_MAX, &envelope->size));
    if (strcmp(name, "arrived") == 0)
        return envelope_took(envelope_read_time(value, &envelope->arrived));
    if (strcmp(name, "expires") == 0)
        return envelope_took(envelope_read_time(value, &envelope->expires));
    if (strcmp(name, "hold") == 0)
        return envelope_took(envelope_read_yes(value, &envelope->hold));
    if (strcmp(name, "held-since") == 0)
        return envelope_took(envelope_read_time(value, &envelope->held_since));
    if (strcmp(name, "report") == 0)
        return envelope_took(envelope_read_yes(value, &envelope->report));
    if (strcmp(name, "origin") == 0)
        return envelope_took(envelope_read_text(value, &envelope->origin));
    if (strcmp(name, "sender") == 0)
        return envelope_took(envelope_read_path(value, true, &envelope->sender));
    if (strcmp(name, "body") == 0) {
        well = envelope_read_name(value, body_names, NAMES(body_names), &index);
        envelope->body = (enum mail_body)index;
        return envelope_took(well);
    }
    if (strcmp(name, "smtputf8") == 0)
        return envelope_took(envelope_read_yes(value, &envelope->smtputf8));
    if (strcmp(name, "requiretls") == 0)
        return envelope_took(envelope_read_yes(value, &envelope->requiretls));
    if (strcmp(name, "ret") == 0) {
        well = envelope_read_name(value, ret_names, NAMES(ret_names), &index);
        envelope->ret = (enum mail_ret)index;
        return envelope_took(well);
    }
    if (strcmp(name, "envid") == 0)
        return envelope_took(envelope_read_text(value, &envelope->envid));
    return FIELD_UNKNOWN;
}

static enum field_result envelope_read_recipient_field(struct spool_recipient *recipient,
                                                       const char *name, const char *value)
{
    uint64_t number = 0;
    int index = 0;
    bool well;

    if (strcmp(name, "state") == 0) {
        well = envelope_read_name(value, state_names, NAMES(state_names), &index);
        recipient->state = (enum recipient_state)index;
        return envelope_took(well);
    }
    if (strcmp(name, "notify") == 0) {
        recipient->notify = command_parse_notify(value, strlen(value));
        return envelope_took(recipient->notify != 0);
    }
    if (strcmp(name, "orcpt") == 0)
        return envelope_took(envelope_read_text(value, &recipient->orcpt));
    if (strcmp(name, "attempts") == 0) {
        well = envelope_read_number(value, UINT32_MAX, &number);
        recipient->attempts = (unsigned)number;
        return envelope_took(well);
    }
    if (strcmp(name, "last-try") == 0)
        return envelope_took(envelope_read_time(value, &recipient->last_try));
    if (strcmp(name, "next-try") == 0)
        return envelope_took(envelope_read_time(value, &recipient->next_try));
    if (strcmp(name, "delay-notified") == 0)
        return envelope_took(envelope_read_yes(value, &recipient->delay_notified));
    if (strcmp(name, "remote") == 0)
        return envelope_took(envelope_read_text(value, &recipient->remote));
    if (strcmp(name, "reply") == 0)
        return envelope_took(envelope_read_text(value, &recipient->reply));
    return FIELD_UNKNOWN;
}

static int envelope_hex_value(char digit)
{
    const char *digits = "0123456789ABCDEF";
    const char *found = digit != '\0' ? strchr(digits, digit) : NULL;
    return found != NULL ? (int)(found - digits) : -1;
}

/* Unescapes in place. False for an invalid escape or a NUL. */
static bool envelope_unescape(char *text)
{
    char *to = text;
    for (; *text != '\0'; text++) {
        if (*text != '\\') {
            *to++ = *text;
            continue;
        }
        text++;
        if (*text == '\\' || *text == 'n') {
            *to++ = *text == 'n' ? '\n' : '\\';
            continue;
        }
        int high = *text == 'x' ? envelope_hex_value(text[1]) : -1;
        int low = high >= 0 ? envelope_hex_value(text[2]) : -1;
        if (low < 0 || high * 16 + low == 0)
            return false;
        *to++ = (char)(high * 16 + low);
        text += 2;
    }
    *to = '\0';
    return true;
}

/* Keeps a line from a later version unchanged, in its scope. */
static bool envelope_keep_line(char **kept, const char *line)
{
    char *longer;
    if (asprintf(&longer, "%s%s\n", *kept != NULL ? *kept : "", line) < 0)
        return false;
    free(*kept);
    *kept = longer;
    return true;
}

static bool envelope_begin_recipient(struct spool_envelope *envelope, const char *value)
{
    struct path path;
    return envelope_read_path(value, false, &path) && spool_envelope_add(envelope, &path) != NULL;
}

/* Reads one line between the first and "end", and may modify it. */
static bool envelope_read_line(struct spool_envelope *envelope, char *line)
{
    struct spool_recipient *recipient =
        envelope->recipient_count > 0 ? &envelope->recipients[envelope->recipient_count - 1] : NULL;
    bool indented = *line == ' ';
    char *name = indented ? line + 1 : line, *blank = strchr(name, ' ');
    char *original = strdup(line);
    bool well = original != NULL && blank != NULL && (!indented || recipient != NULL);
    enum field_result result = FIELD_BAD;

    if (well) {
        *blank = '\0';
        well = envelope_unescape(blank + 1);
    }
    if (well && !indented && strcmp(name, "recipient") == 0)
        result = envelope_took(envelope_begin_recipient(envelope, blank + 1));
    else if (well)
        result = indented ? envelope_read_recipient_field(recipient, name, blank + 1)
                          : envelope_read_envelope_field(envelope, name, blank + 1);
    if (result == FIELD_UNKNOWN)
        result = envelope_took(
            envelope_keep_line(indented ? &recipient->unknown : &envelope->unknown, original));
    free(original);
    return result == FIELD_READ;
}

static int envelope_check_first_line(const char *line, struct error *err)
{
    uint64_t version;
    if (strncmp(line, MAGIC " ", sizeof MAGIC) != 0 ||
        !envelope_read_number(line + sizeof MAGIC, UINT32_MAX, &version) || version == 0) {
        error_set(err, _("it is not an envelope: its first line is not \"%s %d\""), MAGIC,
                  ENVELOPE_VERSION);
        return -1;
    }
    if (version > ENVELOPE_VERSION) {
        error_set(err, _("it was written by a later version of Postern (format %llu, known: %d)"),
                  (unsigned long long)version, ENVELOPE_VERSION);
        return -1;
    }
    return 0;
}

/* A missing sender line must not read as the null sender, who is never told about failures. */
static bool envelope_has_sender(const struct spool_envelope *envelope)
{
    return envelope->sender.is_null || envelope->sender.mailbox[0] != '\0';
}

static int envelope_check_whole(const struct spool_envelope *envelope, bool ended,
                                struct error *err)
{
    const char *missing = !ended                           ? "end"
                          : envelope->id == 0              ? "id"
                          : envelope->arrived == 0         ? "arrived"
                          : envelope->expires == 0         ? "expires"
                          : !envelope_has_sender(envelope) ? "sender"
                          : envelope->recipient_count == 0 ? "recipient"
                                                           : NULL;
    if (missing == NULL)
        return 0;
    error_set(err, _("the line \"%s\" is missing: the envelope is cut off or damaged"), missing);
    return -1;
}

static int envelope_parse_lines(struct spool_envelope *envelope, char *text, struct error *err)
{
    unsigned number = 0;
    bool ended = false;

    while (*text != '\0' && !ended) {
        char *line = text, *end = strchr(text, '\n');
        number++;
        if (end == NULL)
            break;
        *end = '\0';
        text = end + 1;
        if (number == 1) {
            if (envelope_check_first_line(line, err) != 0)
                return -1;
        } else if (strcmp(line, "end") == 0) {
            ended = true;
        } else if (!envelope_read_line(envelope, line)) {
            error_set(err, _("line %u cannot be understood"), number);
            return -1;
        }
    }
    return envelope_check_whole(envelope, ended && *text == '\0', err);
}

int spool_envelope_parse(struct spool_envelope *envelope, const char *text, size_t len,
                         struct error *err)
{
    int result = -1;
    char *copy =
        len <= ENVELOPE_FILE_MAX && memchr(text, '\0', len) == NULL ? strndup(text, len) : NULL;
    spool_envelope_init(envelope);
    envelope->sender.is_null = false;
    if (copy == NULL)
        error_set(err, _("it contains a NUL octet or is too large"));
    else
        result = envelope_parse_lines(envelope, copy, err);
    if (result != 0)
        spool_envelope_clear(envelope);
    free(copy);
    return result;
}
