/* server/service.c - what a daemon serves: one immutable snapshot of rules and limits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/service.h"

struct service *service_ref(struct service *service)
{
    atomic_fetch_add(&service->references, 1);
    return service;
}

void service_unref(struct service *service)
{
    if (service != NULL && atomic_fetch_sub(&service->references, 1) == 1)
        service->destroy(service);
}
