/* relayctl/sink-session.c - the sink's dialog, and the faults that it is told to play
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/sink.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "net/proxy.h"
#include "smtp/command.h"
#include "smtp/dataline.h"

#define TIMEOUT_MS 300000
#define BUFFER_SIZE 65536

struct dialog {
    struct sink *sink;
    struct stream stream;
    struct stream_buffers buffers;
    struct sink_message message;
    struct sink_record record;
    bool over, greeted, in_mail, xclient_used;
};

static struct deadline sink_limit(void)
{
    return deadline_in_ms(TIMEOUT_MS);
}

static void sink_put(struct dialog *dialog, const char *text)
{
    if (stream_put(&dialog->stream, text, strlen(text), sink_limit()) != IO_OK)
        dialog->over = true;
}

static void sink_flush(struct dialog *dialog)
{
    if (dialog->stream.out_len > 0)
        sink_record_end_flight(&dialog->record);
    if (stream_flush(&dialog->stream, sink_limit()) != IO_OK)
        dialog->over = true;
}

static enum io_result sink_read_line(struct dialog *dialog, struct line *line)
{
    uint64_t before = dialog->stream.octets_in;
    enum io_result result = stream_read_line(&dialog->stream, line, COMMAND_LINE_MAX, sink_limit());
    sink_record_input(&dialog->record, &dialog->stream, before);
    return result;
}

static enum io_result sink_read_bytes(struct dialog *dialog, const char **bytes, size_t *len)
{
    uint64_t before = dialog->stream.octets_in;
    enum io_result result = stream_read(&dialog->stream, bytes, len, sink_limit());
    sink_record_input(&dialog->record, &dialog->stream, before);
    return result;
}

static bool sink_rule_fits(const struct sink_rule *rule, enum sink_step step, const char *recipient)
{
    return rule->step == step &&
           (rule->recipient[0] == '\0' || strcasecmp(rule->recipient, recipient) == 0);
}

static void sink_delay(struct dialog *dialog, enum sink_step step, const char *recipient)
{
    const struct sink_options *options = &dialog->sink->options;
    for (size_t i = 0; i < options->rule_count; i++) {
        const struct sink_rule *rule = &options->rules[i];
        if (rule->kind != RULE_DELAY || !sink_rule_fits(rule, step, recipient))
            continue;
        sink_flush(dialog);
        poll(NULL, 0, (int)rule->delay_ms);
    }
}

enum play {
    PLAY_ORDINARY, /* no rule applies: answer as usual */
    PLAY_ACCEPTED, /* a rule gave a positive reply */
    PLAY_REFUSED,  /* a rule gave a negative one, or ended the connection */
};

/* Plays the rules for this step. */
static enum play sink_play_rule(struct dialog *dialog, enum sink_step step, const char *recipient)
{
    const struct sink_options *options = &dialog->sink->options;
    char text[sizeof options->rules[0].text + 8];

    sink_delay(dialog, step, recipient);
    for (size_t i = 0; i < options->rule_count; i++) {
        const struct sink_rule *rule = &options->rules[i];
        if (rule->kind == RULE_DELAY || !sink_rule_fits(rule, step, recipient))
            continue;
        if (rule->kind == RULE_REPLY) {
            snprintf(text, sizeof text, "%d %s\r\n", rule->code, rule->text);
            sink_put(dialog, text);
        }
        dialog->over |= rule->kind == RULE_HANG_UP || rule->code == 421;
        return rule->kind == RULE_REPLY && rule->code < 400 ? PLAY_ACCEPTED : PLAY_REFUSED;
    }
    return PLAY_ORDINARY;
}

/* Answers a step, by rule or as usual. True if the reply is positive. */
static bool sink_answer(struct dialog *dialog, enum sink_step step, const char *recipient,
                        const char *ordinary)
{
    enum play played = sink_play_rule(dialog, step, recipient);
    if (played == PLAY_ORDINARY)
        sink_put(dialog, ordinary);
    return played != PLAY_REFUSED;
}

static bool sink_offers(const struct dialog *dialog, unsigned extension)
{
    return (dialog->sink->options.hidden & extension) == 0;
}

/* Postfix (3.9 and later) ends a session if input follows a command that must be the last of a
 * pipelined group. */
static bool sink_out_of_step(struct dialog *dialog)
{
    if (!stream_has_input(&dialog->stream))
        return false;
    sink_put(dialog, "554 5.5.0 Error: SMTP protocol synchronization\r\n");
    dialog->over = true;
    return true;
}

static void sink_forget_mail(struct dialog *dialog)
{
    struct sink_message *message = &dialog->message;
    dialog->in_mail = false;
    message->sender[0] = message->sender_parameters[0] = '\0';
    message->recipient_count = 0;
    message->header_len = 0;
    message->header_done = false;
    message->size = 0;
    message->bare_cr = message->bare_lf = message->nul = false;
}

