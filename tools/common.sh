# Shared by the scripts in tools/: where things are and how they speak. Source it, do not run it.
# Every line a person should read starts with "torc:"; what a command prints goes to a log instead.

set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LOGS=$TOP/build/logs

say() { printf 'torc: %s\n' "$*"; }
die() { printf 'torc: error: %s\n' "$*" >&2; exit 1; }

# logged NAME COMMAND...: run it with its output in a log; show the end of the log if it fails.
logged() {
    local log=$LOGS/$1.log
    shift
    mkdir -p "$LOGS"
    if ! "$@" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        die "'$*' failed; all of its output is in $log"
    fi
}

# seconds since $1, which is a value of $EPOCHREALTIME, with one digit behind the point
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }
