/* spool/dsn-status.c - what a report says about each recipient, for people and for programs
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/i18n.h"
#include "base/utf8.h"
#include "spool/dsn-internal.h"
#include "smtp/reply.h"
#include "smtp/xclient.h"

#define PROSE_RECIPIENTS_MAX 100 /* most named in the prose; the fields name all */
#define STATUS_MAX 12

/* The enhanced code of the reply if it fits the action, otherwise one for the reply's class; "5.4.7" for an
 * expired message, whatever the last reply was. */
static const char *dsn_status_of(const struct dsn *dsn, const struct spool_recipient *recipient,
                                 char out[STATUS_MAX])
{
    static const char *const fallback[] = {
        [DSN_FAILED] = "5.0.0", [DSN_DELAYED] = "4.4.7", [DSN_RELAYED] = "2.0.0"};
    const char *reply = recipient->reply != NULL ? recipient->reply : "";
    bool has_code = strspn(reply, "0123456789") == 3 && (reply[3] == ' ' || reply[3] == '-');
    const char *enhanced = has_code ? reply + 4 : reply;

    snprintf(out, STATUS_MAX, "%s", dsn->expired ? "5.4.7" : fallback[dsn->action]);
    size_t len = reply_enhanced_length(enhanced, strcspn(enhanced, "\n"), (*out - '0') * 100);
    if (!dsn->expired && len > 0 && len < STATUS_MAX) {
        memcpy(out, enhanced, len);
        out[len] = '\0';
    }
    return out;
}

/* Prose. */

static void dsn_put_recipient_prose(FILE *out, const struct dsn *dsn,
                                    const struct spool_recipient *recipient)
{
    fprintf(out, "\n<%s>\n", recipient->path.mailbox);
    if (dsn->action == DSN_RELAYED || recipient->reply == NULL)
        return;
    fputs("    ", out);
    if (recipient->remote != NULL) {
        dsn_put_wrapped(out, 4, "    ", recipient->remote, true);
        fprintf(out, " %s\n    ", _("said:"));
    }
    dsn_put_wrapped(out, 4, "    ", recipient->reply, true);
    putc('\n', out);
}

static void dsn_put_opening(FILE *out, const struct dsn *dsn)
{
    char date[DSN_DATE_MAX], text[1024];
    switch (dsn->action) {
    case DSN_FAILED:
        snprintf(text, sizeof text, "%s",
                 dsn->expired
                     ? _("Your message could not be delivered to the recipients named below within "
                         "the time allowed here. It will not be tried again.")
                     : _("Your message could not be delivered to the recipients named below. It "
                         "will not be tried again."));
        break;
    case DSN_DELAYED:
        snprintf(text, sizeof text,
                 _("Your message is still waiting to be delivered to the recipients named below. "
                   "You need not send it again: it will be tried until %s."),
                 dsn_date(dsn->envelope->expires, date));
        break;
    case DSN_RELAYED:
        snprintf(
            text, sizeof text, "%s",
            _("Your message to the recipients named below was passed on to a mail server that does "
              "not confirm delivery. You will hear about it only if something goes wrong."));
        break;
    }
    fprintf(out, _("This is the mail relay %s."), dsn->hostname);
    fputs("\n\n", out);
    dsn_put_wrapped(out, 0, "", text, true);
    putc('\n', out);
}

static void dsn_put_prose(FILE *out, const struct dsn *dsn, bool headers_follow)
{
    size_t named = 0, more = 0;
    dsn_put_opening(out, dsn);
    for (size_t i = 0; i < dsn->envelope->recipient_count; i++) {
        if (!dsn->about[i])
            continue;
        if (named++ < PROSE_RECIPIENTS_MAX)
            dsn_put_recipient_prose(out, dsn, &dsn->envelope->recipients[i]);
        else
            more++;
    }
    if (more > 0) {
        putc('\n', out);
        fprintf(out, ngettext("... and %zu more.", "... and %zu more.", more), more);
        putc('\n', out);
    }
    putc('\n', out);
    dsn_put_wrapped(
        out, 0, "",
        headers_follow
            ? _("The same facts for programs follow, and then the header of your message.")
            : _("The same facts for programs follow, and then your message."),
        true);
    putc('\n', out);
}

