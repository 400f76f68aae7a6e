/* tests/unit/test-received.c - smtp/received
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/received.h"

static void test_forms(void)
{
    struct tls_info tls = {.version = "TLSv1.3", .cipher = "TLS_AES_256_GCM_SHA384"};
    struct received received = {
        .helo = "mx.sender.example",
        .hostname = "relay.example",
        .id = "X1.1",
        .esmtp = true,
        .recipient = "a@example.com",
        .when = 1795230823,
    };
    char out[RECEIVED_MAX];
    address_parse_ip(&received.client, "198.51.100.7");
    g_assert_cmpuint(received_format(&received, out), ==, strlen(out));
    g_assert_cmpstr(out, ==,
                    "Received: from mx.sender.example (unknown [198.51.100.7])\r\n"
                    "\tby relay.example (Postern) with ESMTP id X1.1\r\n"
                    "\tfor <a@example.com>; Sat, 21 Nov 2026 03:13:43 +0000\r\n");
    address_parse_ip(&received.client, "2001:db8::7");
    received.tls = &tls;
    received.recipient = NULL;
    received.helo = "evil) by\\(x\r\ny";
    received_format(&received, out);
    g_assert_cmpstr(out, ==,
                    "Received: from evil??by??x??y (unknown [IPv6:2001:db8::7])\r\n"
                    "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
                    "\tby relay.example (Postern) with ESMTPS id X1.1; "
                    "Sat, 21 Nov 2026 03:13:43 +0000\r\n");
    received.tls = NULL;
    received.esmtp = false;
    received_format(&received, out);
    g_assert_true(strstr(out, " with SMTP id ") != NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/received/forms", test_forms);
    return g_test_run();
}
