// SPDX-License-Identifier: GPL-2.0
/* Waiting for I/O in flight; see the header. */

#include "dm-chain-inflight.h"

#include <linux/cpumask.h>
#include <linux/delay.h>

int chain_inflight_init(struct chain_inflight *f)
{
	mutex_init(&f->lock);
	f->epoch = 0;
	f->cpu = alloc_percpu(struct chain_inflight_cpu);
	return f->cpu ? 0 : -ENOMEM;
}

void chain_inflight_exit(struct chain_inflight *f)
{
	free_percpu(f->cpu);
}

static long entered(struct chain_inflight *f, int epoch)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(f->cpu, cpu)->count[epoch]);
	return sum;
}

void chain_inflight_drain(struct chain_inflight *f)
{
	int old;

	mutex_lock(&f->lock);
	old = f->epoch;
	WRITE_ONCE(f->epoch, !old);
	/* From here on nobody enters the old one, and all who did are in the sum: it only falls. */
	synchronize_rcu_expedited();
	while (entered(f, old))
		usleep_range(20, 100);
	smp_mb(); /* what they did comes before what the caller does */
	mutex_unlock(&f->lock);
}
