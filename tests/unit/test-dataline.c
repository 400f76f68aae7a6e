/* tests/unit/test-dataline.c - smtp/dataline: every known trick with the end of data, cut at every octet
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/dataline.h"

/* After "text" (in the middle of a line); `out` is what follows "text" at the next hop. */
static const struct {
    const char *name, *in;
    size_t len;
    const char *out; /* normalize */
    bool ends, canonical;
} rows[] = {
#define ROW(name, in, out, ends, canonical)                                                        \
    {                                                                                              \
        name, in, sizeof in - 1, out, ends, canonical                                              \
    }
    ROW("1 CRLF.CRLF", "\r\n.\r\n", "\r\n", true, true),
    ROW("2 LF.LF", "\n.\n", "\r\n..\r\n", false, false),
    ROW("3 LF.CRLF", "\n.\r\n", "\r\n..\r\n", false, false),
    ROW("4 CRLF.LF", "\r\n.\n", "\r\n..\r\n", false, false),
    ROW("5 CR.CRx", "\r.\rx", " . x", false, false),
    ROW("6 CR.CRLF", "\r.\r\n", " .\r\n", false, false),
    ROW("7 CRLF.CRx", "\r\n.\rx", "\r\n. x", false, false),
    ROW("8a CRLF NUL.CRLF", "\r\n\0.\r\n", "\r\n .\r\n", false, false),
    ROW("8b CRLF.NUL CRLF", "\r\n.\0\r\n", "\r\n. \r\n", false, false),
    ROW("9 CRCRLF.CRCRLF", "\r\r\n.\r\r\n", " \r\n. \r\n", false, false),
    ROW("10 CRLF.CRCRLF", "\r\n.\r\r\n", "\r\n. \r\n", false, false),
    ROW("11 CRCRLF.CRLF", "\r\r\n.\r\n", " \r\n", true, false),
    ROW("12a CRLF..CRLF", "\r\n..\r\n", "\r\n..\r\n", false, true),
    ROW("12b CRLF. CRLF", "\r\n. \r\n", "\r\n. \r\n", false, true),
    ROW("12c CRLF.x", "\r\n.x", "\r\n.x", false, true),
    ROW("13 LFCRLF.CRLF", "\n\r\n.\r\n", "\r\n\r\n", true, false),
    ROW("14 CRLF.CRLF cut", "\r\n.\r", "\r\n", false, true),
    ROW("LF.CRLF.CRLF", "\n.\r\n.\r\n", "\r\n..\r\n", true, false),
    ROW("CRLF.CRLF behind 8-bit", "\xff\r\n.\r\n", "\xff\r\n", true, true),
    ROW("CRLF LF", "\r\n\nx", "\r\n\r\nx", false, false),
    ROW("bare LF text", "\nmore\r\n.\r\n", "\r\nmore\r\n", true, false),
};

struct result {
    GString *out;
    struct dataline scanner;
    size_t used;
};

/* Feeds the input in two pieces with the border at `cut`, or in pieces of `step` octets. */
static struct result feed_form(enum dataline_mode mode, enum dataline_form form, const char *in,
                               size_t len, size_t step, size_t cut)
{
    struct result result = {.out = g_string_new(NULL)};
    dataline_init(&result.scanner, mode, form);
    while (result.used < len && !result.scanner.ended) {
        size_t piece = step > 0 ? step : result.used < cut ? cut - result.used : len - result.used;
        struct dataline_output output;
        if (piece > len - result.used)
            piece = len - result.used;
        /* Copy it, so that a sanitizer sees a read past the piece. */
        char *copy = g_memdup2(in + result.used, piece);
        result.used += dataline_scan(&result.scanner, copy, piece, &output);
        g_assert_cmpint(output.count, <=, DATALINE_IOV);
        for (int i = 0; i < output.count; i++)
            g_string_append_len(result.out, output.iov[i].iov_base, (gssize)output.iov[i].iov_len);
        g_free(copy);
    }
    return result;
}

static struct result feed(enum dataline_mode mode, const char *in, size_t len, size_t step,
                          size_t cut)
{
    return feed_form(mode, DATALINE_LINES, in, len, step, cut);
}

static void expect(struct result result, const char *in, const char *out, bool ends, bool canonical,
                   enum dataline_mode mode)
{
    g_assert_cmpint(result.scanner.ended, ==, ends);
    g_assert_cmpint(result.scanner.offence, ==, !canonical && mode == DATALINE_REJECT);
    if (mode == DATALINE_NORMALIZE || canonical) {
        g_assert_cmpstr(result.out->str, ==, out);
    } else {
        /* The output before the offence is the beginning of the input. */
        g_assert_cmpint(strncmp(result.out->str, in, strlen(result.out->str)), ==, 0);
    }
    g_string_free(result.out, TRUE);
}

