/* tests/unit/test-buffer.c - base/buffer: text that fits is added, text that does not leaves no trace
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#include "base/buffer.h"

#define SIZE 8 /* octets of storage: seven of text */
#define GUARD '\x5a'

static int puts_text(struct buffer *buffer, const char *text)
{
    return buffer_puts(buffer, text);
}

static int add_text(struct buffer *buffer, const char *text)
{
    return buffer_add(buffer, text, strlen(text));
}

static int join_text(struct buffer *buffer, const char *text)
{
    char begin[2] = {text[0], '\0'};
    return buffer_join(buffer, begin, text[0] != '\0' ? text + 1 : "", NULL);
}

static int print_text(struct buffer *buffer, const char *text)
{
    return buffer_printf(buffer, "%s", text);
}

static const struct {
    const char *name;
    int (*append)(struct buffer *, const char *);
} ways[] = {{"add", add_text}, {"puts", puts_text}, {"join", join_text}, {"printf", print_text}};

static const struct {
    const char *name, *first, *second, *expected;
    int first_result, second_result;
    bool overflow;
} cases[] = {
    {"nothing", "", "", "", 0, 0, false},
    {"room left", "ab", "cd", "abcd", 0, 0, false},
    {"just full", "abcd", "efg", "abcdefg", 0, 0, false},
    {"nothing onto full", "abcdefg", "", "abcdefg", 0, 0, false},
    {"one too many", "abcd", "efgh", "abcd", 0, -1, true},
    {"all at once too long", "abcdefgh", "", "", -1, 0, true},
    {"short behind what did not fit", "abcdefghi", "xy", "xy", -1, 0, true},
};

static void check_case(size_t way, size_t i)
{
    char storage[SIZE + 1];
    struct buffer buffer;

    g_test_message("%s, %s: \"%s\" then \"%s\"", ways[way].name, cases[i].name, cases[i].first,
                   cases[i].second);
    memset(storage, GUARD, sizeof storage);
    buffer_init(&buffer, storage, SIZE);
    g_assert_cmpint(ways[way].append(&buffer, cases[i].first), ==, cases[i].first_result);
    g_assert_cmpint(ways[way].append(&buffer, cases[i].second), ==, cases[i].second_result);
    g_assert_cmpstr(buffer.data, ==, cases[i].expected);
    g_assert_cmpuint(buffer.len, ==, strlen(cases[i].expected));
    g_assert_cmpint(buffer.overflow, ==, cases[i].overflow);
    g_assert_cmpint(storage[SIZE], ==, GUARD);
}

static void test_bound(gconstpointer data)
{
    size_t way = GPOINTER_TO_SIZE(data);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        check_case(way, i);
}

/* The smallest storage holds the empty text and nothing else. */
static void test_one_octet(void)
{
    char storage[1];
    struct buffer buffer;
    buffer_init(&buffer, storage, sizeof storage);
    g_assert_cmpstr(buffer.data, ==, "");
    g_assert_cmpint(buffer_puts(&buffer, ""), ==, 0);
    g_assert_cmpint(buffer_puts(&buffer, "a"), ==, -1);
    g_assert_true(buffer.overflow);
    g_assert_cmpstr(buffer.data, ==, "");
}

/* Octets from the wire may have any value. */
static void test_zero_octet(void)
{
    char storage[SIZE];
    struct buffer buffer;
    buffer_init(&buffer, storage, sizeof storage);
    g_assert_cmpint(buffer_add(&buffer, "a\0b", 3), ==, 0);
    g_assert_cmpuint(buffer.len, ==, 3);
    g_assert_cmpmem(storage, 4, "a\0b\0", 4);
}

static const struct {
    uint64_t value;
    unsigned digits;
    const char *expected;
} numbers[] = {{0, 1, "0"},
               {0, 0, "0"},
               {7, 2, "07"},
               {1999, 2, "1999"},
               {250, 3, "250"},
               {5, 3, "005"},
               {1234567, 1, "1234567"},
               {12345678, 1, ""}};

static void test_number(void)
{
    char storage[SIZE], large[64];
    struct buffer buffer;

    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        buffer_init(&buffer, storage, sizeof storage);
        buffer_number(&buffer, numbers[i].value, numbers[i].digits);
        g_assert_cmpstr(buffer.data, ==, numbers[i].expected);
        g_assert_cmpint(buffer.overflow, ==, numbers[i].expected[0] == '\0');
    }
    buffer_init(&buffer, large, sizeof large);
    buffer_number(&buffer, UINT64_MAX, 40);
    g_assert_cmpstr(buffer.data, ==, "18446744073709551615");
}

/* buffer_add_some() cuts where the room ends, without an overflow. */
static void test_some(void)
{
    char storage[SIZE];
    struct buffer buffer;

    buffer_init(&buffer, storage, sizeof storage);
    buffer_add_some(&buffer, "abcd", 4);
    g_assert_cmpstr(buffer.data, ==, "abcd");
    buffer_add_some(&buffer, "efghij", 6);
    g_assert_cmpstr(buffer.data, ==, "abcdefg");
    buffer_add_some(&buffer, "k", 1);
    g_assert_cmpstr(buffer.data, ==, "abcdefg");
    g_assert_false(buffer.overflow);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autofree char *path = g_strdup_printf("/buffer/bound/%s", ways[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_bound);
    }
    g_test_add_func("/buffer/one octet", test_one_octet);
    g_test_add_func("/buffer/number", test_number);
    g_test_add_func("/buffer/some", test_some);
    g_test_add_func("/buffer/zero octet", test_zero_octet);
    return g_test_run();
}
