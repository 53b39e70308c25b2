// SPDX-License-Identifier: GPL-2.0-or-later
// librados, loaded when it is needed: it is large, and most who use dmchain have no Ceph.
#pragma once

#include <rados/librados.h>

namespace dmchain::replica {

struct RadosLibrary {
#define DMCHAIN_RADOS(function) decltype(&::rados_##function) function = nullptr;
#include "replica/rados_functions.inc"
#undef DMCHAIN_RADOS

    // Throws failed() if it is not installed.
    static const RadosLibrary& get();
};

}  // namespace dmchain::replica
