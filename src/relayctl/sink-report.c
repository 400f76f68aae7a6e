/* relayctl/sink-report.c - what the sink's clients said and sent: recorded, collected, printed, stored
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/sink.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/utf8.h"
#include "relayctl/json.h"
#include "smtp/xclient.h"

/* Recording. */

static FILE *sink_open_numbered(const char *folder, uint64_t number, const char *suffix)
{
    char path[SINK_PATH_MAX];
    snprintf(path, sizeof path, "%s/%06llu.%s", folder, (unsigned long long)number, suffix);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        perror(path);
    return file;
}

void sink_record_open(struct sink *sink, struct sink_record *record)
{
    memset(record, 0, sizeof *record);
    pthread_mutex_lock(&sink->lock);
    uint64_t number = ++sink->visits;
    pthread_mutex_unlock(&sink->lock);
    if (sink->options.record == NULL)
        return;
    record->input = sink_open_numbered(sink->options.record, number, "in");
    record->flights = sink_open_numbered(sink->options.record, number, "flights");
}

void sink_record_input(struct sink_record *record, const struct stream *stream, uint64_t before)
{
    uint64_t came = stream->octets_in - before;
    /* The newest octets are at the end of the buffer. After a line that was too long, fewer are left. */
    size_t left = came < stream->in_end ? (size_t)came : stream->in_end;
    if (record->input == NULL || left == 0)
        return;
    fwrite(stream->buffers->in + stream->in_end - left, 1, left, record->input);
    record->recorded += left;
}

void sink_record_end_flight(struct sink_record *record)
{
    if (record->recorded == record->flight_start)
        return;
    if (record->flights != NULL)
        fprintf(record->flights, "%llu %llu\n", (unsigned long long)record->flight_start,
                (unsigned long long)(record->recorded - record->flight_start));
    record->flight_start = record->recorded;
}

void sink_record_close(struct sink_record *record)
{
    sink_record_end_flight(record);
    if (record->input != NULL)
        fclose(record->input);
    if (record->flights != NULL)
        fclose(record->flights);
}

/* Identity. */

static unsigned sink_bit_number(unsigned bit)
{
    unsigned number = 0;
    while (bit >>= 1)
        number++;
    return number;
}

static bool sink_is_port(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len <= 5 && strspn(text, "0123456789") == len;
}

/* Postfix accepts IPv6 only with the prefix, and IPv4 only without. */
static bool sink_is_xclient_address(const char *text)
{
    static const char prefix[] = "IPV6:";
    struct address address;
    bool v6 = strncasecmp(text, prefix, sizeof prefix - 1) == 0;

    if (v6)
        text += sizeof prefix - 1;
    return text[0] != '[' && (strchr(text, ':') != NULL) == v6 &&
           address_parse_ip(&address, text) == 0;
}

static bool sink_is_valid(const struct xclient_attribute *attribute)
{
    const char *value = attribute->value;
    struct address address;

    if (strcasecmp(value, "[UNAVAILABLE]") == 0 || strcasecmp(value, "[TEMPUNAVAIL]") == 0)
        return true;
    switch (attribute->name) {
    case XCLIENT_ADDR:
    case XCLIENT_DESTADDR:
        return sink_is_xclient_address(value);
    case XCLIENT_PORT:
    case XCLIENT_DESTPORT:
        return sink_is_port(value);
    case XCLIENT_PROTO:
        return strcasecmp(value, "SMTP") == 0 || strcasecmp(value, "ESMTP") == 0;
    case XCLIENT_NAME:
    case XCLIENT_REVERSE_NAME:
        return path_is_helo_name(value, strlen(value)) && address_parse_ip(&address, value) != 0;
    default:
        return true;
    }
}

bool sink_take_xclient(struct sink_message *message, const char *arguments, size_t len)
{
    const char *at = arguments, *end = arguments + len;
    struct xclient_attribute attribute;
    int got = len > 0 ? 1 : -1;

    while (got == 1 && (got = xclient_next(&at, end, &attribute)) == 1) {
        if (!sink_is_valid(&attribute))
            return false;
        memcpy(message->xclient[sink_bit_number(attribute.name)], attribute.value,
               sizeof attribute.value);
    }
    return got == 0;
}

/* The mail data. */

void sink_body_begin(struct sink *sink, struct sink_body *body)
{
    memset(body, 0, sizeof *body);
    body->line_start = true;
    if (gnutls_hash_init(&body->hash, GNUTLS_DIG_SHA256) < 0)
        abort(); /* only if out of memory */
    if (sink->options.store == NULL)
        return;
    snprintf(body->path, sizeof body->path, "%s/incoming-XXXXXX", sink->options.store);
    int fd = mkstemp(body->path);
    body->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (body->file == NULL)
        perror(body->path);
}

