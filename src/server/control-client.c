/* server/control-client.c - asks a daemon through its control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/control-client.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/i18n.h"
#include "server/control.h"

#define LAST_LINE "end\n"

static enum control_result client_refuse(struct error *err, const char *what)
{
    if (errno == EAGAIN) /* SO_RCVTIMEO */
        error_set(err, _("%s does not answer"), what);
    else
        error_set(err, "%s: %s", what, strerror(errno));
    return CONTROL_REFUSED;
}

static enum control_result client_dial(const char *folder, const char *program, int patience_s,
                                       int *out, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = patience_s};

    if (folder[0] == '\0' || control_path(folder, program, address.sun_path) != 0)
        return CONTROL_DOWN;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return client_refuse(err, "socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        *out = fd;
        return CONTROL_ANSWERED;
    }
    int reason = errno;
    close(fd);
    errno = reason;
    return reason == ENOENT || reason == ECONNREFUSED ? CONTROL_DOWN
                                                      : client_refuse(err, address.sun_path);
}

/* A daemon that refuses us may close before it reads the request: its answer can still be read. */
static bool client_send(int fd, const char *line, size_t len)
{
    return send(fd, line, len, MSG_NOSIGNAL) == (ssize_t)len || errno == EPIPE ||
           errno == ECONNRESET;
}

/* Collects the whole answer in an unnamed file. */
static int client_collect(int fd, FILE *file)
{
    char block[16384];
    ssize_t got;

    while ((got = recv(fd, block, sizeof block, 0)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == ECONNRESET) /* it has not read all that we sent */
            break;
        if (got < 0 || fwrite(block, 1, (size_t)got, file) != (size_t)got)
            return -1;
    }
    return fflush(file);
}

static bool client_is_whole(FILE *file)
{
    char end[sizeof LAST_LINE] = "";
    long size = (long)strlen(LAST_LINE);
    return fseek(file, -size, SEEK_END) == 0 && fread(end, 1, (size_t)size, file) == (size_t)size &&
           strcmp(end, LAST_LINE) == 0;
}

static enum control_result client_judge(FILE *file, const char *program, struct error *err)
{
    char word[8] = "", reason[512] = "";

    rewind(file);
    if (fscanf(file, "%7[a-z]", word) == 1 && strcmp(word, "error") == 0) {
        if (fscanf(file, " %511[^\n]", reason) != 1)
            strcpy(reason, "?");
        error_set(err, _("%s says: %s"), program, reason);
        return CONTROL_REFUSED;
    }
    if (strcmp(word, "ok") != 0 || !client_is_whole(file)) {
        error_set(err, _("%s's answer was cut off"), program);
        return CONTROL_REFUSED;
    }
    return fseek(file, (long)strlen("ok"), SEEK_SET) == 0 ? CONTROL_ANSWERED
                                                          : client_refuse(err, "tmpfile");
}

enum control_result control_ask(const char *folder, const char *program, const char *request,
                                int patience_s, FILE **answer, struct error *err)
{
    char line[CONTROL_REQUEST_MAX];
    int fd = -1, len = snprintf(line, sizeof line, "%s\n", request);

    if (len < 0 || (size_t)len >= sizeof line) {
        error_set(err, _("the request is too long"));
        return CONTROL_REFUSED;
    }
    enum control_result result = client_dial(folder, program, patience_s, &fd, err);
    if (result != CONTROL_ANSWERED)
        return result;
    FILE *file = tmpfile();
    if (file == NULL || !client_send(fd, line, (size_t)len) || client_collect(fd, file) != 0)
        result = client_refuse(err, program);
    else
        result = client_judge(file, program, err);
    close(fd);
    if (result == CONTROL_ANSWERED)
        *answer = file;
    else if (file != NULL)
        fclose(file);
    return result;
}
