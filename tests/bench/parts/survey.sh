# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154
# What 'dmchain survey' takes, beside QEMU. Sourced by tests/bench/run.

# What 'dmchain survey' takes for chains of 1 to 1000 layers, beside QEMU's own way to look at each image; and for a fleet of
# as many chains that stand on all of it. The page cache is warm.
survey() {
    local layers=${DMCHAIN_BENCH_LAYERS:-1000} sample t0 i
    note "survey: $layers images"
    "$genchain" --deep "$layers" --size 256M --seed 1 --out "$work/chain" >/dev/null
    survey_one() { # NAME
        for ((i = 0; i < rounds; i++)); do
            /usr/bin/time -f '%e %M' -o "$work/time" "$DMCHAIN_BIN/dmchain" survey "$work/chain" >/dev/null
            cat "$work/time"
        done >"$work/times"
        say "$(jq -cn --arg t "$1" --argjson n "$(find "$work/chain" -name '*.qcow2' | wc -l)" \
            --argjson s "$(cut -d' ' -f1 "$work/times" | median)" --argjson k "$(cut -d' ' -f2 "$work/times" | median)" \
            '{test: $t, images: $n, seconds: $s, rss_bytes: ($k * 1024)}')"
    }
    survey_one survey
    note "survey: QEMU"
    # It opens all layers below an image for each: an image in each twentieth of the depths, times what that stands for.
    sample=$((layers < 20 ? layers : 20))
    t0=$(date +%s%N)
    for ((i = 0; i < sample; i++)); do
        qemu-img info --backing-chain "$work/chain/layer-$(((2 * i + 1) * (layers - 1) / sample / 2)).qcow2" >/dev/null
    done
    say "$(jq -cn --argjson n "$layers" --argjson m "$sample" --argjson ms $((($(date +%s%N) - t0) / 1000000)) \
        '{test: "qemu-img-info", images: $n, images_measured: $m, seconds: ($ms * $n / $m / 10 | round / 100)}')"
    note "survey: $layers chains of $layers layers"
    (
        cd "$work/chain" || exit
        qemu-img create -q -f qcow2 first 256M
        qemu-io -f qcow2 -c 'write -q 0 1M' -c 'write -q 100M 1M' first
        qemu-img rebase -u -f qcow2 -b top.qcow2 -F qcow2 first
        for ((i = 0; i < layers; i++)); do cp first "on-top-$i.qcow2"; done
        rm first
    )
    survey_one survey-shared
    rm -rf "$work/chain"
}
