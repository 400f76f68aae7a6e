/* spool/dsn-original.c - examines the message that is reported on, and returns it
 *
 * Its data is canonical and dot-stuffed like the report, so lines are copied unchanged.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "spool/dsn-internal.h"

#define BLOCK 16384
#define LINE_LIMIT 998 /* RFC 5322 2.1.1 */

static ssize_t dsn_read_block(int fd, char *block, uint64_t at, uint64_t len)
{
    ssize_t got;
    do {
        got = pread(fd, block, len < BLOCK ? (size_t)len : BLOCK, (off_t)at);
    } while (got < 0 && errno == EINTR);
    return got;
}

int dsn_original_scan(int fd, struct dsn_original *original)
{
    char block[BLOCK];
    uint64_t line = 0; /* octets in this line */
    bool in_header = true;
    ssize_t got;

    memset(original, 0, sizeof *original);
    while ((got = dsn_read_block(fd, block, original->size, BLOCK)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            uint64_t at = original->size + (uint64_t)i;
            line++;
            if ((unsigned char)block[i] >= 0x80) {
                original->eight_bit = true;
                original->header_eight_bit = original->header_eight_bit || in_header;
            }
            if (block[i] != '\n')
                continue;
            in_header = in_header && line > 2 && at < HEADER_RETURN_MAX;
            if (in_header)
                original->header_size = at + 1;
            original->long_lines = original->long_lines || line > LINE_LIMIT + 2;
            line = 0;
        }
        original->size += (uint64_t)got;
    }
    return got < 0 ? -1 : 0;
}

/* Folds overlong lines into continuation lines, never inside a UTF-8 character or a CRLF. */
static int dsn_copy_folded(struct dsn_output *output, const char *block, size_t len, size_t *column)
{
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char octet = (unsigned char)block[i];
        bool inside = (octet & 0xc0) == 0x80 && *column < DSN_LINE_MAX + 3;
        if (*column >= DSN_LINE_MAX && !inside && octet != '\r' && octet != '\n') {
            if (dsn_output_raw(output, block + from, i - from) != 0 ||
                dsn_output_raw(output, "\r\n ", 3) != 0)
                return -1;
            from = i;
            *column = 1;
        }
        *column = octet == '\n' ? 0 : *column + 1;
    }
    return dsn_output_raw(output, block + from, len - from);
}

int dsn_original_copy(int fd, uint64_t len, bool fold, struct dsn_output *output)
{
    char block[BLOCK];
    size_t column = 0;

    for (uint64_t at = 0; at < len;) {
        ssize_t got = dsn_read_block(fd, block, at, len - at);
        if (got <= 0) {
            error_set(output->err, _("the message that the report is about cannot be read: %s"),
                      got < 0 ? strerror(errno) : _("it has become shorter"));
            return -1;
        }
        if (!fold)
            column = 0;
        int result = fold ? dsn_copy_folded(output, block, (size_t)got, &column)
                          : dsn_output_raw(output, block, (size_t)got);
        if (result != 0)
            return -1;
        at += (uint64_t)got;
    }
    return 0;
}
