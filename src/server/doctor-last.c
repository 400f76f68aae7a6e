/* server/doctor-last.c - the findings of the last relayctl doctor --changes
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/doctor-last.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_OCTETS_MAX 65536

void doctor_last_file(const struct config *config, char out[PATH_MAX])
{
    const char *folder = "";

    if (config != NULL && (config->parts & CONFIG_PART_IN))
        folder = config->in.state;
    if (config != NULL && (config->parts & CONFIG_PART_OUT) && *folder == '\0')
        folder = config->out.state;
    if (*folder == '\0' || snprintf(out, PATH_MAX, "%s/doctor", folder) >= PATH_MAX)
        snprintf(out, PATH_MAX, "%s/doctor", STATEDIR);
}

static FILE *doctor_last_stream(int fd, const char *mode)
{
    FILE *file = fd >= 0 ? fdopen(fd, mode) : NULL;

    if (file == NULL && fd >= 0)
        close(fd);
    return file;
}

FILE *doctor_last_open(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat facts;

    if (fd >= 0 && (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode))) {
        close(fd);
        return NULL;
    }
    return doctor_last_stream(fd, "r");
}

FILE *doctor_last_create(const char *file)
{
    unlink(file);
    return doctor_last_stream(
        open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644), "w");
}

bool doctor_last_next(FILE *file, char line[DOCTOR_LAST_LINE])
{
    return ftell(file) < FILE_OCTETS_MAX && fgets(line, DOCTOR_LAST_LINE, file) != NULL;
}

bool doctor_last_read(const char *path, struct doctor_last *last)
{
    char line[DOCTOR_LAST_LINE], outcome[50];
    struct stat st;
    FILE *file = doctor_last_open(path);

    *last = (struct doctor_last){0};
    if (file == NULL)
        return false;
    bool known = fstat(fileno(file), &st) == 0;
    if (known)
        last->at = (int64_t)st.st_mtime;
    while (doctor_last_next(file, line)) {
        if (sscanf(line, "%*s %49s", outcome) != 1)
            continue;
        last->failed += strcmp(outcome, "failed") == 0;
        last->warnings += strcmp(outcome, "warning") == 0;
    }
    known = !ferror(file) && known;
    fclose(file);
    return known;
}
