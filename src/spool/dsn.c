/* spool/dsn.c - decides on and writes a whole delivery status notification
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/dsn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "spool/dsn-internal.h"

#define BOUNDARY_MAX 64

bool dsn_wanted(const struct spool_envelope *envelope, const struct spool_recipient *recipient,
                enum dsn_action action)
{
    static const unsigned flags[] = {
        [DSN_FAILED] = NOTIFY_FAILURE,
        [DSN_DELAYED] = NOTIFY_DELAY,
        [DSN_RELAYED] = NOTIFY_SUCCESS,
    };
    /* RFC 3461 4.1: without NOTIFY, failures must be reported, and delays may be. */
    unsigned notify = recipient->notify != 0 ? recipient->notify : NOTIFY_FAILURE | NOTIFY_DELAY;
    return !envelope->sender.is_null && (notify & flags[action]) != 0;
}

/* The shape of a report, decided before its first octet is written. */
struct shape {
    bool global;    /* RFC 6533 types: an address or the header is internationalized */
    bool full;      /* the whole message is returned */
    uint64_t limit; /* octets of it that are returned */
    bool original_eight_bit;
    char *prose;
    bool prose_ascii;
    char boundary[BOUNDARY_MAX];
};

static bool dsn_names_utf8(const struct dsn *dsn)
{
    bool found = dsn->envelope->smtputf8;
    for (size_t i = 0; i < dsn->envelope->recipient_count; i++)
        found = found || (dsn->about[i] && dsn->envelope->recipients[i].path.is_utf8);
    return found;
}

static int dsn_find_shape(const struct dsn *dsn, struct shape *shape, struct error *err)
{
    struct dsn_original original = {.size = 0};

    if (dsn->original_fd >= 0 && dsn_original_scan(dsn->original_fd, &original) != 0) {
        error_set(err, _("the message that the report is about cannot be read: %s"),
                  strerror(errno));
        return -1;
    }
    shape->global = dsn_names_utf8(dsn);
    /* RFC 3461 4.3: RET applies to failures. An overlong line cannot be returned unchanged. */
    shape->full = dsn->action == DSN_FAILED && dsn->envelope->ret == MAIL_RET_FULL &&
                  dsn->original_fd >= 0 && original.size <= dsn->full_max && !original.long_lines;
    shape->limit = shape->full ? original.size : original.header_size;
    shape->original_eight_bit = shape->full ? original.eight_bit : original.header_eight_bit;
    snprintf(shape->boundary, sizeof shape->boundary, "=_%016" PRIx64 "_%08" PRIx64, dsn->unique,
             (uint64_t)dsn->now);
    shape->prose = dsn_prose(dsn, !shape->full);
    if (shape->prose == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    shape->prose_ascii = dsn_is_ascii(shape->prose);
    return 0;
}

static const char *dsn_subject(enum dsn_action action)
{
    switch (action) {
    case DSN_DELAYED:
        return _("Your message has not been delivered yet");
    case DSN_RELAYED:
        return _("Your message was passed on");
    default:
        return _("Your message could not be delivered");
    }
}

static bool dsn_needs_eight_bit(const struct shape *shape)
{
    return shape->global || shape->original_eight_bit;
}

static void dsn_put_header(FILE *out, const struct dsn *dsn, const struct shape *shape)
{
    char date[DSN_DATE_MAX];
    fprintf(out, "Date: %s\nFrom: ", dsn_date(dsn->now, date));
    dsn_put_header_text(out, _("Mail delivery system"));
    fprintf(out, "\n <MAILER-DAEMON@%s>\n", dsn->hostname);
    fputs("To: <", out);
    dsn_put_mailbox(out, dsn->envelope->sender.mailbox);
    fputs(">\nSubject: ", out);
    dsn_put_header_text(out, dsn_subject(dsn->action));
    fprintf(out, "\nMessage-ID: <%016" PRIx64 ".dsn@%s>\n", dsn->unique, dsn->hostname);
    fputs("Auto-Submitted: auto-replied\nMIME-Version: 1.0\n", out);
    fprintf(out,
            "Content-Type: multipart/report; report-type=%s;\n"
            " boundary=\"%s\"\n",
            shape->global ? "global-delivery-status" : "delivery-status", shape->boundary);
    if (dsn_needs_eight_bit(shape))
        fputs("Content-Transfer-Encoding: 8bit\n", out);
    fputs("\nThis is a MIME message.\n", out);
}

static void dsn_put_part(FILE *out, const struct shape *shape, const char *type,
                         const char *encoding)
{
    fprintf(out, "\n--%s\nContent-Type: %s\n", shape->boundary, type);
    if (encoding != NULL)
        fprintf(out, "Content-Transfer-Encoding: %s\n", encoding);
    putc('\n', out);
}

static void dsn_put_reports(FILE *out, const struct dsn *dsn, const struct shape *shape)
{
    if (shape->prose_ascii) {
        dsn_put_part(out, shape, "text/plain; charset=us-ascii", NULL);
        fputs(shape->prose, out);
    } else {
        dsn_put_part(out, shape, "text/plain; charset=utf-8", "quoted-printable");
        dsn_put_quoted_printable(out, shape->prose);
    }
    dsn_put_part(out, shape,
                 shape->global ? "message/global-delivery-status" : "message/delivery-status",
                 shape->global ? "8bit" : NULL);
    dsn_put_status(out, dsn, shape->global);
    if (dsn->original_fd < 0)
        return;
    const char *type = shape->full ? "message/rfc822" : "text/rfc822-headers";
    if (shape->global)
        type = shape->full ? "message/global" : "message/global-headers";
    dsn_put_part(out, shape, type, shape->original_eight_bit ? "8bit" : NULL);
}

static int dsn_finish(FILE *out, struct dsn_output *output, const struct shape *shape)
{
    fprintf(out, "\n--%s--\n", shape->boundary);
    return fflush(out) == 0 ? dsn_output_flush(output) : -1;
}

static int dsn_write_report(FILE *out, struct dsn_output *output, const struct dsn *dsn,
                            const struct shape *shape)
{
    dsn_put_header(out, dsn, shape);
    dsn_put_reports(out, dsn, shape);
    if (fflush(out) != 0 || dsn_output_flush(output) != 0)
        return -1;
    if (dsn->original_fd >= 0 &&
        dsn_original_copy(dsn->original_fd, shape->limit, !shape->full, output) != 0)
        return -1;
    return dsn_finish(out, output, shape);
}

int dsn_write(const struct dsn *dsn, dsn_sink *sink, void *context, struct dsn_needs *needs,
              struct error *err)
{
    struct shape shape = {.prose = NULL};
    struct dsn_output output = {.sink = sink, .context = context, .err = err};

    if (dsn_find_shape(dsn, &shape, err) != 0)
        return -1;
    FILE *out = dsn_output_open(&output);
    if (out == NULL)
        error_set(err, _("out of memory"));
    int result = out != NULL ? dsn_write_report(out, &output, dsn, &shape) : -1;
    if (out != NULL && fclose(out) != 0)
        result = -1;
    free(shape.prose);
    needs->eight_bit = dsn_needs_eight_bit(&shape);
    needs->smtputf8 = dsn->envelope->sender.is_utf8;
    return result;
}
