# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# qemu-storage-daemon, driven by QMP, one at a time. For the parts of the benchmark that have QEMU for a peer. Sourced after
# "set -euo pipefail".

# start_daemon OPTIONS...
start_daemon() {
    coproc daemon { exec qemu-storage-daemon --chardev stdio,id=m --monitor m "$@"; }
    # shellcheck disable=SC2154
    daemon_pid=$daemon_PID qmp_out=${daemon[0]} qmp_in=${daemon[1]} qmp_events=
    ask qmp_capabilities ''
}
stop_daemon() {
    # It may end without an answer.
    printf '{"execute": "quit"}\n' >&"$qmp_in"
    wait "$daemon_pid"
}

# ask COMMAND ARGUMENTS: the answer is in $answer; ends the script if it is an error.
ask() {
    printf '{"execute": "%s", "arguments": {%s}}\n' "$1" "$2" >&"$qmp_in"
    while read -r answer <&"$qmp_out"; do
        case $answer in
        *'"return"'*) return ;;
        *'"event"'*) qmp_events+=$answer$'\n' ;;
        *'"error"'*) break ;;
        esac
    done
    echo "qemu-storage-daemon: $1: ${answer:-ended}" >&2
    return 1
}

# node_of FILE: the name of the node of this qcow2 file, whatever its folder, is in $node.
node_of() {
    ask query-named-block-nodes '"flat": true'
    node=$(jq -r --arg f "$1" '.return[] | select(.drv == "qcow2" and (.file | sub(".*/"; "")) == $f) | ."node-name"' <<<"$answer")
}

# job COMMAND ARGUMENTS: a block job, until it has ended.
job() {
    qmp_events=
    ask "$1" '"job-id": "job", '"$2"
    while [[ $qmp_events != *BLOCK_JOB_COMPLETED* ]]; do
        read -r answer <&"$qmp_out" || break
        qmp_events+=$answer$'\n'
    done
    [[ $qmp_events == *BLOCK_JOB_COMPLETED* && $qmp_events != *'"error":'* ]] || { echo "qemu-storage-daemon: $1: $qmp_events" >&2; return 1; }
}