static void sink_set_text(char *out, size_t size, const char *text, size_t len)
{
    snprintf(out, size, "%.*s", (int)len, text);
}

static void sink_put_extensions(struct dialog *dialog)
{
    const struct sink_options *options = &dialog->sink->options;
    char line[64];

    sink_put(dialog, "250-sink\r\n");
    if (sink_offers(dialog, SINK_PIPELINING))
        sink_put(dialog, "250-PIPELINING\r\n");
    snprintf(line, sizeof line, "250-SIZE %llu\r\n", (unsigned long long)options->size);
    if (sink_offers(dialog, SINK_SIZE))
        sink_put(dialog, line);
    if (!options->no_xclient && !dialog->xclient_used)
        sink_put(dialog, "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR "
                         "DESTPORT\r\n");
    if (dialog->sink->tls != NULL && dialog->stream.tls == NULL)
        sink_put(dialog, "250-STARTTLS\r\n");
    if (sink_offers(dialog, SINK_ENHANCEDSTATUSCODES))
        sink_put(dialog, "250-ENHANCEDSTATUSCODES\r\n");
    if (sink_offers(dialog, SINK_8BITMIME))
        sink_put(dialog, "250-8BITMIME\r\n");
    if (sink_offers(dialog, SINK_DSN))
        sink_put(dialog, "250-DSN\r\n");
    if (sink_offers(dialog, SINK_SMTPUTF8))
        sink_put(dialog, "250-SMTPUTF8\r\n");
    sink_put(dialog, "250 HELP\r\n");
}

static void sink_do_hello(struct dialog *dialog, const struct command *command)
{
    bool esmtp = command->verb == COMMAND_EHLO;

    if (sink_out_of_step(dialog))
        return;
    enum play played = sink_play_rule(dialog, esmtp ? SINK_EHLO : SINK_HELO, "");
    if (played == PLAY_REFUSED)
        return;
    sink_forget_mail(dialog);
    dialog->greeted = true;
    dialog->message.esmtp = esmtp;
    sink_set_text(dialog->message.helo, sizeof dialog->message.helo, command->argument,
                  command->argument_len);
    if (played == PLAY_ORDINARY && esmtp)
        sink_put_extensions(dialog);
    else if (played == PLAY_ORDINARY)
        sink_put(dialog, "250 sink\r\n");
}

/* Like Postfix: allowed before EHLO too, only once, and the session starts over with the greeting. */
static void sink_do_xclient(struct dialog *dialog, const struct command *command)
{
    if (sink_out_of_step(dialog))
        return;
    if (dialog->in_mail) {
        sink_put(dialog, "503 5.5.1 Error: MAIL transaction in progress\r\n");
        return;
    }
    if (dialog->sink->options.no_xclient || dialog->xclient_used) {
        sink_put(dialog, "550 5.7.0 Error: insufficient authorization\r\n");
        return;
    }
    enum play played = sink_play_rule(dialog, SINK_XCLIENT, "");
    if (played == PLAY_REFUSED)
        return;
    if (!sink_take_xclient(&dialog->message, command->argument, command->argument_len)) {
        sink_put(dialog, "501 5.5.4 Bad XCLIENT attribute\r\n");
        return;
    }
    dialog->xclient_used = true;
    dialog->greeted = false;
    dialog->message.helo[0] = '\0';
    sink_forget_mail(dialog);
    if (played == PLAY_ORDINARY)
        sink_put(dialog, "220 sink ESMTP\r\n");
}

static void sink_do_starttls(struct dialog *dialog)
{
    struct error err;
    if (sink_out_of_step(dialog))
        return;
    if (dialog->sink->tls == NULL || dialog->stream.tls != NULL) {
        sink_put(dialog, "502 5.5.1 STARTTLS not available\r\n");
        return;
    }
    if (!sink_answer(dialog, SINK_STARTTLS, "", "220 2.0.0 Ready to start TLS\r\n"))
        return;
    sink_flush(dialog);
    if (stream_start_tls_server(&dialog->stream, dialog->sink->tls, sink_limit(), &err) != IO_OK) {
        fprintf(stderr, "relayctl sink: TLS: %s\n", err.text);
        dialog->over = true;
        return;
    }
    dialog->greeted = false;
    dialog->message.has_tls = stream_tls_info(&dialog->stream, &dialog->message.tls);
    sink_forget_mail(dialog);
}

/* Copies what follows "<path>". Local parts may contain a quoted '>'; the path is known to be valid. */
static void sink_set_parameters(char *out, size_t size, const struct command *command)
{
    const char *end = command->argument + command->argument_len, *at = end;
    while (at > command->argument && at[-1] != '>')
        at--;
    while (at < end && *at == ' ')
        at++;
    sink_set_text(out, size, at, (size_t)(end - at));
}

