/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The open layers of a chain: files and block devices, by layer id.
 */
#ifndef DM_CHAIN_LAYER_H
#define DM_CHAIN_LAYER_H

#include <linux/device-mapper.h>

#include "dm-chain-file.h"
#include "dm-chain-inflight.h"
#include "dm-chain-open.h"

struct chain_extent_layer;

struct chain_layer_open {
	struct chain_opened opened; /* also of a device, for compressed clusters and the log */
	struct dm_dev *dev; /* NULL for a file */
	struct chain_extent_layer *extents; /* NULL: none; of dm-chain-extent.c */
	u64 bytes; /* size when the index was built, and now */
	u32 dio_offset_align; /* bytes; 0: the file cannot do direct I/O */
	u32 dio_mem_align; /* bytes */
	u16 id;
	u8 cluster_shift; /* log2 bytes of the layer's clusters; 0: raw */
	u8 compression; /* enum chain_compression */
	bool has_compressed;
	bool unsealed; /* active, or frozen: its size may change, and a tool may seal it */
	bool growing; /* sealed, and a tool adds to it what only other layers show */
};

struct chain_layers {
	unsigned int count;
	unsigned int ids; /* length of the next two: more than the highest id */
	struct chain_layer_open **by_id; /* NULL: no such layer */
	struct block_device **bdev; /* by id; NULL: a file. Small, for the hot path */
	unsigned int room; /* length of the next */
	struct chain_layer_open **layer; /* count, in the order of the chain */
};

/* The place of layer @id from the base; ls->count: there is none. */
static inline unsigned int chain_layers_place(const struct chain_layers *ls, unsigned int id)
{
	unsigned int i;

	for (i = 0; i < ls->count && ls->layer[i]->id != id; i++)
		;
	return i;
}

/*
 * Opens every layer of @cf: compares size and identity with what the index was built from, and
 * denies write access to files (ETXTBSY for others) until chain_layers_close(). Context: process,
 * may sleep. On failure returns a negative errno, sets *@error, and has logged which layer and why.
 */
int chain_layers_open(struct chain_layers *ls, struct dm_target *ti, const struct chain_file *cf,
		      char **error);
void chain_layers_close(struct chain_layers *ls, struct dm_target *ti);

/*
 * Opens the file or device at @path for writing, as an active layer with @id. Fills in @rec, but
 * for the place of the path and its log. Context and errors as above. chain_layers_add() or
 * chain_layer_drop() follows.
 */
struct chain_layer_open *chain_layer_open_active(struct dm_target *ti, const char *path,
						 unsigned int id, struct chain_layer *rec,
						 char **error);
void chain_layer_drop(struct chain_layer_open *l, struct dm_target *ti);

/*
 * Direct reads of a file look for cached pages of it first, if there are any: drops those of a
 * sealed layer that is read that way, and not straight from the disk. Takes long where a tool has
 * read the tables of a large disk. May sleep.
 */
void chain_layer_uncache(const struct chain_layer_open *l);

/* Arrays that chain_layers_add() replaced: to be kvfree()d when no reader can have them. */
struct chain_layers_old {
	void *array[3];
};

/*
 * The frozen layer @l at @path was sealed: exchanges its file for one that is open for reading
 * only, denies write access, and notes in @rec what it is now. @inflight: entered by whoever
 * may be using l->opened.file. Context: a kernel thread (the last close of the old file must not
 * be put off). Returns 0, or an error (logged); it may be tried again.
 */
int chain_layer_sealed(struct chain_layer_open *l, const char *path, struct chain_layer *rec,
		       struct chain_inflight *inflight);

/*
 * A tool adds to the sealed layer @l at @path, a file, from now on; and after that, when what it
 * added is durable: notes in @rec what the layer is now, and denies write access again. Context:
 * process, may sleep. Return 0, or an error (logged), and then nothing is changed.
 */
int chain_layer_growing(struct chain_layer_open *l, const char *path, struct chain_layer *rec);
int chain_layer_grown(struct chain_layer_open *l, const char *path, struct chain_layer *rec);

/*
 * Opens the file at @path, which is a copy of the sealed layer @l, a file, to take its place:
 * chain_layers_exchange() or chain_layer_drop() follows. Notes in @rec what it is. Context:
 * process, may sleep. On failure an error pointer (logged).
 */
struct chain_layer_open *chain_layer_open_copy(const struct chain_layer_open *l,
					       struct dm_target *ti, const char *path,
					       struct chain_layer *rec);

/*
 * @l becomes layer @at from the base, with the same id. Returns the one that it was: to be dropped
 * when no reader can have it.
 */
struct chain_layer_open *chain_layers_exchange(struct chain_layers *ls, unsigned int at,
					       struct chain_layer_open *l);

/*
 * Adds @l as layer @at from the base; readers go on. Returns 0 or -ENOMEM, and then nothing is
 * changed.
 */
int chain_layers_add(struct chain_layers *ls, struct chain_layer_open *l, unsigned int at,
		     struct chain_layers_old *old);

/*
 * Takes @count layers out, from @first on; no entry of the index names them, and no bio that looked
 * one up is under way. They stay open, in the array that goes to *@old: to be kvfree()d when no
 * reader can have it. Returns 0 or -ENOMEM, and then nothing is changed.
 */
int chain_layers_remove(struct chain_layers *ls, unsigned int first, unsigned int count,
			struct chain_layer_open ***old);

/* Takes the only layer out of @ls: -EINVAL if there are more. */
int chain_layer_take(struct chain_layers *ls, struct chain_layer_open **l);

#endif /* DM_CHAIN_LAYER_H */