static void test_row(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    GString *in = g_string_new("text");
    g_autofree char *out = g_strconcat("text", rows[i].out, NULL);
    g_string_append_len(in, rows[i].in, (gssize)rows[i].len);
    for (int mode = DATALINE_NORMALIZE; mode <= DATALINE_REJECT; mode++) {
        expect(feed((enum dataline_mode)mode, in->str, in->len, 1, 0), in->str, out, rows[i].ends,
               rows[i].canonical, (enum dataline_mode)mode);
        for (size_t cut = 0; cut <= in->len; cut++)
            expect(feed((enum dataline_mode)mode, in->str, in->len, 0, cut), in->str, out,
                   rows[i].ends, rows[i].canonical, (enum dataline_mode)mode);
    }
    g_string_free(in, TRUE);
}

static void assert_canonical(const GString *out)
{
    g_assert_null(strstr(out->str, "\r\n.\r\n"));
    g_assert_cmpuint(strlen(out->str), ==, out->len); /* no NUL */
    for (size_t k = 0; k < out->len; k++) {
        if (out->str[k] == '\n')
            g_assert_true(k > 0 && out->str[k - 1] == '\r');
        if (out->str[k] == '\r' && k + 1 < out->len)
            g_assert_cmpint(out->str[k + 1], ==, '\n');
    }
}

static void assert_same(const struct result *a, const struct result *b)
{
    g_assert_cmpstr(a->out->str, ==, b->out->str);
    g_assert_cmpuint(a->used, ==, b->used);
    g_assert_cmpint(a->scanner.ended, ==, b->scanner.ended);
    g_assert_cmpint(a->scanner.offence, ==, b->scanner.offence);
    g_assert_cmpuint(a->scanner.octets, ==, b->scanner.octets);
    g_assert_cmpuint(a->scanner.received_count, ==, b->scanner.received_count);
}

/* The input gives the same result whole, cut in two anywhere, and octet by octet. In reject mode too, the
 * amount of output before the offence depends only on the input. */
static void check_every_cut(const GString *in, enum dataline_mode mode, size_t i, size_t j)
{
    struct result whole = feed(mode, in->str, in->len, 0, in->len);
    g_test_message("%s + %s", rows[i].name, rows[j].name);
    for (size_t cut = 0; cut < in->len; cut++) {
        /* The first is octet by octet. */
        struct result other = feed(mode, in->str, in->len, cut == 0, cut);
        assert_same(&whole, &other);
        g_string_free(other.out, TRUE);
    }
    if (rows[i].ends)
        g_assert_cmpuint(whole.used, ==, 4 + rows[i].len);
    else if (!whole.scanner.offence)
        g_assert_nonnull(strstr(whole.out->str, "MAIL FROM:"));
    g_assert_cmpint(whole.scanner.ended, ==, rows[i].ends || rows[j].ends);
    assert_canonical(whole.out);
    g_string_free(whole.out, TRUE);
}

/* Two rows with a smuggled command in between. Unless the first one ends the data, the command is data
 * too. The output is always canonical. */
static void test_pairs(void)
{
    static const char smuggled[] = "MAIL FROM:<evil@example.com>\r\nx";
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(rows); j++) {
            GString *in = g_string_new("text");
            g_string_append_len(in, rows[i].in, (gssize)rows[i].len);
            g_string_append(in, smuggled);
            g_string_append_len(in, rows[j].in, (gssize)rows[j].len);
            check_every_cut(in, DATALINE_NORMALIZE, i, j);
            check_every_cut(in, DATALINE_REJECT, i, j);
            g_string_free(in, TRUE);
        }
    }
}

/* In a long body, which is scanned in blocks, each row gives the same as octet by octet, wherever it stands in
 * them and whatever is between chunks and next hop. */
static void test_blocks(void)
{
    static const char lines[] =
        "\r\nfirst of some lines, which is longer than a block, so that one may end in the midst "
        "of it\r\n\r\n.. dots\r\nand so on to fill"
        " blocks once more: 0123456789 0123456789 0123456789 0123456789\r\n";
    for (size_t i = 0; i < G_N_ELEMENTS(rows) * 3; i++) {
        enum dataline_form form = (enum dataline_form)(DATALINE_LINES + i % 3);
        for (unsigned before = 0; before < 140; before++) {
            GString *in = g_string_new("Subject: x\r\n\r\n");
            for (unsigned k = 0; k < before; k++)
                g_string_append_c(in, k % 3 == 1 ? '.' : 'a');
            g_string_append_len(in, rows[i / 3].in, (gssize)rows[i / 3].len);
            g_string_append(in, lines);
            for (unsigned k = 0; k < before; k++)
                g_string_append_c(in, 'z');
            for (int mode = DATALINE_NORMALIZE; mode <= DATALINE_REJECT; mode++) {
                struct result whole =
                    feed_form((enum dataline_mode)mode, form, in->str, in->len, 0, in->len);
                struct result each =
                    feed_form((enum dataline_mode)mode, form, in->str, in->len, 1, 0);
                g_test_message("%s behind %u octets, form %d", rows[i / 3].name, before, form);
                assert_same(&whole, &each);
                g_string_free(whole.out, TRUE);
                g_string_free(each.out, TRUE);
            }
            g_string_free(in, TRUE);
        }
    }
}

