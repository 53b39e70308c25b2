/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The chain file as the target opens it: superblock and layer table, read and checked.
 */
#ifndef DM_CHAIN_FILE_H
#define DM_CHAIN_FILE_H

#include <linux/crc32c.h>
#include <linux/fs.h>
#include <linux/types.h>

/* For the validators: CRC-32C with its inversions, continued from @crc. */
static inline u32 chain_crc32c_more(u32 crc, const void *data, size_t bytes)
{
	return ~crc32c(~crc, data, bytes);
}

#include "dm-chain-check.h"
#include "dm-chain-open.h"

struct chain_file {
	struct chain_opened opened;
	char *path;
	struct chain_super *super; /* both copies as read; the first is the one that counts */
	unsigned int copy; /* which of the two that was */
	struct chain_layer *layers; /* super->layer_count records, then the paths */
	const char *strings;
	u64 *layer_bytes; /* by id, for the geometry; has room for more than geometry.ids */
	unsigned int room;
	struct chain_geometry geometry;
};

/* Whether the chain has a layer that takes writes. */
static inline bool chain_file_active(const struct chain_file *cf)
{
	return le16_to_cpu(cf->super->active) != CHAIN_NO_LAYER;
}

/*
 * Opens, claims for the device of @ti, and checks the chain file, for writing too if @write. One
 * that is to be written must be where it was built: a copy names the original's layers. Context:
 * process, may sleep. On
 * failure returns a negative errno, sets *@error to a static text for ti->error, and has logged the
 * place and the values.
 */
int chain_file_open(struct chain_file *cf, struct dm_target *ti, const char *path, bool write,
		    char **error);
void chain_file_close(struct chain_file *cf);
/* Whether somebody else has written a superblock since: 1, 0, or an error. */
int chain_file_changed(const struct chain_file *cf);

/*
 * Adds a layer as record @at: @rec (whose place of the path is filled in) and its absolute @path.
 * Nobody may look at the layer table while this runs. The old arrays of the geometry go to @old, to
 * be kvfree()d when no reader can have them. Returns 0 or -ENOMEM.
 */
int chain_file_add_layer(struct chain_file *cf, const struct chain_layer *rec, u32 at,
			 const char *path, u64 **old);
/* Record @at has the absolute @path from now on. As above. */
int chain_file_name_layer(struct chain_file *cf, u32 at, const char *path);
/* Takes @count records out, from @first on. Nobody may look at the layer table while this runs. */
void chain_file_remove_layers(struct chain_file *cf, u32 first, u32 count);

/*
 * Reads exactly @bytes at @offset. Context: process, may sleep; callers on the I/O path are in a
 * no-I/O allocation scope. Returns 0, -EIO for a short read, or the error.
 */
int chain_read_exact(struct file *file, void *buf, size_t bytes, loff_t offset);

/* Writes exactly @bytes at @offset. Context as above; durable only after vfs_fsync(). */
int chain_write_exact(struct file *file, const void *buf, size_t bytes, loff_t offset);

/* Logs @f, found in the structure that starts at byte @base of the chain file. */
void chain_log_fault(const struct chain_file *cf, u64 base, const struct chain_fault *f);

#endif /* DM_CHAIN_FILE_H */
