# shellcheck shell=bash
# Nodes as seen from the machine: power, freezing, network.

node_command() {
    local verb=${1:-} n=${2:-}
    [[ $n =~ ^[1-9][0-9]?$ ]] || usage
    shift 2
    case $verb in
        start | kill | pause | resume | cut | heal | disk) ;;
        *) usage ;;
    esac
    [[ -d $STATE/nodes/$n || $verb == start ]] || die "there is no node $n; nodes: $(node_numbers | xargs)"
    "node_$verb" "$n" "$@"
}

node_numbers() { find "$STATE/nodes" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n; }

node_state() {
    local n=$1
    if ! is_on "$n"; then
        echo "powered off"
    else
        echo "on$(cgroup_is_frozen "node$n" && echo ", paused")$(inside nft list table netdev "cut$n" > /dev/null 2>&1 && echo ", cut")"
    fi
}

is_on() { [[ -e $STATE/nodes/$1/pid ]]; }

# Starts the node's processes and returns at once.
power_on() {
    local n=$1
    mkdir -p "$LOGS/node$n"
    cgroup_remove "node$n"
    cgroup_make "node$n"
    local init
    init=$(init_pid)
    exec 8> "$STATE/outside.lock"
    flock --shared 8
    setsid nsenter --target "$init" --mount --pid --net="/proc/$init/root/run/netns/control" --wd=/ \
        "$E2E/kubernetes/inside/power-on" "$n" > "$LOGS/node$n/init.log" 2>&1 < /dev/null &
    disown # or this shell would announce its end
    exec 8>&-
    await 30 "the init of node $n" "$LOGS/node$n/init.log" is_on "$n"
}

# await_node N SINCE: it reported itself Ready at or after that time. (Just after a power cut, what the API server holds is the
# report of before.)
await_node() { await 120 "node$1 becoming Ready" "$LOGS/node$1/kubelet.log" is_node_ready "$1" "$2"; }

is_node_ready() {
    local status heartbeat
    # shellcheck disable=SC2016
    read -r status heartbeat < <(kubectl get node "node$1" -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{"\n"}{end}')
    [[ $status == True && ! $heartbeat < $2 ]]
}

node_start() {
    local n=$1 since
    if is_on "$n"; then
        say "node $n is on"
        return
    fi
    if [[ ! -d $STATE/nodes/$n ]]; then
        make_disks "$n"
        quietly kubectl create -f <(volume_objects "$n")
    fi
    since=$(date -u +%FT%TZ)
    power_on "$n"
    await_node "$n" "$since"
}

node_kill() {
    local n=$1
    if ! is_on "$n"; then
        say "node $n is powered off"
        return
    fi
    # First its link: in a power cut nobody gets a last packet, and dying processes would say goodbye.
    inside ip link delete "veth$n"
    inside nft delete table netdev "cut$n" 2> /dev/null || true
    inside kill -KILL "$(cat "$STATE/nodes/$n/pid")"
    # Had it been frozen, its processes die only now.
    cgroup_thaw "node$n"
    await 30 "the end of node $n" "$LOGS/node$n/init.log" is_off "$n"
    cgroup_remove "node$n"
}

is_off() { ! is_on "$1"; }

require_on() { is_on "$1" || die "node $1 is powered off; start it with: e2e/cluster node start $1"; }

node_pause() { require_on "$1"; cgroup_freeze "node$1"; }
node_resume() { require_on "$1"; cgroup_thaw "node$1"; }

# The node's port on the bridge drops what comes in, what goes out, or both. The link stays up: the node is told nothing.
node_cut() {
    local n=$1 direction=${2:-} rules="add table netdev cut$1; delete table netdev cut$1; add table netdev cut$1"
    local chain="type filter hook %s device veth$n priority 0; policy drop;" from to
    require_on "$n"
    # As seen from the bridge: what the node sends is ingress.
    # shellcheck disable=SC2059
    from="add chain netdev cut$n from_node { $(printf "$chain" ingress) }" to="add chain netdev cut$n to_node { $(printf "$chain" egress) }"
    case $direction in
        '') inside nft "$rules; $from; $to" ;;
        --in) inside nft "$rules; $to" ;;
        --out) inside nft "$rules; $from" ;;
        *) usage ;;
    esac
}

node_heal() {
    require_on "$1"
    inside nft "add table netdev cut$1; delete table netdev cut$1"
}

# A disk of its own with so many MiB, which can be filled without harm to anything else, at /run/e2e/disk/NAME of the node until it
# is switched off.
node_disk() {
    local n=$1 name=${2:-} size=${3:-}
    [[ $name =~ ^[a-z0-9-]+$ && $size =~ ^[1-9][0-9]*$ ]] || usage
    require_on "$n"
    local image=$STATE/nodes/$n/$name.img
    truncate --size="${size}M" "$image"
    quietly mkfs.ext4 -q -m 0 "$image"
    # Through the node's mounts, in which its pods' begin.
    quietly inside nsenter --target "$(cat "$STATE/nodes/$n/pid")" --mount --wd=/ \
        sh -c "mkdir -p /run/e2e/disk/$name && mount -o loop '$image' /run/e2e/disk/$name && chmod 777 /run/e2e/disk/$name"
}

# load_images TAR...: gives them to every node that is on.
load_images() {
    local n tar
    (($#)) || usage
    for tar in "$@"; do
        [[ -f $tar ]] || die "$tar: no such image file"
    done
    for n in $(node_numbers); do
        is_on "$n" || continue
        for tar in "$@"; do load_image "$n" "$tar"; done
    done
}

load_image() {
    # Through the node's mounts, where containerd's socket is; the file is seen there as it is here.
    quietly inside nsenter --target "$(cat "$STATE/nodes/$1/pid")" --mount \
        ctr --address /run/containerd/containerd.sock --namespace k8s.io images import "$(realpath "$2")"
}

# What was built since the node got its images.
load_changed_images() {
    local n key name
    for n in $(node_numbers); do
        is_on "$n" || continue
        for key in "$IMAGES"/*.key; do
            name=${key##*/} name=${name%.key}
            cmp --silent "$key" "$STATE/nodes/$n/images/$name.key" || {
                timed "image $name to node $n" load_image "$n" "$IMAGES/$name.tar"
                cp "$key" "$STATE/nodes/$n/images/"
            }
        done
    done
}
