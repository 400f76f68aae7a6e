/* ctl/sink-session.c - the sink's dialog, and the faults it was told to play
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "ctl/sink.h"

#include <gnutls/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "net/proxy.h"
#include "smtp/command.h"
#include "smtp/dataline.h"
#include "smtp/xclient.h"

#define TIMEOUT_MS 300000
#define BUFFER_SIZE 65536

struct dialog {
    struct sink *sink;
    struct stream stream;
    struct stream_buffers buffers;
    struct sink_message message;
    bool over, greeted, in_mail, xclient_used;
    /* The body under way. */
    gnutls_hash_hd_t hash;
    FILE *body;
    char body_path[4096];
    bool line_start;
};

static struct deadline limit(void)
{
    return deadline_in_ms(TIMEOUT_MS);
}

static void put(struct dialog *dialog, const char *text)
{
    if (stream_put(&dialog->stream, text, strlen(text), limit()) != IO_OK)
        dialog->over = true;
}

static void flush(struct dialog *dialog)
{
    if (stream_flush(&dialog->stream, limit()) != IO_OK)
        dialog->over = true;
}

/* Plays what is ordered for this step. True when that was the answer: the ordinary one is left out;
 * *positive says whether the step counts as done. */
static bool play(struct dialog *dialog, enum sink_step step, const char *recipient, bool *positive)
{
    const struct sink_options *options = &dialog->sink->options;
    char text[320];

    for (size_t i = 0; i < options->rule_count; i++) {
        const struct sink_rule *rule = &options->rules[i];
        if (rule->step != step ||
            (rule->recipient[0] != '\0' && strcasecmp(rule->recipient, recipient) != 0))
            continue;
        switch (rule->kind) {
        case RULE_DELAY:
            flush(dialog);
            poll(NULL, 0, (int)rule->delay_ms);
            break;
        case RULE_HANG_UP:
            dialog->over = true;
            *positive = false;
            return true;
        case RULE_REPLY:
            snprintf(text, sizeof text, "%d %s\r\n", rule->code, rule->text);
            put(dialog, text);
            dialog->over |= rule->code == 421;
            *positive = rule->code < 400;
            return true;
        }
    }
    *positive = true;
    return false;
}

/* The answer to a step, ordered or ordinary. True when positive. */
static bool answer(struct dialog *dialog, enum sink_step step, const char *recipient,
                   const char *ordinary)
{
    bool positive;
    if (!play(dialog, step, recipient, &positive))
        put(dialog, ordinary);
    return positive;
}

/* Postfix (3.9 and later) ends a session in which something comes behind a command that must be
 * the last of a group. */
static bool out_of_step(struct dialog *dialog)
{
    if (!stream_has_input(&dialog->stream))
        return false;
    put(dialog, "554 5.5.0 Error: SMTP protocol synchronization\r\n");
    dialog->over = true;
    return true;
}

static void forget_mail(struct dialog *dialog)
{
    struct sink_message *message = &dialog->message;
    dialog->in_mail = false;
    message->sender[0] = '\0';
    message->recipient_count = 0;
    message->header_len = 0;
    message->header_done = false;
    message->size = 0;
    message->violation = false;
}

static void set_text(char *out, size_t size, const char *text, size_t len)
{
    snprintf(out, size, "%.*s", (int)len, text);
}

