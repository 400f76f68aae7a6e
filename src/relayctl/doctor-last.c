/* relayctl/doctor-last.c - the findings of the last relayctl doctor --changes
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/doctor-last.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

bool doctor_last_read(const char *path, struct doctor_last *last)
{
    char line[200], outcome[50];
    struct stat st;
    FILE *file = fopen(path, "r");

    *last = (struct doctor_last){0};
    if (file == NULL)
        return false;
    bool known = fstat(fileno(file), &st) == 0;
    if (known)
        last->at = (int64_t)st.st_mtime;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%*s %49s", outcome) != 1)
            continue;
        last->failed += strcmp(outcome, "failed") == 0;
        last->warnings += strcmp(outcome, "warning") == 0;
    }
    known = !ferror(file) && known;
    fclose(file);
    return known;
}
