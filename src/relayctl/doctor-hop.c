/* relayctl/doctor-hop.c - the checks' dialog with mail servers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "net/dial.h"
#include "net/proxy.h"
#include "smtp/xclient.h"

#define DOCTOR_HOP_BUFFER 8192
#define DOCTOR_HOP_CONNECT_MS 5000

static struct deadline doctor_hop_connect_deadline(const struct doctor *doctor)
{
    return deadline_earlier(doctor->deadline, deadline_in_ms(DOCTOR_HOP_CONNECT_MS));
}

/* Records why the dialog ended, and closes it. Always false. */
static bool doctor_hop_fail(struct doctor_hop *hop, const char *step, enum io_result result)
{
    if (hop->trouble[0] == '\0')
        snprintf(hop->trouble, sizeof hop->trouble, "%s: %s", step, io_result_name(result));
    doctor_hop_close(hop);
    return false;
}

static bool doctor_hop_connect(const struct doctor *doctor, struct doctor_hop *hop,
                               const struct address *host, const struct address *from)
{
    struct error err;
    int64_t began = deadline_now_ms();

    *hop = (struct doctor_hop){0};
    if (stream_buffers_init(&hop->buffers, DOCTOR_HOP_BUFFER, DOCTOR_HOP_BUFFER) != 0) {
        snprintf(hop->trouble, sizeof hop->trouble, "%s", strerror(ENOMEM));
        return false;
    }
    int fd = dial_connect(host, from, 0, doctor_hop_connect_deadline(doctor), &err);
    hop->connect_ms = deadline_now_ms() - began;
    if (fd < 0) {
        snprintf(hop->trouble, sizeof hop->trouble, "%s", err.text);
        stream_buffers_free(&hop->buffers);
        return false;
    }
    nexthop_init(&hop->hop, fd, &hop->buffers);
    hop->open = true;
    return true;
}

static bool doctor_hop_take_greeting(const struct doctor *doctor, struct doctor_hop *hop)
{
    int64_t began = deadline_now_ms();
    enum io_result result = nexthop_greeting(&hop->hop, &hop->reply, doctor->deadline);

    hop->greeting_ms = deadline_now_ms() - began;
    return result == IO_OK || doctor_hop_fail(hop, _("greeting"), result);
}

bool doctor_hop_greet(const struct doctor *doctor, struct doctor_hop *hop,
                      const struct address *host, const struct address *from)
{
    return doctor_hop_connect(doctor, hop, host, from) && doctor_hop_take_greeting(doctor, hop);
}

/* Sends the PROXY header, which comes before everything else, if the backend's identity uses one. */
static bool doctor_hop_send_header(const struct doctor *doctor, struct doctor_hop *hop,
                                   const struct config_backend *backend, const struct address *host,
                                   const struct address *client)
{
    struct proxy_header header = {.local = client == NULL, .destination = *host};
    const enum proxy_version version = config_proxy_of(backend);

    if (client != NULL)
        header.source = *client;
    else if (!address_of_socket(&header.source, hop->hop.stream.fd))
        return doctor_hop_fail(hop, "PROXY", IO_FAILED);
    /* In version 1 only the connection's own addresses say "this is myself". */
    header.local = header.local && version == PROXY_V2;
    if (header.source.family != header.destination.family)
        header.destination = header.source;
    enum io_result result = nexthop_send_proxy(&hop->hop, &header, version, doctor->deadline);
    return result == IO_OK || doctor_hop_fail(hop, "PROXY", result);
}

static bool doctor_hop_hello(const struct doctor *doctor, struct doctor_hop *hop)
{
    enum io_result result = nexthop_hello(&hop->hop, NEXTHOP_EHLO, doctor->config->hostname,
                                          &hop->reply, doctor->deadline);
    if (result != IO_OK)
        return doctor_hop_fail(hop, "EHLO", result);
    if (reply_is_positive(&hop->reply))
        return true;
    char words[200];
    snprintf(hop->trouble, sizeof hop->trouble, "EHLO: %s",
             doctor_hop_words(hop, words, sizeof words));
    return doctor_hop_fail(hop, "EHLO", IO_OK);
}