static void do_hello(struct dialog *dialog, const struct command *command)
{
    const struct sink_options *options = &dialog->sink->options;
    bool esmtp = command->verb == COMMAND_EHLO, positive;
    char line[64];

    if (out_of_step(dialog) ||
        (play(dialog, esmtp ? SINK_EHLO : SINK_HELO, "", &positive) && !positive))
        return;
    forget_mail(dialog);
    dialog->greeted = true;
    dialog->message.esmtp = esmtp;
    set_text(dialog->message.helo, sizeof dialog->message.helo, command->argument,
             command->argument_len);
    if (!esmtp) {
        put(dialog, "250 sink\r\n");
        return;
    }
    put(dialog, "250-sink\r\n");
    if (!options->no_pipelining)
        put(dialog, "250-PIPELINING\r\n");
    if (!options->no_xclient && !dialog->xclient_used)
        put(dialog, "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR "
                    "DESTPORT\r\n");
    if (dialog->sink->tls != NULL && dialog->stream.tls == NULL)
        put(dialog, "250-STARTTLS\r\n");
    snprintf(line, sizeof line, "250-SIZE %llu\r\n", (unsigned long long)options->size);
    put(dialog, line);
    put(dialog, "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n");
}

static unsigned bit_number(unsigned bit)
{
    unsigned number = 0;
    while (bit >>= 1)
        number++;
    return number;
}

static bool take_attributes(struct dialog *dialog, const struct command *command)
{
    const char *at = command->argument, *end = at + command->argument_len;
    struct xclient_attribute attribute;
    int got;
    while ((got = xclient_next(&at, end, &attribute)) == 1)
        memcpy(dialog->message.xclient[bit_number(attribute.name)], attribute.value,
               sizeof attribute.value);
    return got == 0;
}

/* As Postfix does it: also before EHLO, once, and back to the greeting. */
static void do_xclient(struct dialog *dialog, const struct command *command)
{
    bool positive;
    if (out_of_step(dialog))
        return;
    if (play(dialog, SINK_XCLIENT, "", &positive) && !positive)
        return;
    if (dialog->sink->options.no_xclient || dialog->xclient_used) {
        put(dialog, "550 5.7.0 Error: insufficient authorization\r\n");
    } else if (!take_attributes(dialog, command)) {
        put(dialog, "501 5.5.4 Bad XCLIENT attribute\r\n");
    } else {
        dialog->xclient_used = true;
        dialog->greeted = false;
        dialog->message.helo[0] = '\0';
        forget_mail(dialog);
        put(dialog, "220 sink ESMTP\r\n");
    }
}

static void do_starttls(struct dialog *dialog)
{
    struct error err;
    if (out_of_step(dialog))
        return;
    if (dialog->sink->tls == NULL || dialog->stream.tls != NULL) {
        put(dialog, "502 5.5.1 STARTTLS not available\r\n");
        return;
    }
    if (!answer(dialog, SINK_STARTTLS, "", "220 2.0.0 Ready to start TLS\r\n"))
        return;
    flush(dialog);
    if (stream_start_tls_server(&dialog->stream, dialog->sink->tls, limit(), &err) != IO_OK) {
        dialog->over = true;
        return;
    }
    dialog->greeted = false;
    dialog->message.has_tls = stream_tls_info(&dialog->stream, &dialog->message.tls);
    forget_mail(dialog);
}

static void do_mail(struct dialog *dialog, const struct command *command)
{
    struct mail_parameters parameters;
    struct path path;
    if (!dialog->greeted || dialog->in_mail) {
        put(dialog, "503 5.5.1 Error: bad sequence\r\n");
    } else if (command_parse_mail(command, &path, &parameters) != PARAMETER_OK) {
        put(dialog, "501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
    } else if (answer(dialog, SINK_MAIL, path.mailbox, "250 2.1.0 Ok\r\n")) {
        dialog->in_mail = true;
        set_text(dialog->message.sender, sizeof dialog->message.sender, path.mailbox,
                 strlen(path.mailbox));
    }
}

static void do_rcpt(struct dialog *dialog, const struct command *command)
{
    struct sink_message *message = &dialog->message;
    struct rcpt_parameters parameters;
    struct path path;
    if (!dialog->in_mail)
        put(dialog, "503 5.5.1 Error: need MAIL command\r\n");
    else if (command_parse_rcpt(command, &path, &parameters) != PARAMETER_OK)
        put(dialog, "501 5.5.4 Syntax: RCPT TO:<address>\r\n");
    else if (message->recipient_count == SINK_RECIPIENTS_MAX)
        put(dialog, "452 4.5.3 Too many recipients\r\n");
    else if (answer(dialog, SINK_RCPT, path.mailbox, "250 2.1.5 Ok\r\n"))
        set_text(message->recipients[message->recipient_count++], sizeof message->recipients[0],
                 path.mailbox, strlen(path.mailbox));
}

static void keep_header(struct sink_message *message, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len && !message->header_done; i++) {
        if (message->header_len == sizeof message->header)
            message->header_done = true;
        else
            message->header[message->header_len++] = bytes[i];
        if (message->header_len >= 4 &&
            memcmp(message->header + message->header_len - 4, "\r\n\r\n", 4) == 0)
            message->header_done = true;
    }
}

