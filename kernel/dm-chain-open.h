/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file or block device that a chain device uses: open, claimed against the other chain devices of
 * this machine, and, if it is a regular file, closed for every other writer.
 *
 * What one mapped device may write (its active and frozen layers, its chain file) no other may use;
 * what is only read may be shared. Two tables of the same mapped device, of which one is to take
 * over from the other, do not exclude each other.
 */
#ifndef DM_CHAIN_OPEN_H
#define DM_CHAIN_OPEN_H

#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/list.h>

enum chain_use {
	CHAIN_USE_READ, /* a sealed layer, the chain file of a read-only device */
	CHAIN_USE_FROZEN, /* read; a tool may seal or add to it, so other writers are let in */
	CHAIN_USE_WRITE, /* the active layer, the chain file of a device that is written */
};

struct chain_shared;

/* Embedded in what is open; zeroed before chain_open(). */
struct chain_opened {
	struct file *file; /* NULL: not open */
	enum chain_use use;
	const char *role; /* what it is for, as in "active layer": static */

	/* Under the registry's lock. */
	struct hlist_node hash; /* unhashed: not claimed */
	struct inode *inode; /* of a regular file, below an overlay; otherwise NULL */
	dev_t dev; /* of a block device */
	struct dm_target *ti;
	bool has_log;
	u8 log[16]; /* uuid of its log */

	struct chain_shared *shared; /* USE_WRITE of a file: its struct file, one for all tables */
	bool denied; /* USE_READ of a file: nobody can open it for writing */
};

/*
 * Opens @path for reading, whatever it is. Context: process, may sleep. Returns 0 or an error;
 * nothing is logged.
 */
int chain_open(struct chain_opened *o, const char *path);

/*
 * Claims what was opened, which is a regular file or a block device, for the device of @ti. Of a
 * regular file: opens it for writing (USE_WRITE) and keeps others from doing so (USE_WRITE,
 * USE_READ). @path is for the log. Context: process, may sleep. Returns 0, -EBUSY if another chain
 * device has it, -ETXTBSY if somebody has it open for writing, or another error, with *@error set
 * and logged.
 */
int chain_claim(struct chain_opened *o, struct dm_target *ti, enum chain_use use, const char *role,
		const char *path, char **error);

/*
 * The layer @o, which is claimed for writing, has the log @uuid (16 bytes). Refuses a device with
 * the same log as another chain device's layer: the same data by another name. Returns 0 or -EBUSY,
 * with *@error set and logged.
 */
int chain_claim_log(struct chain_opened *o, const u8 *uuid, const char *path, char **error);

/* Whether @path leads to what was claimed as @o. Context: process, may sleep. 1, 0, or an error. */
int chain_leads_to(const struct chain_opened *o, const char *path);

/* Whether another table of the same device has it for writing, too. */
bool chain_claimed_twice(const struct chain_opened *o);

/* An active layer is frozen: whoever seals it can open it for writing. */
void chain_claim_frozen(struct chain_opened *o);

/*
 * A frozen layer was sealed: it is only read from now on, and @file, which is the same file open
 * for reading, takes the place of o->file. Returns 0, or -ETXTBSY: somebody has it open for
 * writing; nothing is changed then but o->file. What o->file was goes to *@old: chain_put_old()
 * when nobody uses it any more. A file is closed at once.
 */
struct chain_old {
	struct file *file;
	struct chain_shared *shared;
};

void chain_reopened(struct chain_opened *o, struct file *file, struct chain_old *old);
void chain_put_old(struct chain_old *old);
int chain_claim_sealed(struct chain_opened *o);

/*
 * A tool adds to the sealed layer @o, a file: whoever wants to can open it for writing, but no
 * other chain device may have it. Until chain_claim_sealed(). Returns 0, or -EBUSY (logged).
 */
int chain_claim_growing(struct chain_opened *o, const char *path);

/* Makes a file that is claimed for writing @bytes long. By the one thread that may grow it. */
int chain_truncate(struct chain_opened *o, u64 bytes);

/* May be called again, and on what was never opened. */
void chain_close(struct chain_opened *o);

#endif /* DM_CHAIN_OPEN_H */
