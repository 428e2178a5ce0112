# shellcheck shell=bash
# up, down, status.

cluster_up() {
    local nodes=3 grace=40s started
    started=$(now_ms)
    while (($#)); do
        case $1 in
            --nodes) nodes=${2:-}; shift 2 || usage ;;
            --grace) grace=${2:-}; shift 2 || usage ;;
            *) usage ;;
        esac
    done
    [[ $nodes =~ ^[1-9][0-9]?$ && $nodes -le 64 ]] || die "--nodes must be a number from 1 to 64, not '$nodes'"
    [[ $grace =~ ^[1-9][0-9]*s$ && ${grace%s} -ge 4 ]] || die "--grace must be whole seconds such as 40s, 4s or more, not '$grace'"
    if is_ready; then
        say "already up: $(cat "$STATE/url"), state in $STATE"
        return
    fi
    # Left over from a start that was interrupted, or from before a reboot.
    cluster_down
    images_ready
    mkdir -p "$LOGS" "$STATE/keys" "$STATE/nodes"
    echo "$grace" > "$STATE/grace"
    # When anything below fails the logs stay, the processes do not.
    trap 'end_processes; say "the cluster did not start; its logs are in $LOGS"' EXIT

    timed "control plane" start_control_plane "$nodes"
    timed "$nodes nodes" start_nodes "$nodes"
    trap - EXIT
    touch "$STATE/ready"
    say "up in $((($(now_ms) - started) / 1000)) s: $(cat "$STATE/url"), export KUBECONFIG=$STATE/kubeconfig"
}

# While the control plane comes up, the disks of its nodes are made.
start_control_plane() {
    # Its own session: neither the terminal's signals nor its end reach the cluster.
    setsid "$E2E/kubernetes/inside/supervise" > "$LOGS/supervise.log" 2>&1 < /dev/null &
    disown # or this shell would announce its end
    await 30 "the cluster's init" "$LOGS/supervise.log" test -e "$STATE/url"
    # shellcheck disable=SC2046
    make_disks $(seq "$1")
    await 60 "the API server" "$LOGS/kube-apiserver.log" test -e "$STATE/api-ready"
}

start_nodes() {
    local n since
    since=$(date -u +%FT%TZ)
    for n in $(seq "$1"); do power_on "$n"; done
    # Straight to the server: objects this plain need no look at its schemas first.
    quietly kubectl create --validate=false -f "$E2E/kubernetes/manifests"
    quietly kubectl create --validate=false -f <(for n in $(seq "$1"); do volume_objects "$n"; done)
    for n in $(seq "$1"); do await_node "$n" "$since"; done
    quietly kubectl -n kube-system wait --for=condition=Available --timeout=60s deployment/coredns
}

# The processes only: the state folder stays.
end_processes() {
    if is_up; then
        cgroup_thaw_all
        kill -KILL "$(init_pid)" 2> /dev/null || true
        await 20 "the end of the cluster's init" "$LOGS/supervise.log" is_down
    fi
    cgroup_remove
}

is_down() { ! is_up; }

cluster_down() {
    end_processes
    # Those of its processes that live outside its namespaces hold this lock, and end by themselves once the others have.
    [[ ! -e $STATE/outside.lock ]] || flock --timeout 20 "$STATE/outside.lock" true ||
        die "the cluster's supervisor does not end; see $LOGS/supervise.log"
    rm -rf --one-file-system "$STATE"
}

cluster_status() {
    local n
    if ! is_ready; then
        echo "down (state folder: $STATE)"
        exit 3
    fi
    echo "up: $(cat "$STATE/url"), state in $STATE"
    for n in $(node_numbers); do printf 'node%-3s %s\n' "$n" "$(node_state "$n")"; done
    kubectl get nodes -o wide
}
