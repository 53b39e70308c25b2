// SPDX-License-Identifier: GPL-2.0
/*
 * The registry of what the chain devices of this machine have open; see the header. Called when
 * tables are made, resumed and destroyed, and by messages; never for a bio.
 */

#include "dm-chain-open.h"

#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/hashtable.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define DM_MSG_PREFIX "chain"

/* A file that is written: the tables of one mapped device share the struct file. */
struct chain_shared {
	refcount_t users;
	struct file *file;
	bool held; /* nobody else can open it for writing */
	struct work_struct close;
};

/* A leaf lock, but for the allocation of nothing: it is never held while a file is opened. */
static DEFINE_MUTEX(registry_lock);
static DEFINE_HASHTABLE(registry, 10); /* of struct chain_opened, by inode or device */

static unsigned long key_of(const struct chain_opened *o)
{
	return o->inode ? (unsigned long)o->inode : o->dev;
}

/* ---- Other writers of a file ---- */

/*
 * A writer is alone if it is the one that i_writecount counts. Then the count becomes what it is
 * under deny_write_access(), although one file is open for writing: ours. Before that file is
 * closed, which takes one away, both steps are undone.
 */
static bool hold_writes(struct chain_shared *s)
{
	s->held = atomic_cmpxchg(&file_inode(s->file)->i_writecount, 1, -1) == 1;
	return s->held;
}

static void let_writes(struct chain_shared *s)
{
	if (s->held)
		atomic_add(2, &file_inode(s->file)->i_writecount);
	s->held = false;
}

static void close_work(struct work_struct *work)
{
	struct chain_shared *s = container_of(work, struct chain_shared, close);

	__fput_sync(s->file);
}

/*
 * A process closes its files when it returns to user space. But whoever opens this one for writing
 * next, also before that, must not find it open: a kernel thread closes it now.
 */
static void put_shared(struct chain_shared *s)
{
	if (!refcount_dec_and_test(&s->users))
		return;
	let_writes(s);
	if (current->flags & PF_KTHREAD) {
		__fput_sync(s->file);
	} else {
		INIT_WORK(&s->close, close_work);
		schedule_work(&s->close);
		flush_work(&s->close);
	}
	kfree(s);
}

/* ---- Claims ---- */

/* A table that is loaded is to take over from the live one of the same device. */
static bool takes_over(const struct chain_opened *a, const struct chain_opened *b)
{
	return dm_table_get_md(a->ti->table) == dm_table_get_md(b->ti->table) &&
	       a->ti->table != b->ti->table;
}

static int refuse(const struct chain_opened *has, const char *path, const char *what)
{
	char name[DM_NAME_LEN] = "?";

	dm_copy_name_and_uuid(dm_table_get_md(has->ti->table), name, NULL);
	DMERR("%s: the device %s has %s as its %s: remove that first", path, name, what, has->role);
	return -EBUSY;
}

static int add_claim(struct chain_opened *o, const char *path)
{
	struct chain_opened *has;
	int r = 0;

	mutex_lock(&registry_lock);
	hash_for_each_possible(registry, has, hash, key_of(o)) {
		if (has->inode != o->inode || has->dev != o->dev || takes_over(has, o))
			continue;
		if (has->use == CHAIN_USE_READ && o->use == CHAIN_USE_READ)
			continue;
		r = refuse(has, path, "it");
		goto out;
	}
	hash_add(registry, &o->hash, key_of(o));
out:
	mutex_unlock(&registry_lock);
	return r;
}

/* The file that another table of the same device has open for writing, or NULL. */
static struct chain_shared *find_shared(const struct chain_opened *o)
{
	struct chain_shared *found = NULL;
	struct chain_opened *has;

	mutex_lock(&registry_lock);
	hash_for_each_possible(registry, has, hash, key_of(o)) {
		if (has == o || has->inode != o->inode || !has->shared || !takes_over(has, o))
			continue;
		found = has->shared;
		refcount_inc(&found->users);
		break;
	}
	mutex_unlock(&registry_lock);
	return found;
}

static int open_shared(struct chain_opened *o)
{
	struct chain_shared *s = kzalloc(sizeof(*s), GFP_KERNEL);
	int r;

	if (!s)
		return -ENOMEM;
	s->file = dentry_open(&o->file->f_path, O_RDWR | O_LARGEFILE | O_NOATIME, current_cred());
	if (IS_ERR(s->file)) {
		r = PTR_ERR(s->file);
		kfree(s);
		return r;
	}
	refcount_set(&s->users, 1);
	if (!hold_writes(s)) {
		put_shared(s);
		return -ETXTBSY;
	}
	mutex_lock(&registry_lock);
	o->shared = s;
	mutex_unlock(&registry_lock);
	return 0;
}

/* The chain file may be a device, which is written through its file. */
static int open_device(struct chain_opened *o)
{
	struct file *file =
		dentry_open(&o->file->f_path, O_RDWR | O_LARGEFILE | O_NOATIME, current_cred());

	if (IS_ERR(file))
		return PTR_ERR(file);
	fput(o->file);
	o->file = file;
	return 0;
}

static int make_writable(struct chain_opened *o)
{
	struct chain_shared *s;
	int r;

	if (!o->inode)
		return open_device(o);
	s = find_shared(o);
	if (s) {
		mutex_lock(&registry_lock);
		o->shared = s;
		mutex_unlock(&registry_lock);
	} else {
		r = open_shared(o);
		if (r)
			return r;
	}
	fput(o->file);
	o->file = get_file(o->shared->file);
	return 0;
}