static void keep(struct dialog *dialog, const char *bytes, size_t len)
{
    struct sink_message *message = &dialog->message;
    keep_header(message, bytes, len);
    gnutls_hash(dialog->hash, bytes, len);
    if (dialog->body != NULL)
        fwrite(bytes, 1, len, dialog->body);
    message->size += len;
}

/* Takes the dots off that were stuffed (RFC 5321 4.5.2). */
static void unstuff(struct dialog *dialog, const char *bytes, size_t len)
{
    const char *end = bytes + len;
    while (bytes < end) {
        if (dialog->line_start && *bytes == '.')
            bytes++;
        const char *lf = memchr(bytes, '\n', (size_t)(end - bytes));
        const char *next = lf != NULL ? lf + 1 : end;
        if (next > bytes)
            keep(dialog, bytes, (size_t)(next - bytes));
        dialog->line_start = lf != NULL;
        bytes = next;
    }
}

/* False when the client went away. */
static bool read_body(struct dialog *dialog)
{
    struct dataline scanner;
    struct dataline_output output;
    bool positive;

    dataline_init(&scanner, DATALINE_NORMALIZE);
    while (!scanner.ended) {
        const char *bytes;
        size_t len;
        if (stream_read(&dialog->stream, &bytes, &len, limit()) != IO_OK)
            return false;
        size_t used = dataline_scan(&scanner, bytes, len, &output);
        for (int i = 0; i < output.count; i++)
            unstuff(dialog, output.iov[i].iov_base, output.iov[i].iov_len);
        stream_consume(&dialog->stream, used);
        if (play(dialog, SINK_BODY, "", &positive) && !positive)
            return false;
    }
    dialog->message.violation = scanner.changed;
    return true;
}

static void open_body(struct dialog *dialog)
{
    if (dialog->sink->options.store == NULL)
        return;
    snprintf(dialog->body_path, sizeof dialog->body_path, "%s/body-XXXXXX",
             dialog->sink->options.store);
    int fd = mkstemp(dialog->body_path);
    dialog->body = fd >= 0 ? fdopen(fd, "w") : NULL;
}

static void finish_hash(struct dialog *dialog)
{
    unsigned char digest[32];
    gnutls_hash_deinit(dialog->hash, digest);
    for (int i = 0; i < 32; i++)
        snprintf(dialog->message.sha256 + 2 * i, 3, "%02x", digest[i]);
}

static void do_data(struct dialog *dialog)
{
    if (dialog->message.recipient_count == 0) {
        put(dialog, "554 5.5.1 Error: no valid recipients\r\n");
        return;
    }
    if (!answer(dialog, SINK_DATA, "", "354 End data with <CR><LF>.<CR><LF>\r\n"))
        return;
    flush(dialog);
    open_body(dialog);
    dialog->line_start = true;
    gnutls_hash_init(&dialog->hash, GNUTLS_DIG_SHA256);
    bool whole = read_body(dialog);
    finish_hash(dialog);
    if (dialog->body != NULL)
        fclose(dialog->body);
    if (whole && answer(dialog, SINK_DOT, "", "250 2.0.0 Ok: taken\r\n"))
        sink_report(dialog->sink, &dialog->message, dialog->body_path);
    else if (dialog->body != NULL)
        unlink(dialog->body_path);
    dialog->body = NULL;
    dialog->over |= !whole;
    forget_mail(dialog);
}

