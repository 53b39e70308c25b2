/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the target says of itself: table and status line, and the answer to the message "layers".
 */
#ifndef DM_CHAIN_REPORT_H
#define DM_CHAIN_REPORT_H

#include "dm-chain.h"

/* dm's status function; takes c->control. */
void chain_status(struct dm_target *ti, status_type_t type, unsigned int status_flags, char *result,
		  unsigned int maxlen);

/*
 * One line for the chain file and each layer, base first, as docs/target.md has them, into @result.
 * What does not fit is cut off: dm core asks for more room then. c->control is held. Context:
 * process, may sleep. Returns 1 (there is a result), or an error.
 */
int chain_report_layers(const struct chain *c, char *result, unsigned int maxlen);

/*
 * A path in a table line or an answer is one word: blanks, line ends and backslashes are written
 * as \ooo. This is the way back, in place.
 */
void chain_decode_path(char *path);

#endif /* DM_CHAIN_REPORT_H */
