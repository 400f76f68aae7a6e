/* tests/unit/heard.h - makes a struct reply from a next hop's text */
#ifndef POSTERN_TESTS_UNIT_HEARD_H
#define POSTERN_TESTS_UNIT_HEARD_H

#include <glib.h>
#include <string.h>

#include "smtp/reply.h"

/* Lines as on the wire ("550-5.1.1 one\n550 5.1.1 two"), without CR. */
static inline void reply_hear(struct reply *reply, const char *wire)
{
    g_auto(GStrv) lines = g_strsplit(wire, "\n", -1);

    reply_clear(reply);
    for (size_t i = 0; lines[i] != NULL; i++)
        g_assert_cmpint(reply_parse_line(reply, lines[i], strlen(lines[i])), !=,
                        REPLY_LINE_GARBAGE);
    reply_finish(reply);
}

static inline void reply_hear_code(struct reply *reply, int code, const char *text)
{
    g_autofree char *wire = g_strdup_printf("%d %s", code, text);

    reply_hear(reply, wire);
}

#endif
