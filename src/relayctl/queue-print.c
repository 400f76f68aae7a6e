/* relayctl/queue-print.c - prints a spooled message as a row, as JSON, or in full
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
#include "relayctl/json.h"
#include "relayctl/queue.h"

/* C1 controls are U+0080..U+009F. */
static bool print_is_control(const char *text, size_t step)
{
    unsigned char octet = (unsigned char)*text;
    return octet < 0x20 || octet == 0x7f || step == 0 ||
           (step == 2 && octet == 0xc2 && (unsigned char)text[1] < 0xa0);
}

/* Prints text[0..len) visibly. Unless this is the `end`, leaves an incomplete character at the end for the
 * next call. Returns the octets printed. */
static size_t print_visible(FILE *out, const char *text, size_t len, bool lines, bool end)
{
    size_t at = 0, step;
    for (; at < len; at += step) {
        unsigned char octet = (unsigned char)text[at];
        step = utf8_character(text + at, len - at);
        if (step == 0 && octet >= 0xc0 && len - at < 4 && !end)
            break;
        if (!print_is_control(text + at, step) || (lines && (octet == '\n' || octet == '\t')))
            fwrite(text + at, 1, step, out);
        else if (octet == '\n')
            fputc(' ', out);
        else if (octet < 0x80)
            fprintf(out, "^%c", octet ^ 0x40);
        else
            fprintf(out, "\\x%02x", step == 2 ? (unsigned char)text[at + 1] : octet);
        step = step == 0 ? 1 : step;
    }
    return at;
}

void queue_put_visible(FILE *out, const char *text, bool lines)
{
    print_visible(out, text, strlen(text), lines, true);
}

const char *queue_size_text(uint64_t octets, char out[QUEUE_TEXT_MAX])
{
    static const char units[] = "KMGT";
    double value = (double)octets;
    size_t unit = 0;
    if (octets < 1024) {
        snprintf(out, QUEUE_TEXT_MAX, "%" PRIu64, octets);
        return out;
    }
    for (value /= 1024; value >= 1024 && units[unit + 1] != '\0'; unit++)
        value /= 1024;
    snprintf(out, QUEUE_TEXT_MAX, value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return out;
}

const char *queue_span_text(int64_t seconds, char out[QUEUE_TEXT_MAX])
{
    if (seconds < 0)
        seconds = 0;
    if (seconds < 60)
        snprintf(out, QUEUE_TEXT_MAX, "%" PRId64 "s", seconds);
    else if (seconds < 3600)
        snprintf(out, QUEUE_TEXT_MAX, "%" PRId64 "m", seconds / 60);
    else if (seconds < 2 * 86400)
        snprintf(out, QUEUE_TEXT_MAX, "%" PRId64 "h", seconds / 3600);
    else
        snprintf(out, QUEUE_TEXT_MAX, "%" PRId64 "d", seconds / 86400);
    return out;
}

void queue_print_heading(FILE *out)
{
    fprintf(out, "%-16s %4s %6s %9s %5s  %s\n", _("ID"), _("AGE"), _("SIZE"), _("LEFT"), _("NEXT"),
            _("SENDER, RECIPIENTS LEFT, LAST REPLIES"));
}

void queue_print_row(FILE *out, const struct spool_envelope *envelope, int64_t now)
{
    char id[SPOOL_ID_LEN + 1], age[QUEUE_TEXT_MAX], size[QUEUE_TEXT_MAX], left[QUEUE_TEXT_MAX],
        next[QUEUE_TEXT_MAX];
    int64_t when = spool_envelope_next_try(envelope);

    snprintf(left, sizeof left, "%zu/%zu", spool_envelope_left(envelope),
             envelope->recipient_count);
    fprintf(out, "%s %4s %6s %9s %5s  <", spool_id_format(envelope->id, id),
            queue_span_text(now - envelope->arrived, age), queue_size_text(envelope->size, size),
            left, envelope->hold ? _("held") : queue_span_text(when - now, next));
    queue_put_visible(out, envelope->sender.mailbox, false);
    fputs(">\n", out);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state != RECIPIENT_QUEUED)
            continue;
        fprintf(out, "%46s  ", "");
        queue_put_visible(out, recipient->path.mailbox, false);
        if (recipient->reply != NULL) {
            fputs(": ", out);
            queue_put_visible(out, recipient->reply, false);
        }
        fputc('\n', out);
    }
}

void queue_print_json_time(FILE *out, const char *name, int64_t when)
{
    char text[SPOOL_TIME_MAX];
    if (when != 0)
        json_member(out, name, spool_time_format(when, text));
}

static void print_json_recipient(FILE *out, const struct spool_recipient *recipient)
{
    static const char *const states[] = {"queued", "delivered", "failed"};
    char notify[NOTIFY_MAX + 1];
    fputs("{\"address\": ", out);
    json_string(out, recipient->path.mailbox, strlen(recipient->path.mailbox));
    json_member(out, "state", states[recipient->state]);
    fprintf(out, ", \"attempts\": %u", recipient->attempts);
    queue_print_json_time(out, "last_try", recipient->last_try);
    queue_print_json_time(out, "next_try", recipient->next_try);
    if (recipient->notify != 0)
        json_member(out, "notify", command_format_notify(recipient->notify, notify));
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
    queue_print_json_time(out, "arrived", envelope->arrived);
    queue_print_json_time(out, "expires", envelope->expires);
    queue_print_json_time(out, "next_try", spool_envelope_next_try(envelope));
    if (envelope->origin != NULL)
        json_member(out, "origin", envelope->origin);
    fputs(", \"recipients\": [", out);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        fputs(i > 0 ? ", " : "", out);
        print_json_recipient(out, &envelope->recipients[i]);
    }
    fputs("]}\n", out);
}

/* The envelope file's own text is readable as it is. */
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
        queue_put_visible(out, line, false);
        fputc('\n', out);
    }
    free(text);
}

/* Removes the dots that SMTP doubles, and the CRs, in place. Returns the octets left. */
static size_t print_unstuff(char *block, size_t len, bool *line_start)
{
    size_t kept = 0;
    for (size_t i = 0; i < len; i++) {
        char octet = block[i];
        bool first = *line_start;
        if (octet == '\r')
            continue;
        *line_start = octet == '\n';
        if (octet != '.' || !first)
            block[kept++] = octet;
    }
    return kept;
}

int queue_print_data(FILE *out, FILE *data, uint64_t size, bool raw)
{
    char block[8192];
    bool line_start = true;
    size_t held = 0;

    while (size > 0) {
        size_t room = sizeof block - held;
        size_t got = fread(block + held, 1, size < room ? (size_t)size : room, data);
        if (got == 0)
            return -1;
        size -= got;
        size_t len = held + print_unstuff(block + held, got, &line_start);
        size_t done =
            raw ? fwrite(block, 1, len, out) : print_visible(out, block, len, true, size == 0);
        held = len - done;
        memmove(block, block + done, held);
        if (raw && held > 0)
            return -1;
    }
    return 0;
}
