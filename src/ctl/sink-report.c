/* ctl/sink-report.c - what the sink was told and got: printed, as JSON, or stored
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "ctl/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "smtp/xclient.h"

static void json_string(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    for (size_t at = 0, step; at < len; at += step) {
        step = utf8_character(text + at, len - at);
        unsigned char octet = (unsigned char)text[at];
        if (step == 0) {
            /* Not UTF-8: taken for Latin-1, so that nothing is lost. */
            fprintf(out, "\\u%04x", octet);
            step = 1;
        } else if (octet < 0x20 || octet == 0x7f) {
            fprintf(out, "\\u%04x", octet);
        } else {
            if (octet == '"' || octet == '\\')
                fputc('\\', out);
            fwrite(text + at, 1, step, out);
        }
    }
    fputc('"', out);
}

static void json_member(FILE *out, const char *name, const char *text)
{
    fprintf(out, ", \"%s\": ", name);
    json_string(out, text, strlen(text));
}

static void json_message(FILE *out, const struct sink_message *message)
{
    char text[ADDRESS_TEXT_MAX];
    const char *separator = "";

    fputs("{\"peer\": ", out);
    address_format_endpoint(&message->peer, text);
    json_string(out, text, strlen(text));
    if (message->proxied)
        json_member(out, "proxy", address_format_endpoint(&message->proxy_source, text));
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
    json_member(out, "helo", message->helo);
    fprintf(out, ", \"esmtp\": %s", message->esmtp ? "true" : "false");
    json_member(out, "from", message->sender);
    fputs(", \"to\": [", out);
    for (size_t i = 0; i < message->recipient_count; i++) {
        fputs(i > 0 ? ", " : "", out);
        json_string(out, message->recipients[i], strlen(message->recipients[i]));
    }
    fprintf(out, "], \"size\": %llu", (unsigned long long)message->size);
    json_member(out, "sha256", message->sha256);
    fprintf(out, ", \"violation\": %s, \"header\": ", message->violation ? "true" : "false");
    json_string(out, message->header, message->header_len);
    fputs("}\n", out);
}

static void print_message(FILE *out, const struct sink_message *message)
{
    char text[ADDRESS_TEXT_MAX];

    fprintf(out, "connection from %s\n", address_format_endpoint(&message->peer, text));
    if (message->proxied)
        fprintf(out, "PROXY source    %s\n", address_format_endpoint(&message->proxy_source, text));
    for (unsigned i = 0; i < SINK_XCLIENT_ATTRIBUTES; i++) {
        if (message->xclient[i][0] != '\0')
            fprintf(out, "XCLIENT         %s=%s\n", xclient_attribute_name(1u << i),
                    message->xclient[i]);
    }
    if (message->has_tls)
        fprintf(out, "TLS             %s %s\n", message->tls.version, message->tls.cipher);
    fprintf(out, "%s            %s\n", message->esmtp ? "EHLO" : "HELO", message->helo);
    fprintf(out, "MAIL FROM       <%s>\n", message->sender);
    for (size_t i = 0; i < message->recipient_count; i++)
        fprintf(out, "RCPT TO         <%s>\n", message->recipients[i]);
    fprintf(out, "size, sha256    %llu %s%s\n", (unsigned long long)message->size, message->sha256,
            message->violation ? " (bare CR, LF or NUL!)" : "");
    fwrite(message->header, 1, message->header_len, out);
    fputs("\n", out);
}

static void store(struct sink *sink, const struct sink_message *message, const char *body)
{
    char path[4096];
    const char *folder = sink->options.store;

    snprintf(path, sizeof path, "%s/%06u.eml", folder, sink->messages);
    if (body == NULL || rename(body, path) != 0)
        perror(path);
    snprintf(path, sizeof path, "%s/%06u.json", folder, sink->messages);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        perror(path);
        return;
    }
    json_message(file, message);
    fclose(file);
}

void sink_report(struct sink *sink, const struct sink_message *message, const char *body)
{
    pthread_mutex_lock(&sink->lock);
    sink->messages++;
    if (sink->options.store != NULL)
        store(sink, message, body);
    else if (sink->options.json)
        json_message(stdout, message);
    else
        print_message(stdout, message);
    fflush(stdout);
    pthread_mutex_unlock(&sink->lock);
}
