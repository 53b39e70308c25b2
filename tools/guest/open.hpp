// SPDX-License-Identifier: GPL-2.0-or-later
// Where the bytes of a memory image are to be had from, as users name it.
#pragma once

#include <string>

#include "guest/source.hpp"

namespace dmchain::guest {

// @what: a file; "-", standard input; a pipe; a qcow2 image, also as IMAGE@SNAPSHOT. What comes from a pipe, and what libvirt has
// compressed, is kept in a Spool. Throws failed() or damaged().
Source open_source(const std::string& what);

}  // namespace dmchain::guest
