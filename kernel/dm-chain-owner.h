/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who may write an active layer, among all machines that can reach it, and whether it is still what
 * its owner left. struct chain_log_owner (dm-chain-log.h) says where that stands.
 *
 * This machine is known by the module's parameter machine_id; its name is that of the initial UTS
 * namespace. All functions may sleep; callers on the I/O path are in a no-I/O allocation scope.
 */
#ifndef DM_CHAIN_OWNER_H
#define DM_CHAIN_OWNER_H

#include "dm-chain-active.h"

/*
 * Whether this machine may take @a: it is nobody's, ours, or was released. @path is for the log.
 * Returns 0, -EBUSY if another machine has it, or another error, with *@error set and logged.
 */
int chain_owner_allows(struct chain_active *a, const char *path, char **error);

/*
 * Makes this machine the owner, durably, for the chain with @chain_uuid and the device of @ti. Only
 * after chain_owner_allows(). Returns 0 or an error (logged).
 */
int chain_owner_take(struct chain_active *a, const u8 *chain_uuid, struct dm_target *ti);

/* Whoever comes next may have it. Nothing is written after this. Returns 0 or an error. */
int chain_owner_release(struct chain_active *a);

/*
 * Whether the layer is still as this device left it: its header and its owner as they were, and not
 * shorter. Looks at most once a second, and after chain_owner_look(). Returns 0; -EBUSY if another
 * machine has taken it, or -ESTALE (logged).
 */
void chain_owner_look(struct chain_active *a);
int chain_owner_verify(struct chain_active *a, const char *path);

#endif /* DM_CHAIN_OWNER_H */
