/* relayctl/json.c - writes JSON for programs that read relayctl's output
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/json.h"

#include <string.h>

#include "base/utf8.h"

void json_string(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    for (size_t at = 0, step; at < len; at += step) {
        uint32_t character = utf8_decode(text + at, len - at, &step);
        unsigned char octet = (unsigned char)text[at];
        if (step == 0 || !utf8_is_visible(character)) {
            fprintf(out, "\\u%04x", step == 0 ? octet : (unsigned)character);
            step += step == 0;
            continue;
        }
        if (octet == '"' || octet == '\\')
            fputc('\\', out);
        fwrite(text + at, 1, step, out);
    }
    fputc('"', out);
}

void json_member(FILE *out, const char *name, const char *text)
{
    fprintf(out, ", \"%s\": ", name);
    json_string(out, text, strlen(text));
}