void sink_body_inspect(struct sink_body *body, struct sink_message *message, const char *bytes,
                       size_t len)
{
    for (size_t i = 0; i < len; i++) {
        message->bare_cr |= body->after_cr && bytes[i] != '\n';
        message->bare_lf |= !body->after_cr && bytes[i] == '\n';
        message->nul |= bytes[i] == '\0';
        body->after_cr = bytes[i] == '\r';
    }
}

static void sink_keep_header(struct sink_message *message, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len && !message->header_done; i++) {
        message->header[message->header_len++] = bytes[i];
        message->header_done =
            message->header_len == sizeof message->header ||
            (message->header_len >= 4 &&
             memcmp(message->header + message->header_len - 4, "\r\n\r\n", 4) == 0);
    }
}

static void sink_keep(struct sink_body *body, struct sink_message *message, const char *bytes,
                      size_t len)
{
    sink_keep_header(message, bytes, len);
    gnutls_hash(body->hash, bytes, len);
    if (body->file != NULL)
        fwrite(bytes, 1, len, body->file);
    message->size += len;
}

/* Removes the stuffed dots (RFC 5321 4.5.2). */
void sink_body_add(struct sink_body *body, struct sink_message *message, const char *bytes,
                   size_t len)
{
    const char *start = bytes, *end = bytes + len;

    for (const char *at = bytes; at < end;) {
        if (body->line_start && *at == '.') {
            sink_keep(body, message, start, (size_t)(at - start));
            start = at + 1;
        }
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        body->line_start = lf != NULL;
        at = lf != NULL ? lf + 1 : end;
    }
    sink_keep(body, message, start, (size_t)(end - start));
}

void sink_body_end(struct sink_body *body, struct sink_message *message, bool keep_file)
{
    unsigned char digest[32];

    gnutls_hash_deinit(body->hash, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(message->sha256 + 2 * i, 3, "%02x", digest[i]);
    if (body->file == NULL)
        return;
    if (fclose(body->file) != 0)
        perror(body->path);
    if (!keep_file)
        unlink(body->path);
}

/* Reports. */

static void sink_json_identity(FILE *out, const struct sink_message *message)
{
    char text[ADDRESS_TEXT_MAX];
    const char *separator = "";

    fputs("\"peer\": ", out);
    address_format_endpoint(&message->peer, text);
    json_string(out, text, strlen(text));
    if (message->proxied) {
        json_member(out, "proxy", address_format_endpoint(&message->proxy_source, text));
        json_member(out, "proxy_to", address_format_endpoint(&message->proxy_destination, text));
    }
    fputs(", \"xclient\": {", out);
    for (unsigned i = 0; i < SINK_XCLIENT_ATTRIBUTES; i++) {
        if (message->xclient[i][0] == '\0')
            continue;
        fprintf(out, "%s\"%s\": ", separator, xclient_attribute_name(1u << i));
        json_string(out, message->xclient[i], strlen(message->xclient[i]));
        separator = ", ";
    }
    fputs("}", out);
    json_member(out, "tls", message->has_tls ? message->tls.version : "");
    json_member(out, "cipher", message->has_tls ? message->tls.cipher : "");
    json_member(out, "helo", message->helo);
    fprintf(out, ", \"esmtp\": %s", message->esmtp ? "true" : "false");
}

static void sink_json_recipients(FILE *out, const struct sink_message *message)
{
    fputs(", \"to\": [", out);
    for (size_t i = 0; i < message->recipient_count; i++) {
        fputs(i > 0 ? ", " : "", out);
        json_string(out, message->recipients[i].mailbox, strlen(message->recipients[i].mailbox));
    }
    fputs("], \"to_parameters\": [", out);
    for (size_t i = 0; i < message->recipient_count; i++) {
        const char *parameters = message->recipients[i].parameters;
        fputs(i > 0 ? ", " : "", out);
        json_string(out, parameters, strlen(parameters));
    }
    fputs("]", out);
}

static const char *sink_violations(const struct sink_message *message, char *out, size_t size,
                                   const char *quote)
{
    static const char *const names[] = {"bare CR", "bare LF", "NUL"};
    const bool found[] = {message->bare_cr, message->bare_lf, message->nul};
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < 3; i++) {
        if (found[i])
            used += (size_t)snprintf(out + used, size - used, "%s%s%s%s", used > 0 ? ", " : "",
                                     quote, names[i], quote);
    }
    return out;
}

