/* tests/fuzz/fuzz-path.c - reverse-paths, forward-paths, EHLO names: what is taken is clean and stable
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

typedef enum path_result parser(struct path *path, const char *text, size_t len, size_t *used);

/* What goes on to the next hop must there be read as the same mailbox. */
static void check_again(parser *parse, const struct path *path)
{
    char text[PATH_MAX_OCTETS + 3];
    struct path again;
    size_t used = 0;
    int len = snprintf(text, sizeof text, "<%s>", path->mailbox);

    must(parse(&again, text, (size_t)len, &used) == PATH_OK && used == (size_t)len);
    must(strcmp(again.mailbox, path->mailbox) == 0 && again.local_len == path->local_len);
    must(strcmp(again.domain, path->domain) == 0 && !again.has_source_route);
    must(again.has_routing_local == path->has_routing_local &&
         again.is_literal == path->is_literal);
}

static void check(parser *parse, const char *text, size_t size)
{
    struct path path, copy;
    size_t used = 0;

    if (parse(&path, text, size, &used) != PATH_OK)
        return;
    must(used <= size && strlen(path.mailbox) <= PATH_MAX_OCTETS);
    for (const char *at = path.mailbox; *at != '\0'; at++)
        must((unsigned char)*at >= ' ' && *at != 0x7f);
    must(path.is_null == (path.mailbox[0] == '\0'));
    must(path.domain[0] == '\0' || path.mailbox[path.local_len] == '@');
    path_copy(&copy, &path);
    must(strcmp(copy.domain, path.domain) == 0 &&
         (path.domain[0] == '\0' || copy.domain != path.domain));
    check_again(parse, &path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    check(path_parse_reverse, text, size);
    check(path_parse_forward, text, size);
    if (path_is_helo_name(text, size)) {
        must(size > 0 && size <= PATH_DOMAIN_MAX);
        for (size_t i = 0; i < size; i++)
            must(data[i] > ' ' && data[i] < 0x7f && strchr("<>()\",;\\", data[i]) == NULL);
    }
    return 0;
}
