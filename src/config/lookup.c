/* config/lookup.c - finds rows of the option table and tells their kind
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/options.h"

#include <stdio.h>
#include <string.h>

#define NEAR_ENOUGH 3 /* most edits between an unknown name and the one suggested */

bool option_is_list(const struct option *option)
{
    return option->type >= OPTION_LISTEN && option->type <= OPTION_GROUPS;
}

bool option_is_file_of_lines(const struct option *option)
{
    return option->type == OPTION_DOMAINS_FILE || option->type == OPTION_NETWORKS_FILE;
}

/* A list without a default may not be empty. in.domains may: it is checked together with its file. */
bool option_may_be_empty(const struct option *option)
{
    return option->type != OPTION_LISTEN && option->type != OPTION_DURATIONS &&
           option->fallback != NULL;
}

const char *const *option_names(const struct option *option)
{
    return option->detail;
}

const struct option_rows *option_rows(const struct option *option)
{
    return option->detail;
}

void *option_place(const struct option *option, const void *base)
{
    return (char *)base + option->offset;
}

enum option_kind option_kind_of(const struct option_rows *rows, const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < rows->count; i++) {
        const struct option *row = &rows->rows[i];
        size_t row_len = strlen(row->path);
        if (strncmp(row->path, path, len) == 0 && row->path[len] == '.')
            return OPTION_KIND_GROUP;
        if (strcmp(row->path, path) == 0)
            return row->type == OPTION_GROUP ? OPTION_KIND_GROUP : OPTION_KIND_OPTION;
        if (row->type == OPTION_GROUP && strncmp(row->path, path, row_len) == 0 &&
            path[row_len] == '.')
            return option_kind_of(option_rows(row), path + row_len + 1);
    }
    return OPTION_KIND_NONE;
}

static size_t lookup_smallest(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* The Levenshtein distance. */
static size_t lookup_distance(const char *a, const char *b)
{
    size_t row[OPTION_PATH_MAX], b_len = strlen(b);
    if (b_len >= OPTION_PATH_MAX)
        return OPTION_PATH_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            row[j] = lookup_smallest(above + 1, row[j - 1] + 1,
                                     diagonal + (a[i - 1] != b[j - 1] ? 1 : 0));
            diagonal = above;
        }
    }
    return row[b_len];
}

/* Updates the best match with all rows below `prefix`. */
static void lookup_seek_nearest(const struct option_rows *rows, const char *prefix,
                                const char *path, size_t *best, char out[OPTION_PATH_MAX])
{
    for (size_t i = 0; i < rows->count; i++) {
        const struct option *row = &rows->rows[i];
        char candidate[OPTION_PATH_MAX], below[OPTION_PATH_MAX];
        snprintf(candidate, sizeof candidate, "%s%s", prefix, row->path);
        size_t edits = lookup_distance(path, candidate);
        if (edits < *best) {
            *best = edits;
            snprintf(out, OPTION_PATH_MAX, "%s", candidate);
        }
        if (row->type == OPTION_GROUP &&
            snprintf(below, sizeof below, "%s.", candidate) < OPTION_PATH_MAX)
            lookup_seek_nearest(option_rows(row), below, path, best, out);
    }
}

bool option_nearest(const struct option_rows *rows, const char *path, char out[OPTION_PATH_MAX])
{
    size_t best = NEAR_ENOUGH + 1;
    lookup_seek_nearest(rows, "", path, &best, out);
    return best <= NEAR_ENOUGH;
}
