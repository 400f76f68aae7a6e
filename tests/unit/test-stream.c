/* tests/unit/test-stream.c - net/stream in plain text
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/stream.h"
#include "stream-peer.h"

struct pair {
    struct stream stream;
    struct stream_buffers buffers;
    int peer;
};

static void pair_open(struct pair *pair)
{
    int fds[2];
    unix_pair(fds);
    pair->peer = fds[1];
    stream_init(&pair->stream, fds[0]);
    g_assert_cmpint(stream_buffers_init(&pair->buffers, 4096, 1024), ==, 0);
    stream_lend(&pair->stream, &pair->buffers);
}

static void pair_close(struct pair *pair)
{
    stream_close(&pair->stream);
    stream_buffers_free(&pair->buffers);
    close(pair->peer);
}

static void say(struct pair *pair, const char *text, size_t len)
{
    g_assert_cmpint(write(pair->peer, text, len), ==, (gssize)len);
}

/* Each line must come out the same, wherever the input is cut. */
static void test_lines(void)
{
    static const char text[] = "one\r\ntwo\n\r\nth\0ree\r\n";
    static const struct {
        const char *text;
        size_t len;
        bool bare;
    } expected[] = {{"one", 3, false}, {"two", 3, true}, {"", 0, false}, {"th\0ree", 6, false}};
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct pair pair;
        struct line line;
        size_t got = 0;
        pair_open(&pair);
        say(&pair, text, cut);
        for (int rest = 0; rest < 2; rest++) {
            while (stream_read_line(&pair.stream, &line, 100, deadline_in_ms(1)) == IO_OK) {
                g_assert_cmpuint(line.len, ==, expected[got].len);
                g_assert_cmpint(memcmp(line.text, expected[got].text, line.len), ==, 0);
                g_assert_cmpint(line.bare_lf, ==, expected[got].bare);
                got++;
            }
            if (rest == 0)
                say(&pair, text + cut, sizeof text - 1 - cut);
        }
        g_assert_cmpuint(got, ==, 4);
        pair_close(&pair);
    }
}

static void test_too_long(void)
{
    struct pair pair;
    struct line line;
    g_autofree char *text = g_strnfill(20000, 'x');
    pair_open(&pair);
    say(&pair, text, 20000);
    say(&pair, "\r\nok\r\n", 6);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_TOO_LONG);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_OK);
    g_assert_cmpuint(line.len, ==, 2);
    text[510] = '\r';
    text[511] = '\n';
    say(&pair, text, 512);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_OK);
    g_assert_cmpuint(line.len, ==, 510);
    pair_close(&pair);
}

static void test_ends(void)
{
    struct pair pair;
    struct line line;
    pair_open(&pair);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_TIMEOUT);
    say(&pair, "par", 3);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_TIMEOUT);
    g_assert_true(stream_has_input(&pair.stream));
    say(&pair, "t\r\nhalf", 7);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_OK);
    g_assert_cmpuint(line.len, ==, 4);
    shutdown(pair.peer, SHUT_WR);
    g_assert_cmpint(stream_read_line(&pair.stream, &line, 512, soon()), ==, IO_EOF);
    pair_close(&pair);
}

static void test_output(void)
{
    struct pair pair;
    char got[4096];
    struct iovec iov[] = {{(char *)"three", 5}, {(char *)"", 0}, {(char *)"four", 4}};
    pair_open(&pair);
    g_assert_cmpint(stream_put(&pair.stream, "one", 3, soon()), ==, IO_OK);
    g_assert_cmpint(stream_put(&pair.stream, "two", 3, soon()), ==, IO_OK);
    g_assert_cmpint(recv(pair.peer, got, sizeof got, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(stream_writev(&pair.stream, iov, 3, soon()), ==, IO_OK);
    g_assert_cmpint(recv(pair.peer, got, sizeof got, MSG_DONTWAIT), ==, 15);
    g_assert_cmpint(memcmp(got, "onetwothreefour", 15), ==, 0);
    g_autofree char *big = g_strnfill(3000, 'b');
    stream_put(&pair.stream, "a", 1, soon());
    g_assert_cmpint(stream_put(&pair.stream, big, 3000, soon()), ==, IO_OK);
    g_assert_cmpint(recv(pair.peer, got, sizeof got, MSG_DONTWAIT), ==, 3001);
    g_assert_cmpint(got[0], ==, 'a');
    /* A peer that reads nothing causes a timeout, which breaks the stream. */
    enum io_result result = IO_OK;
    for (int i = 0; i < 10000 && result == IO_OK; i++)
        result = stream_put(&pair.stream, big, 3000, soon());
    g_assert_cmpint(result, ==, IO_TIMEOUT);
    g_assert_cmpint(stream_flush(&pair.stream, soon()), ==, IO_FAILED);
    pair_close(&pair);
}

static void test_injected(void)
{
    struct pair pair;
    struct line line;
    pair_open(&pair);
    say(&pair, "STARTTLS\r\nRSET\r\n", 16);
    stream_read_line(&pair.stream, &line, 512, soon());
    g_assert_true(stream_has_injected_input(&pair.stream));
    stream_read_line(&pair.stream, &line, 512, soon());
    g_assert_false(stream_has_injected_input(&pair.stream));
    say(&pair, "x", 1);
    g_assert_true(stream_has_injected_input(&pair.stream));
    pair_close(&pair);
}

/* After an abort the peer gets RST; after a close it sees an orderly end. */
static void test_abort(void)
{
    for (int abort = 0; abort < 2; abort++) {
        struct stream stream;
        char byte;
        int fds[2];
        tcp_pair(fds);
        stream_init(&stream, fds[0]);
        if (abort)
            stream_abort(&stream);
        else
            stream_close(&stream);
        g_assert_cmpint(stream.fd, ==, -1);
        errno = 0;
        g_assert_cmpint(recv(fds[1], &byte, 1, 0), ==, abort ? -1 : 0);
        g_assert_cmpint(errno, ==, abort ? ECONNRESET : 0);
        close(fds[1]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/lines", test_lines);
    g_test_add_func("/stream/too long", test_too_long);
    g_test_add_func("/stream/ends", test_ends);
    g_test_add_func("/stream/output", test_output);
    g_test_add_func("/stream/injected", test_injected);
    g_test_add_func("/stream/abort", test_abort);
    return g_test_run();
}
