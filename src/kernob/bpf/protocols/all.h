/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Every protocol that is found by its stream: its number, and what its functions begin with. */
#ifndef KERNOB_PROTOCOLS_ALL_H
#define KERNOB_PROTOCOLS_ALL_H

#include "dns.h"
#include "http.h"
#include "memcached.h"
#include "mysql.h"
#include "postgresql.h"
#include "redis.h"

#define EACH_PROTOCOL(DO)                                                                          \
	DO(HTTP, http)                                                                             \
	DO(REDIS, redis)                                                                           \
	DO(POSTGRESQL, postgresql)                                                                 \
	DO(MYSQL, mysql)                                                                           \
	DO(MEMCACHED, memcached)                                                                   \
	DO(DNS, dns)

#endif
