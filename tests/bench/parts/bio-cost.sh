# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# What a bio costs in the kernel. Sourced by tests/bench/run.

bio-cost() { in_uml 4G -- "$here/in-kernel" "$rounds"; }
