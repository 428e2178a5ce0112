# shellcheck shell=bash
# keep NAME CMD...: runs CMD in the background, its output in the log NAME, and again a second after it ended.
keep() {
    local log=${KEEP_LOGS:-$LOGS}/$1.log
    shift
    (
        set +e
        while :; do
            "$@"
            echo "e2e: ended with $?, starts again in 1 s: $1"
            sleep 1
        done
    ) >> "$log" 2>&1 < /dev/null &
}

# What process 1 of a namespace does: wait for every child, its own and orphans.
reap() {
    set +e
    while :; do wait; sleep 1; done
}