static void do_command(struct dialog *dialog, const struct command *command)
{
    switch (command->verb) {
    case COMMAND_EHLO:
    case COMMAND_HELO:
        do_hello(dialog, command);
        break;
    case COMMAND_XCLIENT:
        do_xclient(dialog, command);
        break;
    case COMMAND_STARTTLS:
        do_starttls(dialog);
        break;
    case COMMAND_MAIL:
        do_mail(dialog, command);
        break;
    case COMMAND_RCPT:
        do_rcpt(dialog, command);
        break;
    case COMMAND_DATA:
        do_data(dialog);
        break;
    case COMMAND_RSET:
        forget_mail(dialog);
        answer(dialog, SINK_RSET, "", "250 2.0.0 Ok\r\n");
        break;
    case COMMAND_NOOP:
        put(dialog, "250 2.0.0 Ok\r\n");
        break;
    case COMMAND_QUIT:
        answer(dialog, SINK_QUIT, "", "221 2.0.0 Bye\r\n");
        dialog->over = true;
        break;
    default:
        put(dialog, "502 5.5.1 Error: command not implemented\r\n");
    }
}

static void read_proxy_header(struct dialog *dialog)
{
    struct proxy_header header;
    const char *bytes;
    size_t len, used = 0, seen = 0;

    while (stream_read(&dialog->stream, &bytes, &len, limit()) == IO_OK) {
        enum proxy_result result = proxy_parse(bytes, len, &header, &used);
        if (result == PROXY_DONE) {
            stream_consume(&dialog->stream, used);
            dialog->message.proxied = true;
            dialog->message.proxy_source = header.source;
            return;
        }
        /* Only a header that comes in one piece, as all senders write it, is taken. */
        if (result == PROXY_BAD || len == seen)
            break;
        seen = len;
    }
    put(dialog, "421 4.3.2 No PROXY protocol header\r\n");
    dialog->over = true;
}

static void converse(struct dialog *dialog)
{
    struct line line;
    struct command command;

    if (dialog->sink->options.proxy)
        read_proxy_header(dialog);
    if (!dialog->over && !answer(dialog, SINK_BANNER, "", "220 sink ESMTP\r\n"))
        dialog->over = true;
    while (!dialog->over) {
        if (!stream_line_waiting(&dialog->stream))
            flush(dialog);
        enum io_result result = stream_read_line(&dialog->stream, &line, COMMAND_LINE_MAX, limit());
        if (result == IO_TOO_LONG)
            put(dialog, "500 5.5.2 Error: line too long\r\n");
        else if (result != IO_OK)
            return;
        else if (command_parse(&command, line.text, line.len) != COMMAND_OK)
            put(dialog, "500 5.5.2 Error: bad syntax\r\n");
        else
            do_command(dialog, &command);
    }
    flush(dialog);
}

void sink_serve(struct sink *sink, int fd, const struct address *peer)
{
    struct dialog *dialog = calloc(1, sizeof *dialog);

    if (dialog == NULL || stream_buffers_init(&dialog->buffers, BUFFER_SIZE, BUFFER_SIZE) != 0) {
        close(fd);
        free(dialog);
        return;
    }
    dialog->sink = sink;
    dialog->message.peer = *peer;
    stream_init(&dialog->stream, fd);
    stream_lend(&dialog->stream, &dialog->buffers);
    converse(dialog);
    stream_close(&dialog->stream);
    stream_buffers_free(&dialog->buffers);
    free(dialog);
    pthread_mutex_lock(&sink->lock);
    bool enough = sink->options.count > 0 && sink->messages >= sink->options.count;
    pthread_mutex_unlock(&sink->lock);
    if (enough)
        exit(0);
}
