/* ctl/queue-live.c - relayctl queue: asking the daemon that runs
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "ctl/queue-live.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/i18n.h"
#include "server/control.h"

#define PATIENCE_S 60 /* for each piece of the answer */
#define LAST_LINE "end\n"

static enum live_result live_refuse(struct error *err, const char *what)
{
    error_set(err, "%s: %s", what, strerror(errno));
    return LIVE_REFUSED;
}

static enum live_result live_dial(const char *folder, const char *program, int *out,
                                  struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = PATIENCE_S};

    if (folder[0] == '\0' || control_path(folder, program, address.sun_path) != 0)
        return LIVE_DOWN;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return live_refuse(err, "socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        *out = fd;
        return LIVE_OK;
    }
    int reason = errno;
    close(fd);
    errno = reason;
    return reason == ENOENT || reason == ECONNREFUSED ? LIVE_DOWN
                                                      : live_refuse(err, address.sun_path);
}

/* The whole answer into a file without a name. */
static int live_collect(int fd, FILE *file)
{
    char block[16384];
    ssize_t got;

    while ((got = recv(fd, block, sizeof block, 0)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || fwrite(block, 1, (size_t)got, file) != (size_t)got)
            return -1;
    }
    return fflush(file);
}

static bool live_is_whole(FILE *file)
{
    char end[sizeof LAST_LINE] = "";
    long size = (long)strlen(LAST_LINE);
    return fseek(file, -size, SEEK_END) == 0 && fread(end, 1, (size_t)size, file) == (size_t)size &&
           strcmp(end, LAST_LINE) == 0;
}

static enum live_result live_judge(FILE *file, const char *program, struct error *err)
{
    char word[8] = "", reason[512] = "";

    rewind(file);
    if (fscanf(file, "%7[a-z]", word) == 1 && strcmp(word, "error") == 0) {
        if (fscanf(file, " %511[^\n]", reason) != 1)
            strcpy(reason, "?");
        error_set(err, _("%s says: %s"), program, reason);
        return LIVE_REFUSED;
    }
    if (strcmp(word, "ok") != 0 || !live_is_whole(file)) {
        error_set(err, _("%s's answer was cut off"), program);
        return LIVE_REFUSED;
    }
    return fseek(file, (long)strlen("ok"), SEEK_SET) == 0 ? LIVE_OK : live_refuse(err, "tmpfile");
}

enum live_result live_ask_daemon(const char *folder, const char *program, const char *request,
                                 FILE **answer, struct error *err)
{
    char line[CONTROL_REQUEST_MAX];
    int fd = -1, len = snprintf(line, sizeof line, "%s\n", request);

    if (len < 0 || (size_t)len >= sizeof line) {
        error_set(err, _("the request is too long"));
        return LIVE_REFUSED;
    }
    enum live_result result = live_dial(folder, program, &fd, err);
    if (result != LIVE_OK)
        return result;
    FILE *file = tmpfile();
    if (file == NULL || send(fd, line, (size_t)len, MSG_NOSIGNAL) != len ||
        live_collect(fd, file) != 0)
        result = live_refuse(err, program);
    else
        result = live_judge(file, program, err);
    close(fd);
    if (result == LIVE_OK)
        *answer = file;
    else if (file != NULL)
        fclose(file);
    return result;
}

enum live_result live_ask(const char *folder, FILE **answer, struct error *err, const char *format,
                          ...)
{
    char request[CONTROL_REQUEST_MAX + 1];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(request, sizeof request, format, arguments);
    va_end(arguments);
    return live_ask_daemon(folder, "relay-out", request, answer, err);
}

static int live_spoiled(struct error *err)
{
    error_set(err, _("relay-out's answer makes no sense"));
    return -1;
}

/* The answer went wrong in its middle, and may say how. */
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
