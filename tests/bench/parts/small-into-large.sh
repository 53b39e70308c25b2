# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# A snapshot of 1 GiB becomes a part of a base of 100 GiB: time, bytes copied, and the most space that it takes meanwhile, beside
# 'qemu-img commit'. At rest, on the machine's own file system. Sourced by tests/bench/run.

# The base has a cluster in 50 (2 GiB), the snapshot half as many: where the base has one ("over"), or has none ("between").
# In the files they lie in another order than on the disk. On top is an empty image, which stays.
small_chain() { # over|between
    local size=${DMCHAIN_BENCH_SIZE:-100G} clusters=${DMCHAIN_BENCH_CLUSTERS:-32768} shift=0
    [ "$1" = over ] || shift=25
    written_to() { # IMAGE FIRST STEP PATTERN
        awk -v n="$clusters" -v first="$2" -v step="$3" -v pattern="$4" 'BEGIN {
            for (i = 0; i < n; i += step) print "write -q -P " pattern " " ((i * 10007 % n) * 50 + first) * 64 "k 64k" }' |
            qemu-io -f qcow2 "$1" >"$work/said"
    }
    rm -rf "$work/chain"
    mkdir "$work/chain"
    (
        cd "$work/chain" || exit
        # Only of layers that dmchain made, --prune gives something back.
        qemu-img create -q -f qcow2 empty.qcow2 "$size"
        qemu-img create -q -f qcow2 -b empty.qcow2 -F qcow2 base.qcow2
        written_to base.qcow2 0 1 1
        "$DMCHAIN_BIN/dmchain" compact base.qcow2 --range 0..1 --by new-file >"$work/said"
        qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 small.qcow2
        written_to small.qcow2 $shift 2 2
        qemu-img create -q -f qcow2 -b small.qcow2 -F qcow2 top.qcow2
    )
}

# The same with QEMU. What is on top stands on the base then.
commit_small() {
    qemu-img commit -q -d -f qcow2 "$work/copy/small.qcow2"
    qemu-img rebase -u -f qcow2 -b base.qcow2 -F qcow2 "$work/copy/top.qcow2"
    rm "$work/copy/small.qcow2"
}

used() { du -s --block-size=1 "$work/copy" | cut -f1; }

small-into-large() {
    local layout way r before at sampler self=$BASHPID
    written() { awk '/^wchar/ { print $2 }' "/proc/$self/io"; } # bytes, by this shell and all that it has waited for
    local -A command=(
        [in-place]="$DMCHAIN_BIN/dmchain compact $work/copy/top.qcow2 --range 0..1 --by in-place"
        [prune]="$DMCHAIN_BIN/dmchain compact $work/copy/top.qcow2 --prune"
        [qemu-commit]=commit_small)
    for layout in over between; do
        note "small-into-large: $layout"
        small_chain $layout
        rm -f "$work"/t-*
        for ((r = 0; r < rounds; r++)); do
            for way in in-place prune qemu-commit; do
                [ $way != prune ] || [ $layout = over ] || continue
                rm -rf "$work/copy"
                cp -r --sparse=always "$work/chain" "$work/copy"
                sync -f "$work"
                used >"$work/space"
                before=$(head -n 1 "$work/space")
                (while :; do used >>"$work/space" && sleep 0.02; done 2>/dev/null) &
                sampler=$!
                at=$(written)
                # shellcheck disable=SC2086
                took ${command[$way]} >"$work/seconds"
                at=$(($(written) - at))
                kill $sampler
                wait $sampler || true
                used >>"$work/space"
                echo "$(cat "$work/seconds") $at $(($(sort -n "$work/space" | tail -n 1) - before)) $(($(tail -n 1 "$work/space") - before))" >>"$work/t-$way"
                [ $r != 0 ] || [ $way = qemu-commit ] || qemu-img compare -q -f qcow2 -F qcow2 "$work/chain/top.qcow2" "$work/copy/top.qcow2" || die "$way: other data"
            done
        done
        for way in in-place prune qemu-commit; do
            [ -e "$work/t-$way" ] || continue
            say "$(jq -cn --arg l $layout --arg w $way --argjson s "$(cut -d' ' -f1 "$work/t-$way" | median)" \
                --argjson b "$(cut -d' ' -f2 "$work/t-$way" | median)" --argjson p "$(cut -d' ' -f3 "$work/t-$way" | median)" \
                --argjson e "$(cut -d' ' -f4 "$work/t-$way" | median)" \
                '{test: "small-into-large", layout: $l, way: $w, seconds: $s, written_bytes: $b, peak_bytes: $p, end_bytes: $e}')"
        done
    done
    rm -rf "$work/chain" "$work/copy"
}