/* Is there a parameter of an extension that was not offered? */
static bool sink_has_foreign_parameter(const struct dialog *dialog, const struct mail_parameters *p)
{
    return (p->size > 0 && !sink_offers(dialog, SINK_SIZE)) ||
           (p->body != MAIL_BODY_NONE && !sink_offers(dialog, SINK_8BITMIME)) ||
           (p->smtputf8 && !sink_offers(dialog, SINK_SMTPUTF8)) ||
           (p->dsn && !sink_offers(dialog, SINK_DSN));
}

static void sink_do_mail(struct dialog *dialog, const struct command *command)
{
    struct sink_message *message = &dialog->message;
    struct mail_parameters parameters;
    struct path path;

    if (!dialog->greeted || dialog->in_mail) {
        sink_put(dialog, "503 5.5.1 Error: bad sequence\r\n");
    } else if (command_parse_mail(command, &path, &parameters) != PARAMETER_OK) {
        sink_put(dialog, "501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
    } else if (sink_has_foreign_parameter(dialog, &parameters)) {
        sink_put(dialog, "555 5.5.4 Unsupported option\r\n");
    } else if (parameters.size > dialog->sink->options.size) {
        sink_put(dialog, "552 5.3.4 Message size exceeds fixed limit\r\n");
    } else if (sink_answer(dialog, SINK_MAIL, path.mailbox, "250 2.1.0 Ok\r\n")) {
        dialog->in_mail = true;
        sink_set_text(message->sender, sizeof message->sender, path.mailbox, strlen(path.mailbox));
        sink_set_parameters(message->sender_parameters, sizeof message->sender_parameters, command);
    }
}

static void sink_do_rcpt(struct dialog *dialog, const struct command *command)
{
    struct sink_message *message = &dialog->message;
    struct rcpt_parameters parameters;
    struct path path;

    if (!dialog->in_mail) {
        sink_put(dialog, "503 5.5.1 Error: need MAIL command\r\n");
    } else if (command_parse_rcpt(command, &path, &parameters) != PARAMETER_OK) {
        sink_put(dialog, "501 5.5.4 Syntax: RCPT TO:<address>\r\n");
    } else if (parameters.dsn && !sink_offers(dialog, SINK_DSN)) {
        sink_put(dialog, "555 5.5.4 Unsupported option\r\n");
    } else if (message->recipient_count == SINK_RECIPIENTS_MAX) {
        sink_put(dialog, "452 4.5.3 Too many recipients\r\n");
    } else if (sink_answer(dialog, SINK_RCPT, path.mailbox, "250 2.1.5 Ok\r\n")) {
        struct sink_recipient *recipient = &message->recipients[message->recipient_count++];
        sink_set_text(recipient->mailbox, sizeof recipient->mailbox, path.mailbox,
                      strlen(path.mailbox));
        sink_set_parameters(recipient->parameters, sizeof recipient->parameters, command);
    }
}

/* False if the client is gone, or a rule hung up. */
static bool sink_read_body(struct dialog *dialog, struct sink_body *body)
{
    struct sink_message *message = &dialog->message;
    struct dataline scanner;
    struct dataline_output output;

    dataline_init(&scanner, DATALINE_NORMALIZE, DATALINE_LINES);
    while (!scanner.ended) {
        const char *bytes;
        size_t len;
        if (sink_read_bytes(dialog, &bytes, &len) != IO_OK)
            return false;
        size_t used = dataline_scan(&scanner, bytes, len, &output);
        sink_body_inspect(body, message, bytes, used);
        for (int i = 0; i < output.count; i++)
            sink_body_add(body, message, output.iov[i].iov_base, output.iov[i].iov_len);
        stream_consume(&dialog->stream, used);
        if (message->size >= dialog->sink->options.hang_up_after &&
            sink_play_rule(dialog, SINK_BODY, "") != PLAY_ORDINARY) {
            dialog->over = true;
            return false;
        }
    }
    return true;
}

static bool sink_take_message(struct dialog *dialog)
{
    if (dialog->message.size <= dialog->sink->options.size)
        return sink_answer(dialog, SINK_DOT, "", "250 2.0.0 Ok: taken\r\n");
    sink_put(dialog, "552 5.3.4 Error: message file too big\r\n");
    return false;
}

static void sink_do_data(struct dialog *dialog)
{
    struct sink_body body;

    if (sink_out_of_step(dialog))
        return;
    if (dialog->message.recipient_count == 0) {
        sink_put(dialog, dialog->in_mail ? "554 5.5.1 Error: no valid recipients\r\n"
                                         : "503 5.5.1 Error: need RCPT command\r\n");
        return;
    }
    if (!sink_answer(dialog, SINK_DATA, "", "354 End data with <CR><LF>.<CR><LF>\r\n"))
        return;
    sink_flush(dialog);
    sink_body_begin(dialog->sink, &body);
    bool whole = sink_read_body(dialog, &body);
    bool taken = whole && sink_take_message(dialog);
    sink_body_end(&body, &dialog->message, taken);
    if (taken)
        sink_report(dialog->sink, &dialog->message, &body);
    dialog->over |= !whole;
    sink_forget_mail(dialog);
}

static void sink_do_command(struct dialog *dialog, const struct command *command)
{
    switch (command->verb) {
    case COMMAND_EHLO:
    case COMMAND_HELO:
        sink_do_hello(dialog, command);
        break;
    case COMMAND_XCLIENT:
        sink_do_xclient(dialog, command);
        break;
    case COMMAND_STARTTLS:
        sink_do_starttls(dialog);
        break;
    case COMMAND_MAIL:
        sink_do_mail(dialog, command);
        break;
    case COMMAND_RCPT:
        sink_do_rcpt(dialog, command);
        break;
    case COMMAND_DATA:
        sink_do_data(dialog);
        break;
    case COMMAND_RSET:
        sink_forget_mail(dialog);
        sink_answer(dialog, SINK_RSET, "", "250 2.0.0 Ok\r\n");
        break;
    case COMMAND_NOOP:
        sink_put(dialog, "250 2.0.0 Ok\r\n");
        break;
    case COMMAND_QUIT:
        sink_answer(dialog, SINK_QUIT, "", "221 2.0.0 Bye\r\n");
        dialog->over = true;
        break;
    default:
        sink_put(dialog, "502 5.5.1 Error: command not implemented\r\n");
    }
}

/* Reads exactly the header, in however many pieces it arrives. */
static enum proxy_result sink_read_proxy_header(struct dialog *dialog, struct proxy_header *header)
{
    char all[PROXY_HEADER_MAX];
    enum proxy_result result = PROXY_MORE;
    size_t have = 0, used = 0, len;
    const char *bytes;

    while ((result == PROXY_MORE || (result == PROXY_DONE && have < used)) &&
           sink_read_bytes(dialog, &bytes, &len) == IO_OK) {
        if (result == PROXY_MORE) {
            size_t kept = len < sizeof all - have ? len : sizeof all - have;
            memcpy(all + have, bytes, kept);
            result = proxy_parse(all, have + kept, header, &used);
        }
        if (result == PROXY_DONE && len > used - have)
            len = used - have;
        stream_consume(&dialog->stream, len);
        have += len;
    }
    return result;
}

static void sink_expect_proxy_header(struct dialog *dialog)
{
    struct proxy_header header;

    if (sink_read_proxy_header(dialog, &header) != PROXY_DONE) {
        sink_put(dialog, "421 4.3.2 No PROXY protocol header\r\n");
        dialog->over = true;
    } else if (!sink_out_of_step(dialog) && !header.local) {
        dialog->message.proxied = true;
        dialog->message.proxy_source = header.source;
        dialog->message.proxy_destination = header.destination;
    }
}

/* Replies are sent when no more input is waiting (RFC 2920 3.2). Without PIPELINING, and after HELO,
 * input may not be waiting. */
static void sink_serve_line(struct dialog *dialog)
{
    struct line line;
    struct command command;

    if (!stream_line_waiting(&dialog->stream))
        sink_flush(dialog);
    enum io_result result = sink_read_line(dialog, &line);
    bool may_pipeline = dialog->message.esmtp && sink_offers(dialog, SINK_PIPELINING);
    if (result == IO_TOO_LONG)
        sink_put(dialog, "500 5.5.2 Error: line too long\r\n");
    else if (result != IO_OK)
        dialog->over = true;
    else if (dialog->greeted && !may_pipeline && sink_out_of_step(dialog))
        return;
    else if (!command_parse(&command, line.text, line.len))
        sink_put(dialog, "500 5.5.2 Error: bad syntax\r\n");
    else
        sink_do_command(dialog, &command);
}

static void sink_converse(struct dialog *dialog)
{
    if (dialog->sink->options.proxy)
        sink_expect_proxy_header(dialog);
    if (!dialog->over && !sink_answer(dialog, SINK_BANNER, "", "220 sink ESMTP\r\n"))
        dialog->over = true;
    while (!dialog->over)
        sink_serve_line(dialog);
    sink_flush(dialog);
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
    sink_record_open(sink, &dialog->record);
    sink_converse(dialog);
    sink_record_close(&dialog->record);
    stream_close(&dialog->stream);
    stream_buffers_free(&dialog->buffers);
    free(dialog);
}
