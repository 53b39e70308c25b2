# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# A Ceph cluster of this machine alone: one monitor, three disks that are sparse files, no authentication, on the loopback
# interface. Sourced after tests/vm/common.sh, with $work, a folder for its files.

export CEPH_CONF=$work/ceph/ceph.conf
ceph_pids=()
ceph_in_time() { timeout 60 ceph "$@" >"$work/ceph/said" 2>&1 || die "ceph $*: $(cat "$work/ceph/said")"; }

end_ceph() {
    [ ${#ceph_pids[@]} = 0 ] || kill -KILL "${ceph_pids[@]}" 2>/dev/null || true
    ceph_pids=()
}

# start_osd NUMBER: its process goes to osd_pid[NUMBER].
start_osd() {
    ceph-osd -f -i "$1" >"$work/ceph/osd.$1.out" 2>&1 9>&- &
    osd_pid[$1]=$!
    ceph_pids+=($!)
}

start_ceph() {
    local fsid osd uuid program
    for program in ceph ceph-mon ceph-osd monmaptool; do
        command -v $program >/dev/null || die "$program is missing: apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common librados2"
    done
    fsid=$(cat /proc/sys/kernel/random/uuid)
    mkdir -p "$work/ceph"/{mon,osd,run}
    cat >"$CEPH_CONF" <<END
[global]
fsid = $fsid
mon_host = v2:127.0.0.1:${ceph_port:-13300}
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = $work/ceph/run
admin_socket = $work/ceph/run/\$cluster-\$name.\$pid.asok
log_file = $work/ceph/\$name.log
pid_file =
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 3
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
mon_data = $work/ceph/mon/\$id
osd_data = $work/ceph/osd/\$id
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = 4294967296
osd_memory_target = 939524096
osd_heartbeat_interval = 1
osd_heartbeat_grace = 5
mon_osd_adjust_heartbeat_grace = false
mon_osd_min_down_reporters = 1
mon_osd_report_timeout = 15
rados_osd_op_timeout = 3
END
    monmaptool --create --addv a "[v2:127.0.0.1:${ceph_port:-13300}]" --fsid "$fsid" "$work/ceph/monmap" >"$work/ceph/said" 2>&1 ||
        die "monmaptool: $(cat "$work/ceph/said")"
    mkdir -p "$work/ceph/mon/a"
    ceph-mon --mkfs -i a --monmap "$work/ceph/monmap" >"$work/ceph/said" 2>&1 || die "ceph-mon --mkfs: $(cat "$work/ceph/said")"
    ceph-mon -f -i a >"$work/ceph/mon.out" 2>&1 9>&- &
    ceph_pids+=($!)
    ceph_in_time -s
    for osd in 0 1 2; do
        uuid=$(cat /proc/sys/kernel/random/uuid)
        ceph_in_time osd new "$uuid"
        mkdir -p "$work/ceph/osd/$osd"
        ceph-osd --mkfs -i $osd --osd-uuid "$uuid" >"$work/ceph/said" 2>&1 || die "ceph-osd --mkfs: $(tail -n 5 "$work/ceph/said")"
        start_osd $osd
    done
    wait_for_osds 3
}

# wait_for_osds NUMBER: so many are up.
wait_for_osds() {
    local i
    for ((i = 0; i < 120; i++)); do
        [ "$(timeout 60 ceph osd stat --format json 2>/dev/null | jq .num_up_osds)" != "$1" ] || return 0
        sleep 0.5
    done
    die "Ceph: $(timeout 60 ceph osd stat), expected $1 up: $(tail -n 5 "$work"/ceph/osd.*.out)"
}

# make_pool NAME SIZE
make_pool() {
    ceph_in_time osd pool create "$1" 16 16
    ceph_in_time osd pool set "$1" size "$2" --yes-i-really-mean-it
    ceph_in_time osd pool set "$1" min_size 1
}
