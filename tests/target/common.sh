# SPDX-License-Identifier: GPL-2.0-or-later
# For the tests of the target, which run inside a test machine: sourced after "set -euo pipefail".
export DM_DISABLE_UDEV=1
failures=0
DMCHAIN=${DMCHAIN_BIN:?the folder with the built programs}/dmchain

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# Kernel messages since the last call.
log_mark() { log_lines=$(dmesg | wc -l); }
log_since() { dmesg | tail -n +$((log_lines + 1)); }

dm() { dmsetup --noudevsync --noudevrules "$@"; }

# Of the device vm: a field of its status by its number (docs/target.md), after start, length and name.
field() { dmsetup status vm | cut -d' ' -f$((3 + $1)); }
mode() { field 5; }
is_mode() { [ "$(mode)" = "$1" ]; }
depth() { field 3; }
exchange() { dmsetup status vm | awk '{ print $NF }'; }
exchanged() { [[ $(exchange) =~ ^(done|failed): ]]; } # it has ended

# within SECONDS COMMAND...: it becomes true in that time
within() {
    local n=$(($1 * 5))
    shift
    while ! "$@"; do
        [ $((n--)) -gt 0 ] || return 1
        sleep 0.2
    done
}

# The table line must be refused: refused NAME "TABLE LINE" "text in the kernel log"
refused() {
    log_mark
    if dm create --readonly x --table "$2" 2>/dev/null; then
        fail "$1: the table '$2' was accepted"
        dm remove x
    fi
    dmsetup info x >/dev/null 2>&1 && dm remove x
    grep -qF -- "$3" <(log_since) || fail "$1: no '$3' in the log: $(log_since)"
}

finish() {
    [ $failures = 0 ] || { echo "$failures failures"; exit 1; }
    echo "all well"
}
