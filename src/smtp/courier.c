/* smtp/courier.c - the values that sessions and couriers exchange
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/courier.h"

#include <string.h>

void recipient_copy(struct recipient *to, const struct recipient *from)
{
    path_copy(&to->path, &from->path);
    strcpy(to->notify, from->notify);
    strcpy(to->orcpt, from->orcpt);
}
