/* tests/fuzz/fuzz-dataline.c - the scanner: its output is canonical, and does not depend on how the input is cut
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/dataline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition)
{
    if (!condition)
        abort();
}

static size_t append(char *out, size_t len, const struct dataline_output *output)
{
    for (int i = 0; i < output->count; i++) {
        memcpy(out + len, output->iov[i].iov_base, output->iov[i].iov_len);
        len += output->iov[i].iov_len;
    }
    return len;
}

static size_t run(enum dataline_form form, const char *in, size_t len, size_t step, char *out,
                  struct dataline *scanner)
{
    struct dataline_output output;
    size_t used = 0, out_len = 0;
    dataline_init(scanner, DATALINE_NORMALIZE, form);
    while (used < len && !scanner->ended) {
        size_t piece = len - used < step ? len - used : step;
        used += dataline_scan(scanner, in + used, piece, &output);
        out_len = append(out, out_len, &output);
    }
    if (form != DATALINE_LINES) {
        dataline_finish(scanner, &output);
        out_len = append(out, out_len, &output);
    }
    return out_len;
}

/* No bare CR, bare LF or NUL; with lines, no lone dot. */
static void check_canonical(enum dataline_form form, const char *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        must(out[i] != '\0');
        must(out[i] != '\n' || (i > 0 && out[i - 1] == '\r'));
        must(out[i] != '\r' || i + 1 == len || out[i + 1] == '\n');
        if (form != DATALINE_CHUNKS && out[i] == '.' && (i == 0 || out[i - 1] == '\n') &&
            i + 1 < len)
            must(out[i + 1] != '\r');
    }
    if (form == DATALINE_STUFF && len > 0)
        must(out[len - 1] == '\n');
}

static void check(enum dataline_form form, const char *data, size_t size)
{
    struct dataline a, b;
    /* An octet becomes at most two, and a false end becomes "..\r\n". */
    char *one = malloc(4 * size + 8), *two = malloc(4 * size + 8);
    size_t one_len = run(form, data, size, size, one, &a);
    size_t two_len = run(form, data, size, 1, two, &b);

    must(one_len == two_len && memcmp(one, two, one_len) == 0);
    must(a.ended == b.ended && a.octets == b.octets && a.received_count == b.received_count);
    if (form == DATALINE_BINARY)
        must(one_len == size && memcmp(one, data, size) == 0);
    else
        check_canonical(form, one, one_len);
    free(one);
    free(two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int form = DATALINE_LINES; form <= DATALINE_BINARY; form++)
        check((enum dataline_form)form, (const char *)data, size);
    return 0;
}