/* After XCLIENT the server sends its greeting again. */
static bool doctor_hop_xclient(const struct doctor *doctor, struct doctor_hop *hop,
                               const struct address *client)
{
    const struct xclient_identity identity = {.client = *client};
    unsigned offered = hop->hop.capabilities.xclient;
    char line[XCLIENT_LINE_MAX + 1], words[200];

    if ((hop->hop.capabilities.extensions & EXTENSION_XCLIENT) == 0) {
        snprintf(hop->trouble, sizeof hop->trouble, _("XCLIENT is not offered"));
        return doctor_hop_fail(hop, "XCLIENT", IO_OK);
    }
    size_t len = xclient_format(&identity, offered, line);
    line[len >= 2 ? len - 2 : 0] = '\0';
    if (!doctor_hop_say(doctor, hop, "%s", line))
        return false;
    if (reply_is_positive(&hop->reply))
        return doctor_hop_hello(doctor, hop);
    snprintf(hop->trouble, sizeof hop->trouble, "XCLIENT: %s",
             doctor_hop_words(hop, words, sizeof words));
    return doctor_hop_fail(hop, "XCLIENT", IO_OK);
}

bool doctor_hop_open(const struct doctor *doctor, struct doctor_hop *hop,
                     const struct config_backend *backend, const struct address *host,
                     const struct address *client)
{
    const struct address *from = config_source_for(&backend->source, host->family);

    if (!doctor_hop_connect(doctor, hop, host, from) ||
        (config_proxy_of(backend) != 0 &&
         !doctor_hop_send_header(doctor, hop, backend, host, client)) ||
        !doctor_hop_take_greeting(doctor, hop))
        return false;
    if (!reply_is_positive(&hop->reply)) {
        char words[200];
        snprintf(hop->trouble, sizeof hop->trouble, _("greeting: %s"),
                 doctor_hop_words(hop, words, sizeof words));
        return doctor_hop_fail(hop, "", IO_OK);
    }
    return doctor_hop_hello(doctor, hop) &&
           (client == NULL || backend->identity != CONFIG_IDENTITY_XCLIENT ||
            doctor_hop_xclient(doctor, hop, client));
}

bool doctor_hop_say(const struct doctor *doctor, struct doctor_hop *hop, const char *format, ...)
{
    char line[2048]; /* the longest text is the message of relayctl test */
    va_list arguments;

    if (!hop->open)
        return false;
    va_start(arguments, format);
    vsnprintf(line, sizeof line - 2, format, arguments);
    va_end(arguments);
    strcat(line, "\r\n");
    enum io_result result = nexthop_command(&hop->hop, line, &hop->reply, doctor->deadline);
    line[strcspn(line, " \r")] = '\0';
    return result == IO_OK || doctor_hop_fail(hop, line, result);
}

int doctor_hop_recipient(const struct doctor *doctor, struct doctor_hop *hop, const char *sender,
                         const char *recipient)
{
    if (!doctor_hop_say(doctor, hop, "MAIL FROM:<%s>", sender))
        return 0;
    if (!reply_is_positive(&hop->reply))
        return hop->reply.code;
    if (!doctor_hop_say(doctor, hop, "RCPT TO:<%s>", recipient))
        return 0;
    struct reply answer = hop->reply;
    doctor_hop_say(doctor, hop, "RSET");
    hop->reply = answer;
    return answer.code;
}

const char *doctor_hop_words(const struct doctor_hop *hop, char *out, size_t size)
{
    return reply_summary(&hop->reply, out, size);
}

void doctor_hop_close(struct doctor_hop *hop)
{
    if (!hop->open)
        return;
    hop->open = false;
    nexthop_quit(&hop->hop);
    stream_buffers_free(&hop->buffers);
}