/* A message catalogue in a character set other than UTF-8 must not break the report. */
static void dsn_keep_utf8(char *text)
{
    if (utf8_is_valid(text, strlen(text)))
        return;
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80)
            *text = '?';
    }
}

char *dsn_prose(const struct dsn *dsn, bool headers_follow)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return NULL;
    dsn_put_prose(out, dsn, headers_follow);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    dsn_keep_utf8(text);
    return text;
}

/* Fields (RFC 3464 2.2, 2.3). */

static bool dsn_is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e)
            return false;
    }
    return true;
}

/* Decodes xtext if the result is printable. Otherwise it stays as received, which is always safe. */
static void dsn_put_xtext(FILE *out, const char *text)
{
    char decoded[ENVELOPE_REPLY_MAX];
    if (xtext_decode(text, strlen(text), decoded, sizeof decoded) > 0 && dsn_is_printable(decoded))
        text = decoded;
    fputs(text, out);
}

static void dsn_put_original_recipient(FILE *out, const char *orcpt)
{
    const char *semicolon = strchr(orcpt, ';');
    if (semicolon == NULL || !dsn_is_printable(orcpt))
        return;
    fprintf(out, "Original-Recipient: %.*s; ", (int)(semicolon - orcpt), orcpt);
    /* RFC 6533 3: it has its own encoding, which is legal here unchanged. */
    if (strncasecmp(orcpt, "utf-8;", 6) == 0)
        fputs(semicolon + 1, out);
    else
        dsn_put_xtext(out, semicolon + 1);
    putc('\n', out);
}

/* "mx.example.net [192.0.2.1]": the address goes into a comment. */
static void dsn_put_remote(FILE *out, const char *remote)
{
    const char *blank = strchr(remote, ' ');
    if (!dsn_is_printable(remote) || strpbrk(remote, "()\\") != NULL)
        return;
    if (blank == NULL)
        fprintf(out, "Remote-MTA: dns; %s\n", remote);
    else
        fprintf(out, "Remote-MTA: dns; %.*s (%s)\n", (int)(blank - remote), remote, blank + 1);
}

static void dsn_put_recipient_status(FILE *out, const struct dsn *dsn,
                                     const struct spool_recipient *recipient, bool global)
{
    static const char *const actions[] = {
        [DSN_FAILED] = "failed", [DSN_DELAYED] = "delayed", [DSN_RELAYED] = "relayed"};
    char date[DSN_DATE_MAX], status[STATUS_MAX];

    putc('\n', out);
    if (recipient->orcpt != NULL)
        dsn_put_original_recipient(out, recipient->orcpt);
    fprintf(out, "Final-Recipient: %s; ", recipient->path.is_utf8 ? "utf-8" : "rfc822");
    dsn_put_mailbox(out, recipient->path.mailbox);
    putc('\n', out);
    fprintf(out, "Action: %s\n", actions[dsn->action]);
    fprintf(out, "Status: %s\n", dsn_status_of(dsn, recipient, status));
    if (recipient->remote != NULL)
        dsn_put_remote(out, recipient->remote);
    if (recipient->reply != NULL) {
        fprintf(out, "Diagnostic-Code: %s; ", recipient->remote != NULL ? "smtp" : "X-Postern");
        dsn_put_wrapped(out, 23, " ", recipient->reply, global);
        putc('\n', out);
    }
    if (recipient->last_try != 0)
        fprintf(out, "Last-Attempt-Date: %s\n", dsn_date(recipient->last_try, date));
    if (dsn->action == DSN_DELAYED)
        fprintf(out, "Will-Retry-Until: %s\n", dsn_date(dsn->envelope->expires, date));
}

void dsn_put_status(FILE *out, const struct dsn *dsn, bool global)
{
    char date[DSN_DATE_MAX];
    fprintf(out, "Reporting-MTA: dns; %s\n", dsn->hostname);
    if (dsn->envelope->envid != NULL) {
        fputs("Original-Envelope-Id: ", out);
        dsn_put_xtext(out, dsn->envelope->envid);
        putc('\n', out);
    }
    fprintf(out, "Arrival-Date: %s\n", dsn_date(dsn->envelope->arrived, date));
    for (size_t i = 0; i < dsn->envelope->recipient_count; i++) {
        if (dsn->about[i])
            dsn_put_recipient_status(out, dsn, &dsn->envelope->recipients[i], global);
    }
}
