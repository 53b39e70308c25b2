/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who is on the way to a place that the index gave: counted for each processor, so that the hot
 * path writes no shared cache line, and entered and left in any context, so that a section may end
 * in the interrupt that ends the I/O. (SRCU would do, but for its variant for one processor, which
 * may not be left in an interrupt.)
 */
#ifndef DM_CHAIN_INFLIGHT_H
#define DM_CHAIN_INFLIGHT_H

#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>

struct chain_inflight_cpu {
	long count[2]; /* may be left on another processor than entered on: the sum counts */
};

struct chain_inflight {
	struct chain_inflight_cpu __percpu *cpu;
	int epoch; /* 0 or 1: which count is entered now */
	struct mutex lock; /* one drains at a time */
};

int chain_inflight_init(struct chain_inflight *f);
void chain_inflight_exit(struct chain_inflight *f);

/* Any context. Returns what chain_inflight_leave() takes. */
static inline int chain_inflight_enter(struct chain_inflight *f)
{
	int epoch;

	/* Whoever drains waits for this section, and knows then who is counted. */
	rcu_read_lock();
	epoch = READ_ONCE(f->epoch);
	this_cpu_inc(f->cpu->count[epoch]);
	rcu_read_unlock();
	return epoch;
}

/* Any context, any processor. */
static inline void chain_inflight_leave(struct chain_inflight *f, int epoch)
{
	this_cpu_dec(f->cpu->count[epoch]);
}

/* Waits for all who had entered when this was called. Sleeps. */
void chain_inflight_drain(struct chain_inflight *f);

#endif /* DM_CHAIN_INFLIGHT_H */
