// SPDX-License-Identifier: GPL-2.0
/*
 * The owner of an active layer; see the header.
 *
 * It stands in one sector, which a disk writes whole or not at all. Two machines that take a layer
 * in the same instant are not kept apart by it: it is against carelessness, not a lock.
 */

#include "dm-chain-owner.h"

#include <linux/device-mapper.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/utsname.h>

#define DM_MSG_PREFIX "chain"

#define ID_BYTES 16

/* ---- This machine ---- */

static u8 machine_id[ID_BYTES];
static u8 boot_id[ID_BYTES];

/* 32 hexadecimal digits, with or without dashes, as in /etc/machine-id and in boot_id. */
static int set_id(const char *text, const struct kernel_param *kp)
{
	u8 id[ID_BYTES] = {};
	unsigned int n = 0;

	for (; *text && *text != '\n'; text++) {
		int digit = hex_to_bin(*text);

		if (*text == '-')
			continue;
		if (digit < 0 || n == 2 * ID_BYTES)
			return -EINVAL;
		id[n / 2] |= n % 2 ? digit : digit << 4;
		n++;
	}
	if (n != 2 * ID_BYTES)
		return -EINVAL;
	memcpy(kp->arg, id, sizeof(id));
	return 0;
}

static int get_id(char *buf, const struct kernel_param *kp)
{
	return sprintf(buf, "%*phN\n", ID_BYTES, kp->arg);
}

static const struct kernel_param_ops id_ops = { .set = set_id, .get = get_id };

module_param_cb(machine_id, &id_ops, machine_id, 0644);
MODULE_PARM_DESC(machine_id, "Who this machine is, as owner of what it writes: /etc/machine-id");
module_param_cb(boot_id, &id_ops, boot_id, 0644);
MODULE_PARM_DESC(boot_id, "Which boot this is: /proc/sys/kernel/random/boot_id");

/* ---- The owner of a layer ---- */

static u64 log_at(const struct chain_active *a)
{
	return 1ull << a->geometry.cluster_shift;
}

static int read_heads(struct chain_active *a, struct chain_heads *h)
{
	int r = chain_active_read(a, h->header, sizeof(h->header), 0);

	return r ? r : chain_active_read(a, &h->log, sizeof(h->log), log_at(a));
}

/* Writes the owner that stands in a->known. The rest of its block does not change. */
static int write_owner(struct chain_active *a)
{
	struct chain_log_head *log = &a->known->log;
	int r;

	log->owner.time = cpu_to_le64(ktime_get_real_seconds());
	log->owner.crc = cpu_to_le32(chain_log_owner_crc(&log->owner));
	r = chain_active_write(a, log, sizeof(*log), log_at(a));
	if (r)
		DMERR("layer %u: cannot write its owner: error %d", a->layer->id, r);
	return r;
}

int chain_owner_allows(struct chain_active *a, const char *path, char **error)
{
	const struct chain_log_owner *o;
	time64_t since;
	int r;

	*error = "Cannot read the owner of the active layer";
	a->known = kmalloc_array(2, sizeof(*a->known), GFP_KERNEL);
	if (!a->known)
		return -ENOMEM;
	if (!memchr_inv(machine_id, 0, sizeof(machine_id))) {
		DMERR("%s: the module's parameter machine_id is not set: see /etc/machine-id",
		      path);
		*error = "The module's parameter machine_id is not set";
		return -EINVAL;
	}
	r = read_heads(a, a->known);
	if (r) {
		DMERR("%s: cannot read its header: error %d", path, r);
		return r;
	}
	o = &a->known->log.owner;
	if (chain_log_owner_none(o))
		return 0;
	if (!chain_log_owner_sound(o)) {
		DMERR("%s: what it says of its owner is damaged: activate it with --take-over",
		      path);
		*error = "The owner of the active layer is damaged";
		return -EUCLEAN;
	}
	if (o->state == CHAIN_LAYER_RELEASED ||
	    !memcmp(o->machine, machine_id, sizeof(machine_id)))
		return 0;
	since = le64_to_cpu(o->time);
	DMERR("%s: the machine %s (%*phN, boot %*phN) has it since %ptTs UTC, as %s", path, o->host,
	      ID_BYTES, o->machine, ID_BYTES, o->boot, &since, o->device);
	DMERR("%s: release it there, or, if it is not written there, take it over", path);
	*error = "Another machine owns the active layer";
	return -EBUSY;
}

int chain_owner_take(struct chain_active *a, const u8 *chain_uuid, struct dm_target *ti)
{
	struct chain_log_owner *o = &a->known->log.owner;
	char name[DM_NAME_LEN] = "";
	int r;

	dm_copy_name_and_uuid(dm_table_get_md(ti->table), name, NULL);
	memset(o, 0, sizeof(*o));
	memcpy(o->magic, CHAIN_LOG_OWNER_MAGIC, sizeof(o->magic));
	o->state = CHAIN_LAYER_OWNED;
	memcpy(o->machine, machine_id, sizeof(o->machine));
	memcpy(o->boot, boot_id, sizeof(o->boot));
	memcpy(o->chain, chain_uuid, sizeof(o->chain));
	strscpy(o->host, init_utsname()->nodename, sizeof(o->host));
	strscpy(o->device, name, sizeof(o->device));
	r = write_owner(a);
	a->owned = !r;
	a->looked = jiffies;
	return r;
}

int chain_owner_release(struct chain_active *a)
{
	if (!a->owned)
		return 0;
	a->owned = false;
	a->known->log.owner.state = CHAIN_LAYER_RELEASED;
	return write_owner(a);
}

/* ---- What others did to it ---- */

static u64 size_now(const struct chain_active *a)
{
	return a->layer->dev ? bdev_nr_bytes(a->layer->dev->bdev) :
			       i_size_read(file_inode(a->layer->opened.file));
}

void chain_owner_look(struct chain_active *a)
{
	a->looked = jiffies - HZ;
}

int chain_owner_verify(struct chain_active *a, const char *path)
{
	struct chain_heads *now = a->known + 1;
	const struct chain_log_owner *o = &now->log.owner;
	time64_t since;

	if (!a->owned || time_before(jiffies, a->looked + HZ))
		return 0;
	a->looked = jiffies;
	if (size_now(a) < a->end) {
		DMERR("%s: the active layer has %llu bytes, it had %llu: somebody has truncated it",
		      path, size_now(a), a->end);
		return -ESTALE;
	}
	/* What cannot be read is not what this is about. */
	if (read_heads(a, now) || !memcmp(now, a->known, sizeof(*now)))
		return 0;
	since = le64_to_cpu(o->time);
	if (chain_log_owner_sound(o) && memcmp(o, &a->known->log.owner, sizeof(*o))) {
		DMERR("%s: the machine %s took the active layer at %ptTs UTC, as the device %s",
		      path, o->host, &since, o->device);
		return -EBUSY;
	}
	DMERR("%s: somebody else has written to the %s of the active layer", path,
	      memcmp(now->header, a->known->header, sizeof(now->header)) ? "header" : "log");
	return -ESTALE;
}
