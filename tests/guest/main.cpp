// SPDX-License-Identifier: GPL-2.0-or-later
// doctest's own main for the tests of tools/guest.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
