// SPDX-License-Identifier: GPL-2.0
/*
 * Does what a kernel module must not do, so that the test of the runner can see that the runner
 * notices: insmod dmchain-fault.ko fault=warn|leak|sleep|lockdep|kasan|oops|hang.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static char *fault = "";
module_param(fault, charp, 0444);
MODULE_PARM_DESC(fault, "what to do wrong");

static DEFINE_SPINLOCK(fault_lock);
static DEFINE_MUTEX(fault_a);
static DEFINE_MUTEX(fault_b);

static void fault_take(struct mutex *first, struct mutex *second)
{
	mutex_lock(first);
	mutex_lock(second);
	mutex_unlock(second);
	mutex_unlock(first);
}

static int __init fault_init(void)
{
	if (!strcmp(fault, "warn")) {
		WARN(1, "a deliberate warning\n");
	} else if (!strcmp(fault, "leak")) {
		void *p = kmalloc(100, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(p);
	} else if (!strcmp(fault, "sleep")) {
		spin_lock(&fault_lock);
		might_sleep();
		spin_unlock(&fault_lock);
	} else if (!strcmp(fault, "lockdep")) {
		fault_take(&fault_a, &fault_b);
		fault_take(&fault_b, &fault_a);
	} else if (!strcmp(fault, "kasan")) {
		char *p = kmalloc(100, GFP_KERNEL);

		if (p) {
			OPTIMIZER_HIDE_VAR(p);
			kfree(p);
			WRITE_ONCE(p[10], 1);
		}
	} else if (!strcmp(fault, "oops")) {
		int *p = NULL;

		OPTIMIZER_HIDE_VAR(p);
		WRITE_ONCE(*p, 1);
	} else if (!strcmp(fault, "hang")) {
		msleep(1000 * 1000);
	} else {
		return -EINVAL;
	}
	return 0;
}

static void __exit fault_exit(void)
{
}

module_init(fault_init);
module_exit(fault_exit);
MODULE_DESCRIPTION("Deliberate faults for the test of dm-chain's test machines");
MODULE_LICENSE("GPL");
