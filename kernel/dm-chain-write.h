/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The writer of a chain with an active layer: first writes, discards, flushes, commits, snapshots.
 *
 * One thread (the work of an ordered queue) decides everything: it alone changes the index, and
 * needs no lock for its own state. A second one makes what the first hands it durable, one commit
 * at a time.
 *
 * Overwrites of what the active layer has do not come here. They enter c->inflight from the lookup
 * to their end, so that draining waits for all that may still go to where something was.
 */
#ifndef DM_CHAIN_WRITE_H
#define DM_CHAIN_WRITE_H

#include "dm-chain.h"

/*
 * The writer's threads, for as long as there is the target: a process that was killed cannot make
 * them, and a resume must not fail because of that. Context: process, sleeps. Returns 0 or -ENOMEM;
 * chain_writer_exit() is due in both cases.
 */
int chain_writer_init(struct chain *c);
/* The writer is closed. Sleeps. */
void chain_writer_exit(struct chain *c);

/*
 * Makes the chain writable: opens its active layer and brings the index up to the end of the log.
 * Context: process, may sleep. Returns 0, or an error, with *@error set and logged.
 */
int chain_writer_open(struct chain *c, const struct chain_write_options *o, char **error);
/* No bio may be left. May sleep. */
void chain_writer_close(struct chain *c);

/* Takes over @bio, whose sectors are of the virtual disk. Context: any that may queue work. */
void chain_write_queue(struct chain *c, struct bio *bio);

/*
 * The same with a write that was mapped and begins in place, in a file, as @found says: what
 * chain_index_lookup() said of it after it entered c->inflight, which is its first piece's now.
 * What cannot be written in place goes to the writer.
 */
void chain_overwrite_queue(struct chain *c, struct bio *bio, const struct chain_extent *found);

/*
 * From now on bios that wait for room do so no more. @requeue: they come again later; otherwise
 * they fail.
 */
void chain_writer_presuspend(struct chain *c, bool requeue);
/* The suspend was given up. The writer may be held by a message, and stays so. */
void chain_writer_presuspend_undo(struct chain *c);
/* All bios are done: makes everything durable and writes the index back. Returns 0 or an error. */
int chain_writer_stop(struct chain *c);
void chain_writer_resume(struct chain *c);
/*
 * After chain_writer_stop(), or with the device gone: the active layer has no owner any more,
 * unless another table of the same device goes on. Returns 0 or an error.
 */
int chain_writer_leave(struct chain *c);

/* Makes all that was completed so far durable. Waits. */
int chain_writer_commit(struct chain *c, bool store);
/* Freezes the active layer and goes on in the one at @path. Waits for I/O in flight. */
int chain_writer_snapshot(struct chain *c, const char *path);
/* The frozen layer @id was sealed. */
int chain_writer_sealed(struct chain *c, unsigned int id);
/*
 * A tool adds to the sealed layer @id from now on (@begin), what readers find in other layers; or
 * it is done, and all is durable. The chain file says so before this returns.
 */
int chain_writer_grow_layer(struct chain *c, unsigned int id, bool begin);
/* The layer @id can be opened as @path from now on: noted in the chain file. */
int chain_writer_moved(struct chain *c, unsigned int id, const char *path);
/* The file at @path, a copy of the sealed layer @id, takes its place. */
int chain_writer_copied(struct chain *c, unsigned int id, const char *path);
int chain_writer_resize(struct chain *c, u64 sectors);
/*
 * The sealed layers @first to @last (ids) were merged into the file of which @path is the index: it
 * takes their place, in the background.
 */
int chain_writer_replace(struct chain *c, unsigned int first, unsigned int last, const char *path);

struct chain_writer_stats {
	const char *mode; /* rw, out_of_space, ro */
	bool needs_check;
	u64 commits;
	u64 log_bytes;
	unsigned int active_id;
	const char *exchange; /* -, checking, exchanging, landing, done, failed */
	u64 exchanged; /* sectors of the disk, in this phase */
};

void chain_writer_stats(struct chain *c, struct chain_writer_stats *s);

#endif /* DM_CHAIN_WRITE_H */
