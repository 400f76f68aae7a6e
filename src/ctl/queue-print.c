/* ctl/queue-print.c - a spooled message as a row, as JSON, in full
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/utf8.h"
#include "ctl/json.h"
#include "ctl/queue.h"

#define TEXT_MAX 32

/* Words of a remote host must not steer the terminal: only printable characters, in one line. */
static void put_clean(FILE *out, const char *text)
{
    for (size_t at = 0, len = strlen(text), step; at < len; at += step) {
        unsigned char octet = (unsigned char)text[at];
        step = utf8_character(text + at, len - at);
        /* C1 controls are U+0080..U+009F. */
        bool control = octet < 0x20 || octet == 0x7f || step == 0 ||
                       (step == 2 && octet == 0xc2 && (unsigned char)text[at + 1] < 0xa0);
        if (control)
            fputc(octet == '\n' ? ' ' : '?', out);
        else
            fwrite(text + at, 1, step, out);
        step = step == 0 ? 1 : step;
    }
}

static const char *size_text(uint64_t octets, char out[TEXT_MAX])
{
    static const char units[] = "KMGT";
    double value = (double)octets;
    size_t unit = 0;
    if (octets < 1024) {
        snprintf(out, TEXT_MAX, "%" PRIu64, octets);
        return out;
    }
    for (value /= 1024; value >= 1024 && units[unit + 1] != '\0'; unit++)
        value /= 1024;
    snprintf(out, TEXT_MAX, value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return out;
}

/* "45s", "12m", "3h", "2d": the largest unit, as a glance wants it. */
static const char *span_text(int64_t seconds, char out[TEXT_MAX])
{
    if (seconds < 0)
        seconds = 0;
    if (seconds < 60)
        snprintf(out, TEXT_MAX, "%" PRId64 "s", seconds);
    else if (seconds < 3600)
        snprintf(out, TEXT_MAX, "%" PRId64 "m", seconds / 60);
    else if (seconds < 2 * 86400)
        snprintf(out, TEXT_MAX, "%" PRId64 "h", seconds / 3600);
    else
        snprintf(out, TEXT_MAX, "%" PRId64 "d", seconds / 86400);
    return out;
}

void queue_print_heading(FILE *out)
{
    fprintf(out, "%-16s %4s %6s %9s %5s  %s\n", _("ID"), _("AGE"), _("SIZE"), _("LEFT"), _("NEXT"),
            _("SENDER, RECIPIENTS LEFT, LAST REPLIES"));
}

void queue_print_row(FILE *out, const struct spool_envelope *envelope, int64_t now)
{
    char id[SPOOL_ID_LEN + 1], age[TEXT_MAX], size[TEXT_MAX], left[TEXT_MAX], next[TEXT_MAX];
    int64_t when = spool_envelope_next_try(envelope);

    snprintf(left, sizeof left, "%zu/%zu", spool_envelope_left(envelope),
             envelope->recipient_count);
    fprintf(out, "%s %4s %6s %9s %5s  <", spool_id_format(envelope->id, id),
            span_text(now - envelope->arrived, age), size_text(envelope->size, size), left,
            envelope->hold ? _("held") : span_text(when - now, next));
    put_clean(out, envelope->sender.mailbox);
    fputs(">\n", out);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state != RECIPIENT_QUEUED)
            continue;
        fprintf(out, "%46s  ", "");
        put_clean(out, recipient->path.mailbox);
        if (recipient->reply != NULL) {
            fputs(": ", out);
            put_clean(out, recipient->reply);
        }
        fputc('\n', out);
    }
}

static void json_time(FILE *out, const char *name, int64_t when)
{
    char text[SPOOL_TIME_MAX];
    if (when != 0)
        json_member(out, name, spool_time_format(when, text));
}

static void json_recipient(FILE *out, const struct spool_recipient *recipient)
{
    static const char *const states[] = {"queued", "delivered", "failed"};
    char notify[NOTIFY_TEXT_MAX];
    fputs("{\"address\": ", out);
    json_string(out, recipient->path.mailbox, strlen(recipient->path.mailbox));
    json_member(out, "state", states[recipient->state]);
    fprintf(out, ", \"attempts\": %u", recipient->attempts);
    json_time(out, "last_try", recipient->last_try);
    json_time(out, "next_try", recipient->next_try);
    if (recipient->notify != 0)
        json_member(out, "notify", spool_notify_format(recipient->notify, notify));
    if (recipient->remote != NULL)
        json_member(out, "remote", recipient->remote);
    if (recipient->reply != NULL)
        json_member(out, "reply", recipient->reply);
    fputc('}', out);
}

void queue_print_json(FILE *out, const struct spool_envelope *envelope)
{
    char id[SPOOL_ID_LEN + 1];
    fputs("{\"id\": ", out);
    json_string(out, spool_id_format(envelope->id, id), SPOOL_ID_LEN);
    json_member(out, "sender", envelope->sender.mailbox);
    fprintf(out, ", \"size\": %" PRIu64 ", \"hold\": %s, \"recipients_left\": %zu", envelope->size,
            envelope->hold ? "true" : "false", spool_envelope_left(envelope));
    json_time(out, "arrived", envelope->arrived);
    json_time(out, "expires", envelope->expires);
    json_time(out, "next_try", spool_envelope_next_try(envelope));
    if (envelope->origin != NULL)
        json_member(out, "origin", envelope->origin);
    fputs(", \"recipients\": [", out);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        fputs(i > 0 ? ", " : "", out);
        json_recipient(out, &envelope->recipients[i]);
    }
    fputs("]}\n", out);
}

/* The file's own text serves people well. */
void queue_print_envelope(FILE *out, const struct spool_envelope *envelope)
{
    size_t len;
    char *text = spool_envelope_format(envelope, &len);
    if (text == NULL)
        return;
    for (char *line = text, *next; *line != '\0'; line = next) {
        next = line + strcspn(line, "\n");
        if (*next == '\n')
            *next++ = '\0';
        put_clean(out, line);
        fputc('\n', out);
    }
    free(text);
}

int queue_print_data(FILE *out, int fd, bool body)
{
    char block[8192];
    bool line_start = true, blank_line = true;
    ssize_t got;

    while ((got = read(fd, block, sizeof block)) > 0 || (got < 0 && errno == EINTR)) {
        for (ssize_t i = 0; i < got; i++) {
            char octet = block[i];
            if (octet == '\r')
                continue;
            if (octet == '.' && line_start) {
                line_start = false;
                continue;
            }
            line_start = octet == '\n';
            if (line_start && blank_line && !body)
                return 0;
            blank_line = line_start;
            fputc(octet, out);
        }
    }
    return got < 0 ? -1 : 0;
}
