/* tests/fuzz/fuzz-envelope.c - envelope files, and the reports that are written from them
 *
 * An envelope that was read is written again with the same meaning. No envelope, whatever a remote host has put into it,
 * leads to a report that is not canonical mail data.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spool/dsn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_again(const struct spool_envelope *envelope)
{
    struct spool_envelope again;
    size_t len, len_again;
    char *text = spool_envelope_format(envelope, &len);
    must(text != NULL && strlen(text) == len);
    must(spool_envelope_parse(&again, text, len, NULL) == 0);
    char *text_again = spool_envelope_format(&again, &len_again);
    must(text_again != NULL && len_again == len && memcmp(text, text_again, len) == 0);
    free(text);
    free(text_again);
    spool_envelope_clear(&again);
}

/* The position in the report's current line. */
struct lines {
    size_t column;
    char last, first;
};

static int look(void *context, const struct iovec *iov, int count, struct error *err)
{
    struct lines *lines = context;
    (void)err;
    for (int i = 0; i < count; i++) {
        for (size_t k = 0; k < iov[i].iov_len; k++) {
            char octet = ((const char *)iov[i].iov_base)[k];
            must((lines->last == '\r') == (octet == '\n'));
            must(octet != '\0');
            if (octet == '\n') {
                must(!(lines->column == 2 && lines->first == '.'));
                lines->column = 0;
            } else {
                if (lines->column++ == 0)
                    lines->first = octet;
                must(lines->column <= 999); /* with the CR */
            }
            lines->last = octet;
        }
    }
    return 0;
}

static void check_report(const struct spool_envelope *envelope, enum dsn_action action)
{
    struct lines lines = {.column = 0};
    struct dsn_needs needs;
    bool *about = calloc(envelope->recipient_count, sizeof *about);
    must(about != NULL);
    for (size_t i = 0; i < envelope->recipient_count; i++)
        about[i] = true;
    struct dsn dsn = {
        .action = action,
        .hostname = "relay.example.com",
        .envelope = envelope,
        .about = about,
        .original_fd = -1,
    };
    must(dsn_write(&dsn, look, &lines, &needs, NULL) == 0);
    must(lines.last == '\n');
    free(about);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spool_envelope envelope;
    struct error err = {""};

    if (spool_envelope_parse(&envelope, (const char *)data, size, &err) != 0) {
        must(err.text[0] != '\0' && envelope.recipient_count == 0);
        return 0;
    }
    check_again(&envelope);
    check_report(&envelope, DSN_FAILED);
    check_report(&envelope, DSN_DELAYED);
    check_report(&envelope, DSN_RELAYED);
    spool_envelope_clear(&envelope);
    return 0;
}
