/* relayctl/queue-live.c - relayctl queue: asks the running daemon
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/queue-live.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "server/control.h"

enum control_result live_ask(const char *folder, FILE **answer, struct error *err,
                             const char *format, ...)
{
    char request[CONTROL_REQUEST_MAX + 1];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(request, sizeof request, format, arguments);
    va_end(arguments);
    return control_ask(folder, "relay-out", request, CONTROL_PATIENCE_S, answer, err);
}

static int live_spoiled(struct error *err)
{
    error_set(err, _("relay-out's answer cannot be understood"));
    return -1;
}

/* The answer broke off. It may say why. */
static int live_fail(FILE *answer, const char *word, struct error *err)
{
    char reason[512] = "";
    if (strcmp(word, "error") == 0 && fscanf(answer, " %511[^\n]", reason) == 1)
        error_set(err, _("relay-out says: %s"), reason);
    else
        live_spoiled(err);
    return -1;
}

int live_message(FILE *answer, struct spool_envelope *envelope, unsigned *lost, struct error *err)
{
    size_t len;
    char word[8] = "";

    if (fscanf(answer, " %7[a-z]", word) != 1 || strcmp(word, "end") == 0)
        return 0;
    if (strcmp(word, "lost") == 0 && lost != NULL && fscanf(answer, "%u", lost) == 1)
        return 0;
    if (strcmp(word, "message") != 0)
        return live_fail(answer, word, err);
    if (fscanf(answer, "%zu", &len) != 1 || getc(answer) != '\n' || len > ENVELOPE_FILE_MAX)
        return live_spoiled(err);
    char *text = malloc(len + 1);
    int result = text != NULL && fread(text, 1, len, answer) == len ? 1 : live_spoiled(err);
    if (result == 1 && spool_envelope_parse(envelope, text, len, err) != 0)
        result = -1;
    free(text);
    return result;
}

int live_data(FILE *answer, uint64_t *size, struct error *err)
{
    if (fscanf(answer, " data %" SCNu64, size) == 1 && getc(answer) == '\n')
        return 0;
    return live_spoiled(err);
}

int live_done(FILE *answer, unsigned *changed, unsigned *busy, struct error *err)
{
    char word[8] = "";

    *changed = *busy = 0;
    while (fscanf(answer, " %7[a-z]", word) == 1 && strcmp(word, "end") != 0) {
        if (strcmp(word, "done") != 0 || fscanf(answer, "%u %u", changed, busy) != 2)
            return live_fail(answer, word, err);
    }
    return 0;
}
