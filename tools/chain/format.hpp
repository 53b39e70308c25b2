// SPDX-License-Identifier: GPL-2.0-or-later
// The chain file's structures and validators, for C++.
#pragma once

#include <cstddef>

#include "io/crc32c.hpp"

#include "dm-chain-check.h"
