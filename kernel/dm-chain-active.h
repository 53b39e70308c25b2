/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The active layer: its log, and which of its clusters are free. dm-chain-log.h says how it lies in
 * the file.
 */
#ifndef DM_CHAIN_ACTIVE_H
#define DM_CHAIN_ACTIVE_H

#include <linux/mutex.h>
#include <linux/xarray.h>

#include "dm-chain-layer.h"
#include "dm-chain-log.h"

/* Where a log goes on. */
struct chain_log_position {
	u64 segment; /* bytes in the layer */
	u64 segment_bytes;
	u64 next; /* bytes in the layer: place of the next block; the segment's end: none is left */
	u64 sequence; /* that it will have */
	u32 epoch; /* of the block before */
};

struct chain_active {
	struct chain_layer_open *layer;
	struct chain_log_geometry geometry;
	u8 uuid[16];
	u64 sectors; /* of the disk when the layer was made */

	/* The log; one thread appends at a time. */
	struct chain_log_position log;
	u32 epoch; /* that new blocks get */
	u64 log_blocks; /* written since this was opened */
	u64 spare; /* bytes in the layer: room for the next segment; 0: none yet */
	u8 *buffer; /* blocks on their way out */

	/* Room; under lock. */
	struct mutex lock;
	struct xarray free; /* of pages of bits, by cluster of the layer; set: free, below next */
	u64 free_clusters;
	u64 next; /* bytes: from here on all is free ... */
	u64 end; /* ... up to here, which exists */
	bool fixed; /* a device: it grows when somebody extends it */

	/* dm-chain-owner.c; one thread at a time. */
	bool owned; /* by this machine, for this device */
	unsigned long looked; /* jiffies: when it was last seen to be as it was left */
	struct chain_heads *known; /* as it was left, and room to read it again: two of them */
};

/* The blocks of an active layer that nobody but its owner changes. */
struct chain_heads {
	u8 header[CHAIN_LOG_BLOCK]; /* qcow2's, at byte 0 */
	struct chain_log_head log; /* at the second cluster; the owner is a part of it */
};

/*
 * Opens the layer @l, which has been opened for writing, as an active layer at position @at of its
 * log (NULL: its beginning) with all free from byte @next on (0: behind the first segment).
 * Context: process, may sleep. Returns the layer or an ERR_PTR, with *@error set and logged.
 */
struct chain_active *chain_active_open(struct chain_layer_open *l, const char *path,
				       unsigned int cluster_shift,
				       const struct chain_log_position *at, u64 next, u64 clusters,
				       char **error);
/*
 * Whether the layer has all that the position says; after chain_owner_allows(), as another machine
 * may have gone on with its log. Context: process, may sleep. Returns 0, or an error, with *@error
 * set and logged.
 */
int chain_active_check(struct chain_active *a, const char *path, char **error);
void chain_active_close(struct chain_active *a);

/* ---- Room. Context: process, may sleep, no-I/O allocation scope. ---- */

/* Bytes that can be had without growing. */
u64 chain_active_room(struct chain_active *a);
/* One cluster: its byte in the layer; 0: there is none without growing. */
u64 chain_active_get(struct chain_active *a);
/* Gives back the cluster at byte @host: it can be had again at once. */
void chain_active_put(struct chain_active *a, u64 host);
/* Replay found the cluster at byte @host in use. */
void chain_active_take(struct chain_active *a, u64 host);
/* Bytes by which the file grows next. */
u64 chain_active_step(const struct chain_active *a);
/*
 * Makes the file longer, by a large step; of a device, finds out whether it has become longer.
 * Returns 0, -ENOSPC, or another error.
 */
int chain_active_grow(struct chain_active *a);
/* Calls @fn for each stretch of free clusters below the end. */
void chain_active_each_free(struct chain_active *a, void (*fn)(void *, u64 offset, u64 bytes),
			    void *data);

/* ---- The log ---- */

/*
 * Reads @bytes at @offset, both multiples of CHAIN_LOG_BLOCK, into @buf, which is page-aligned; of
 * a device past the page cache, which does not know of what was written since it was filled.
 * Returns 0 or an error.
 */
int chain_active_read(struct chain_active *a, void *buf, u32 bytes, u64 offset);
/* Writes @bytes at @offset, and makes them, and all that was written before, durable. */
int chain_active_write(struct chain_active *a, const void *buf, u32 bytes, u64 offset);

/* Makes all data that was written to the layer so far durable. */
int chain_active_flush(struct chain_active *a);

/*
 * Makes all data that was written to the layer so far durable, then appends @count records, and
 * after them a block of type @last with @body (0: none), and makes these durable. Context: as
 * above. Returns 0, or an error: the log is in an unknown state then, and nothing may be appended
 * any more.
 */
int chain_log_append(struct chain_active *a, const struct chain_log_record *records, u32 count,
		     enum chain_log_type last, const void *body, u32 body_bytes);

/*
 * False: the log is near its end and there is no room for its next segment; what is left is for
 * what is under way. Context: any; beside chain_log_append() it may be right a commit later.
 */
bool chain_log_has_room(const struct chain_active *a);

/*
 * Finds room for the log's next segment before it is needed, and fills it with zeroes, so that a
 * write of the log need not wait for the file system to note down where it lies. Called when nobody
 * waits for a commit.
 */
void chain_log_prepare(struct chain_active *a);

/* Blocks that chain_log_append() of @count records takes at the most. */
#define CHAIN_LOG_BUFFER 32 /* blocks */
#define CHAIN_LOG_BATCH ((CHAIN_LOG_BUFFER - 3) * CHAIN_LOG_MAX_RECORDS)

/*
 * Reads the log from a->log on and calls @fn for each block. Ends after the last valid block, with
 * a->log behind it. Returns 0, -EIO for a block that says what cannot be (logged), or what @fn
 * returned.
 */
int chain_log_replay(struct chain_active *a, const char *path,
		     int (*fn)(void *data, const struct chain_log_block *b), void *data);

#endif /* DM_CHAIN_ACTIVE_H */
