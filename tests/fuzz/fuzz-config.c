/* tests/fuzz/fuzz-config.c - relay.conf: loaded or refused, and what is loaded prints and loads the same
 *
 * The file is in memory. Certificates named in it must be readable files; /dev/null is one, so that complete
 * configurations can pass.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void count_error(void *context, const char *text)
{
    must(text[0] != '\0');
    ++*(unsigned *)context;
}

static struct config *load(const void *text, size_t len)
{
    char name[64];
    unsigned errors = 0;
    int fd = memfd_create("relay.conf", MFD_CLOEXEC);

    must(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    struct config *config = config_load(name, count_error, &errors);
    must((config == NULL) == (errors > 0));
    close(fd);
    return config;
}

static char *print(const struct config *config, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    must(out != NULL);
    config_print(config, out);
    fclose(out);
    return text;
}

/* Any other file would make a run depend on the machine, or have no end (/dev/zero). */
static bool names_files(const uint8_t *data, size_t size)
{
    return memmem(data, size, "@include", 8) != NULL || memmem(data, size, "/dev/z", 6) != NULL ||
           memmem(data, size, "std", 3) != NULL || memmem(data, size, "/proc", 5) != NULL ||
           memmem(data, size, "/sys", 4) != NULL || memmem(data, size, "/fd", 3) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len, len_again;

    if (names_files(data, size))
        return 0;
    struct config *config = load(data, size);
    if (config == NULL)
        return 0;
    char *text = print(config, &len);
    struct config *again = load(text, len);
    must(again != NULL);
    char *text_again = print(again, &len_again);
    must(len == len_again && memcmp(text, text_again, len) == 0);
    config_unref(config);
    config_unref(again);
    free(text);
    free(text_again);
    return 0;
}
