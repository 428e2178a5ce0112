# shellcheck shell=bash
# One folder holds all that a cluster is: its disks, keys, logs and process ids.

use_state() {
    mkdir -p "$(dirname "$1")"
    STATE=$(realpath -m "$1")
    # The cluster's own /run hides the machine's.
    [[ $STATE/ != /run/* ]] || die "the state folder $STATE must not be in /run"
    # Names in the one place that is shared with other clusters (control groups) are made unique by the folder's path.
    CLUSTER=codis-e2e-$(key "$STATE")
    LOGS=$STATE/logs
    export STATE CLUSTER LOGS
}

# exclusively CMD...: commands that change this cluster run one at a time.
exclusively() { locked "$CACHE/locks/$CLUSTER" "$@"; }

# The cluster's init holds a lock on this file for as long as it lives. So neither a stale process id nor a reboot can be
# mistaken for a running cluster.
is_up() { [[ -e $STATE/alive ]] && ! flock --nonblock --shared "$STATE/alive" true; }

is_ready() { is_up && [[ -e $STATE/ready ]]; }

require_up() { is_ready || die "this cluster is not up; start it with: e2e/cluster${CODIS_E2E_STATE:+ --state $STATE} up"; }

init_pid() { cat "$STATE/init.pid"; }

# Runs CMD in the cluster's namespaces: its processes, mounts and network (that of the control plane).
inside() {
    local init
    init=$(init_pid)
    nsenter --target "$init" --mount --pid --net="/proc/$init/root/run/netns/control" --wd=/ "$@"
}

# Runs CMD on this machine's files and processes but in the cluster's network, where pods answer by their IPs.
inside_network() {
    local init
    init=$(init_pid)
    KUBECONFIG=$STATE/keys/admin.conf exec nsenter --net="/proc/$init/root/run/netns/control" "$@"
}

kubectl() { "$BIN/kubectl" --kubeconfig "$STATE/kubeconfig" "$@"; }