static void test_first_line(void)
{
    struct result result = feed(DATALINE_NORMALIZE, ".\r\nQUIT\r\n", 9, 0, 9);
    g_assert_true(result.scanner.ended);
    g_assert_cmpuint(result.used, ==, 3);
    g_assert_cmpuint(result.scanner.octets, ==, 0);
    g_assert_cmpstr(result.out->str, ==, "");
    g_string_free(result.out, TRUE);
}

/* Canonical text passes as one range, without a copy. */
static void test_one_range(void)
{
    static const char text[] = "Subject: x\r\n\r\none\r\n..two\r\nthree\r\n";
    struct dataline scanner;
    struct dataline_output output;
    dataline_init(&scanner, DATALINE_NORMALIZE, DATALINE_LINES);
    dataline_scan(&scanner, text, sizeof text - 1, &output);
    g_assert_true(output.count >= 1);
    g_assert_true(output.iov[0].iov_base == text);
    dataline_init(&scanner, DATALINE_NORMALIZE, DATALINE_LINES);
    dataline_scan(&scanner, text, 16, &output);
    g_assert_cmpint(output.count, ==, 1);
    g_assert_cmpuint(output.iov[0].iov_len, ==, 16);
}

static void test_received(void)
{
    static const char text[] =
        "Received: a\r\n\tReceived: folded\r\nrEcEiVeD:b\r\nX-Received: c\r\n"
        "Receivedx: d\r\n\r\nReceived: body\r\n.\r\n";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct result result = feed(DATALINE_NORMALIZE, text, sizeof text - 1, 0, cut);
        g_assert_cmpuint(result.scanner.received_count, ==, 2);
        g_assert_cmpuint(result.scanner.octets, ==, sizeof text - 1 - 3);
        g_string_free(result.out, TRUE);
    }
    struct result single = feed(DATALINE_NORMALIZE, text, sizeof text - 1, 1, 0);
    g_assert_cmpuint(single.scanner.received_count, ==, 2);
    g_string_free(single.out, TRUE);
}

/* A binary message passes unchanged, and its trace fields are counted the same wherever it is cut. */
static void test_binary(void)
{
    static const char text[] = "Received: a\r\n\r\r\nReceived: b\nX: \r\0.\r\n.\r\nReceived: c\r\n";
    for (size_t cut = 0; cut < sizeof text - 1; cut++) {
        struct dataline scanner;
        struct dataline_output output;
        dataline_init(&scanner, DATALINE_REJECT, DATALINE_BINARY);
        g_assert_cmpuint(dataline_scan(&scanner, text, cut, &output), ==, cut);
        g_assert_cmpuint(dataline_scan(&scanner, text + cut, sizeof text - 1 - cut, &output), ==,
                         sizeof text - 1 - cut);
        g_assert_cmpint(output.count, ==, 1);
        g_assert_true(output.iov[0].iov_base == text + cut);
        g_assert_cmpuint(output.iov[0].iov_len, ==, sizeof text - 1 - cut);
        g_assert_false(scanner.offence || scanner.ended);
        g_assert_cmpuint(scanner.received_count, ==, 1);
    }
}

/* If one output cannot hold all replacements, the next call takes the rest. */
static void test_many_replacements(void)
{
    GString *in = g_string_new(NULL), *out = g_string_new(NULL);
    for (int i = 0; i < 1000; i++) {
        g_string_append(in, "a\n");
        g_string_append(out, "a\r\n");
    }
    struct result result = feed(DATALINE_NORMALIZE, in->str, in->len, 0, in->len);
    g_assert_cmpstr(result.out->str, ==, out->str);
    g_string_free(result.out, TRUE);
    g_string_free(in, TRUE);
    g_string_free(out, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/dataline/row %s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_row);
    }
    g_test_add_func("/dataline/pairs", test_pairs);
    g_test_add_func("/dataline/blocks", test_blocks);
    g_test_add_func("/dataline/first line", test_first_line);
    g_test_add_func("/dataline/one range", test_one_range);
    g_test_add_func("/dataline/received", test_received);
    g_test_add_func("/dataline/binary", test_binary);
    g_test_add_func("/dataline/many replacements", test_many_replacements);
    return g_test_run();
}