static void sink_json_message(FILE *out, const struct sink_message *message)
{
    char text[64];

    fputs("{", out);
    sink_json_identity(out, message);
    json_member(out, "from", message->sender);
    json_member(out, "from_parameters", message->sender_parameters);
    sink_json_recipients(out, message);
    fprintf(out, ", \"size\": %llu", (unsigned long long)message->size);
    json_member(out, "sha256", message->sha256);
    sink_violations(message, text, sizeof text, "\"");
    fprintf(out, ", \"violation\": %s, \"violations\": [%s], \"header\": ",
            text[0] != '\0' ? "true" : "false", text);
    json_string(out, message->header, message->header_len);
    fputs("}\n", out);
}

/* A client's text must not control the terminal. */
static void sink_print_safely(FILE *out, const char *text, size_t len)
{
    for (size_t at = 0, step; at < len; at += step) {
        uint32_t character = utf8_decode(text + at, len - at, &step);
        bool plain = character == '\t' || character == '\n' ||
                     (step > 0 && utf8_is_visible(character));
        step += step == 0;
        if (character != '\r')
            fwrite(plain ? text + at : "?", 1, plain ? step : 1, out);
    }
}

static void sink_print_line(FILE *out, const char *name, const char *text, const char *more)
{
    fprintf(out, "%-15s ", name);
    sink_print_safely(out, text, strlen(text));
    if (more[0] != '\0')
        fputc(' ', out);
    sink_print_safely(out, more, strlen(more));
    fputc('\n', out);
}

static void sink_print_identity(FILE *out, const struct sink_message *message)
{
    char text[ADDRESS_TEXT_MAX], attribute[320];

    sink_print_line(out, "connection from", address_format_endpoint(&message->peer, text), "");
    if (message->proxied) {
        sink_print_line(out, "PROXY source", address_format_endpoint(&message->proxy_source, text),
                        "");
        sink_print_line(out, "PROXY to", address_format_endpoint(&message->proxy_destination, text),
                        "");
    }
    for (unsigned i = 0; i < SINK_XCLIENT_ATTRIBUTES; i++) {
        if (message->xclient[i][0] == '\0')
            continue;
        snprintf(attribute, sizeof attribute, "%s=%s", xclient_attribute_name(1u << i),
                 message->xclient[i]);
        sink_print_line(out, "XCLIENT", attribute, "");
    }
    if (message->has_tls)
        sink_print_line(out, "TLS", message->tls.version, message->tls.cipher);
    sink_print_line(out, message->esmtp ? "EHLO" : "HELO", message->helo, "");
}

static void sink_print_message(FILE *out, const struct sink_message *message)
{
    char text[64], path[PATH_MAX_OCTETS + 3];

    sink_print_identity(out, message);
    snprintf(path, sizeof path, "<%s>", message->sender);
    sink_print_line(out, "MAIL FROM", path, message->sender_parameters);
    for (size_t i = 0; i < message->recipient_count; i++) {
        snprintf(path, sizeof path, "<%s>", message->recipients[i].mailbox);
        sink_print_line(out, "RCPT TO", path, message->recipients[i].parameters);
    }
    fprintf(out, "%-15s %llu octets, SHA-256 %s\n", "message", (unsigned long long)message->size,
            message->sha256);
    sink_violations(message, text, sizeof text, "");
    if (text[0] != '\0')
        sink_print_line(out, "VIOLATIONS", text, "");
    sink_print_safely(out, message->header, message->header_len);
    if (!message->header_done)
        fputs("\n", out);
}

/* A reader that waits for the .json file finds it complete, with the .eml file next to it. */
static void sink_store(struct sink *sink, const struct sink_message *message,
                       const struct sink_body *body)
{
    const char *folder = sink->options.store;
    unsigned long long number = sink->messages;
    char unfinished[SINK_PATH_MAX], path[SINK_PATH_MAX];

    snprintf(path, sizeof path, "%s/%06llu.eml", folder, number);
    if (rename(body->path, path) != 0)
        perror(path);
    FILE *file = sink_open_numbered(folder, number, "new");
    if (file == NULL)
        return;
    sink_json_message(file, message);
    snprintf(unfinished, sizeof unfinished, "%s/%06llu.new", folder, number);
    snprintf(path, sizeof path, "%s/%06llu.json", folder, number);
    if (fclose(file) != 0 || rename(unfinished, path) != 0)
        perror(path);
}

void sink_report(struct sink *sink, const struct sink_message *message,
                 const struct sink_body *body)
{
    pthread_mutex_lock(&sink->lock);
    sink->messages++;
    if (sink->options.store != NULL)
        sink_store(sink, message, body);
    if (sink->options.json)
        sink_json_message(stdout, message);
    if (sink->options.print)
        sink_print_message(stdout, message);
    fflush(stdout);
    pthread_mutex_unlock(&sink->lock);
}
