/* smtp/courier.c - the values that sessions and couriers exchange
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/courier.h"

void recipient_copy(struct recipient *to, const struct recipient *from)
{
    *to = *from;
    path_copy(&to->path, &from->path);
}
