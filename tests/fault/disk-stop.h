/* tests/fault/disk-stop.h - ends the process at a chosen step on its way to the disk
 *
 * Linked with --wrap for the calls that change files. Each call is two or three points at which the
 * process can end by SIGKILL: before it, after it, and for a write in its middle. It also keeps, in
 * memory that outlives the process, what the kernel has not been told to make durable, so that a
 * loss of power can be played: disk_stop_lose() takes back a random part of it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_FAULT_DISK_STOP_H
#define POSTERN_TESTS_FAULT_DISK_STOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Once, before any fork. Exits when there is no memory. */
void disk_stop_init(void);

/* A new folder to work in. Memory serves as well as a disk where nothing but the order of the calls
 * matters, and the sync of a slow disk would make these tests take minutes: /dev/shm, unless TMPDIR
 * is set. The caller frees the name. */
char *disk_stop_folder(const char *name);

/* In the child: from now on calls count, and the process ends at point `at` (0 = never). Names that
 * change in `folder` are kept track of when `power` is set. */
void disk_stop_arm(const char *folder, unsigned at, bool power);

/* Called instead of every fsync(2), and returns its result; NULL: it is done. */
extern int (*disk_stop_sync)(int fd);
int __real_fsync(int fd);

/* While set, envelopes cannot be opened for reading: EIO. */
extern atomic_bool disk_stop_unreadable;

/* Points passed since disk_stop_arm(). */
unsigned disk_stop_points(void);

/* In the parent, when the child is dead: loses a random part of what was not synced. Returns how
 * many things were lost. */
unsigned disk_stop_lose(const char *folder, uint32_t random);

#endif
