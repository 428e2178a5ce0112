# shellcheck shell=bash
# Shared by the scripts in e2e/: where things are kept, and how to say, time, lock and await.

# A failure inside $(...) is a failure too. (`set -e` is off inside whatever stands before || or &&: keep functions out of there.)
set -euo pipefail
shopt -s inherit_errexit

. "$E2E/versions.env"
CACHE=${CODIS_CACHE:-$HOME/.cache/codis-operator}
BIN=$CACHE/bin
export CODIS_CACHE=$CACHE
export PATH="$BIN:$PATH"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A moment, in milliseconds.
now_ms() { local t=$EPOCHREALTIME; echo $((${t/[.,]/} / 1000)); }

# timed WHAT CMD...: runs it, then prints one line with the seconds it took.
timed() {
    local what=$1 start took
    shift
    start=$(now_ms)
    "$@"
    took=$(($(now_ms) - start))
    printf '%-46s %4d.%d s\n' "$what" $((took / 1000)) $((took % 1000 / 100)) >&2
}

# quietly CMD...: shows what CMD said only if it fails.
quietly() {
    local said
    said=$("$@" 2>&1) || { say "$said"; die "this failed: $*"; }
}

# locked FILE CMD...: one at a time over all processes; whoever comes second waits, then finds the work done.
locked() {
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    (
        exec 9>"$file"
        flock 9
        # Not inherited: a process left running by CMD must not keep the lock.
        "$@" 9>&-
    )
}

# await SECONDS WHAT LOG CMD...: polls until CMD succeeds; past the deadline says what did not happen and which log tells why.
await() {
    local seconds=$1 what=$2 log=$3 deadline
    shift 3
    deadline=$(($(now_ms) + seconds * 1000))
    until "$@" > /dev/null 2>&1; do
        (($(now_ms) < deadline)) || { say "error: $what did not come within $seconds s; see $log"; return 1; }
        sleep 0.05
    done
}