int chain_open(struct chain_opened *o, const char *path)
{
	/* O_NONBLOCK: a FIFO is refused, not waited for. */
	struct file *file = filp_open(path, O_RDONLY | O_LARGEFILE | O_NOATIME | O_NONBLOCK, 0);

	if (IS_ERR(file))
		return PTR_ERR(file);
	o->file = file;
	return 0;
}

int chain_claim(struct chain_opened *o, struct dm_target *ti, enum chain_use use, const char *role,
		const char *path, char **error)
{
	struct inode *inode = file_inode(o->file);
	int r;

	o->ti = ti;
	o->use = use;
	o->role = role;
	if (S_ISBLK(inode->i_mode))
		o->dev = inode->i_rdev;
	else
		o->inode = d_real_inode(o->file->f_path.dentry);
	*error = "Another chain device uses it";
	r = add_claim(o, path);
	if (r)
		return r;
	if (use == CHAIN_USE_WRITE) {
		r = make_writable(o);
	} else if (use == CHAIN_USE_READ && o->inode) {
		r = deny_write_access(o->file);
		o->denied = !r;
	}
	if (r == -ETXTBSY) {
		*error = "It is open for writing elsewhere";
		DMERR("%s: open for writing elsewhere", path);
	} else if (r) {
		*error = "Cannot open it for writing";
		DMERR("%s: cannot open it for writing: error %d", path, r);
	}
	return r;
}

int chain_claim_log(struct chain_opened *o, const u8 *uuid, const char *path, char **error)
{
	struct chain_opened *has;
	int i, r = 0;

	mutex_lock(&registry_lock);
	hash_for_each(registry, i, has, hash) {
		if (has == o || !has->has_log || memcmp(has->log, uuid, 16) || takes_over(has, o))
			continue;
		/* Two files with one log are a file and its copy: each is somebody's own. */
		if (has->inode && o->inode)
			continue;
		*error = "Another chain device has a layer with the same log";
		r = refuse(has, path, "a layer with the same log");
		break;
	}
	if (!r) {
		memcpy(o->log, uuid, sizeof(o->log));
		o->has_log = true;
	}
	mutex_unlock(&registry_lock);
	return r;
}

int chain_leads_to(const struct chain_opened *o, const char *path)
{
	struct chain_opened at = {};
	struct inode *inode;
	int r = chain_open(&at, path);

	if (r)
		return r;
	inode = file_inode(at.file);
	if (o->inode)
		r = d_real_inode(at.file->f_path.dentry) == o->inode;
	else
		r = S_ISBLK(inode->i_mode) && inode->i_rdev == o->dev;
	chain_close(&at);
	return r;
}

bool chain_claimed_twice(const struct chain_opened *o)
{
	struct chain_opened *has;
	bool twice = false;

	mutex_lock(&registry_lock);
	hash_for_each_possible(registry, has, hash, key_of(o))
		twice |= has->inode == o->inode && has->dev == o->dev &&
			 has->use == CHAIN_USE_WRITE && takes_over(has, o);
	mutex_unlock(&registry_lock);
	return twice;
}

void chain_claim_frozen(struct chain_opened *o)
{
	mutex_lock(&registry_lock);
	o->use = CHAIN_USE_FROZEN;
	o->role = "frozen layer";
	if (o->shared)
		let_writes(o->shared);
	mutex_unlock(&registry_lock);
}

void chain_reopened(struct chain_opened *o, struct file *file, struct chain_old *old)
{
	mutex_lock(&registry_lock);
	old->file = o->file;
	old->shared = o->shared;
	o->shared = NULL;
	WRITE_ONCE(o->file, file);
	mutex_unlock(&registry_lock);
}

void chain_put_old(struct chain_old *old)
{
	fput(old->file);
	if (old->shared)
		put_shared(old->shared);
}

int chain_claim_sealed(struct chain_opened *o)
{
	int r = o->inode ? deny_write_access(o->file) : 0;

	if (r)
		return r;
	mutex_lock(&registry_lock);
	o->denied = o->inode;
	o->use = CHAIN_USE_READ;
	o->role = "sealed layer";
	o->has_log = false;
	mutex_unlock(&registry_lock);
	return 0;
}

int chain_claim_growing(struct chain_opened *o, const char *path)
{
	struct chain_opened *has;
	int r = 0;

	mutex_lock(&registry_lock);
	hash_for_each_possible(registry, has, hash, key_of(o)) {
		if (has == o || has->inode != o->inode || has->dev != o->dev)
			continue;
		r = refuse(has, path, "it");
		goto out;
	}
	o->use = CHAIN_USE_FROZEN;
	o->role = "growing layer";
	if (o->denied)
		allow_write_access(o->file);
	o->denied = false;
out:
	mutex_unlock(&registry_lock);
	return r;
}

int chain_truncate(struct chain_opened *o, u64 bytes)
{
	int r;

	let_writes(o->shared);
	r = vfs_truncate(&o->file->f_path, bytes);
	if (!hold_writes(o->shared))
		DMWARN("%pD: somebody else has opened it for writing", o->file);
	return r;
}

void chain_close(struct chain_opened *o)
{
	if (!o->file)
		return;
	mutex_lock(&registry_lock);
	if (!hlist_unhashed(&o->hash))
		hash_del(&o->hash);
	mutex_unlock(&registry_lock);
	if (o->denied)
		allow_write_access(o->file);
	fput(o->file);
	if (o->shared)
		put_shared(o->shared);
	memset(o, 0, sizeof(*o));
}
