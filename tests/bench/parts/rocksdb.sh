# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# A database on chains, beside QEMU. Sourced by tests/bench/run.

rocksdb() {
    # shellcheck disable=SC2086
    in_uml 5G -- "$here/rocksdb-in-machine" $(((rounds + 1) / 2)) "${DMCHAIN_BENCH_SECONDS:-4}" ${DMCHAIN_BENCH_DEPTHS:-1 50 500}
}
