/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that the target is built for, 6.1 to 6.12, and what is known to
 * differ up to 6.19: all of it is here. See docs/target.md, "Kernels".
 */
#ifndef DM_CHAIN_COMPAT_H
#define DM_CHAIN_COMPAT_H

#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#include <linux/filelock.h>
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define CHAIN_OPEN_READ FMODE_READ
#define CHAIN_OPEN_WRITE FMODE_WRITE
#else
#define CHAIN_OPEN_READ BLK_OPEN_READ
#define CHAIN_OPEN_WRITE BLK_OPEN_WRITE
#endif

/* Hidden behind accessors in 6.7; 6.6 got these later, and only some of its releases have them. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
static inline struct timespec64 chain_inode_mtime(const struct inode *inode)
{
	return inode->i_mtime;
}
#else
static inline struct timespec64 chain_inode_mtime(const struct inode *inode)
{
	return inode_get_mtime(inode);
}
#endif

/* What was the limit itself became what is derived from the hardware's and the user's. 6.9 */
static inline void chain_limit_discard(struct queue_limits *limits, unsigned int sectors)
{
	limits->max_hw_discard_sectors = sectors;
	limits->max_discard_sectors = sectors;
}

/*
 * Since 6.17 a device says whether it unmaps what it writes zeroes to, and a limit that differs
 * from the one of write-zeroes makes the table invalid. What a table inherits of that is no promise
 * of ours.
 */
static inline void chain_limit_write_zeroes(struct queue_limits *limits, unsigned int sectors)
{
	limits->max_write_zeroes_sectors = sectors;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	limits->max_hw_wzeroes_unmap_sectors = 0;
#endif
}

/* Workqueues that are bound to a processor say so since 6.17, and will have to. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define CHAIN_WQ_BOUND 0
#else
#define CHAIN_WQ_BOUND WQ_PERCPU
#endif

/* Frees @p after a grace period; may sleep. The name says so since 6.3. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define chain_kfree_rcu(p) kvfree_rcu(p)
#else
#define chain_kfree_rcu(p) kvfree_rcu_mightsleep(p)
#endif

/* Shrinkers became separately allocated, with a private pointer, in 6.7. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
struct chain_shrinker {
	struct shrinker shrinker;
	void *private;
};

static inline void *chain_shrinker_private(struct shrinker *s)
{
	return container_of(s, struct chain_shrinker, shrinker)->private;
}

static inline struct chain_shrinker *
chain_shrinker_register(unsigned long (*count)(struct shrinker *, struct shrink_control *),
			unsigned long (*scan)(struct shrinker *, struct shrink_control *),
			void *private, const char *name)
{
	struct chain_shrinker *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return NULL;
	s->shrinker.count_objects = count;
	s->shrinker.scan_objects = scan;
	s->shrinker.seeks = DEFAULT_SEEKS;
	s->private = private;
	if (register_shrinker(&s->shrinker, "%s", name)) {
		kfree(s);
		return NULL;
	}
	return s;
}

static inline void chain_shrinker_unregister(struct chain_shrinker *s)
{
	unregister_shrinker(&s->shrinker);
	kfree(s);
}
#else
#define chain_shrinker shrinker

static inline void *chain_shrinker_private(struct shrinker *s)
{
	return s->private_data;
}

static inline struct chain_shrinker *
chain_shrinker_register(unsigned long (*count)(struct shrinker *, struct shrink_control *),
			unsigned long (*scan)(struct shrinker *, struct shrink_control *),
			void *private, const char *name)
{
	struct shrinker *s = shrinker_alloc(0, "%s", name);

	if (!s)
		return NULL;
	s->count_objects = count;
	s->scan_objects = scan;
	s->private_data = private;
	shrinker_register(s);
	return s;
}

static inline void chain_shrinker_unregister(struct chain_shrinker *s)
{
	shrinker_free(s);
}
#endif

/* Leases became a type of their own in 6.9. This is one for the layout of a file, to be broken. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
#define chain_lease file_lock
#define chain_lease_operations lock_manager_operations
#define chain_lease_free locks_free_lock
#define chain_lease_owner(lease) ((lease)->fl_owner)

static inline struct file_lock *chain_lease_alloc(struct file *file, void *owner)
{
	struct file_lock *lease = locks_alloc_lock();

	if (lease) {
		lease->fl_flags = FL_LAYOUT;
		lease->fl_type = F_RDLCK;
		lease->fl_end = OFFSET_MAX;
		lease->fl_owner = owner;
		lease->fl_pid = current->tgid;
		lease->fl_file = file;
	}
	return lease;
}
#else
#define chain_lease file_lease
#define chain_lease_operations lease_manager_operations
#define chain_lease_free locks_free_lease
#define chain_lease_owner(lease) ((lease)->c.flc_owner)

static inline struct file_lease *chain_lease_alloc(struct file *file, void *owner)
{
	struct file_lease *lease = locks_alloc_lease();

	if (lease) {
		lease->c.flc_flags = FL_LAYOUT;
		lease->c.flc_type = F_RDLCK;
		lease->c.flc_owner = owner;
		lease->c.flc_pid = current->tgid;
		lease->c.flc_file = file;
	}
	return lease;
}
#endif

#endif /* DM_CHAIN_COMPAT_H */
