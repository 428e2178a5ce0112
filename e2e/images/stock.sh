# shellcheck shell=bash
# Images of software that is not ours, from Debian packages or from the programs in the cache, under the names that manifests use.

stock_pause() { image pause "$(key /bin/busybox "$(declare -f build_pause)")" build_pause; }

# Holds a pod's network for as long as the pod lives: a program that sleeps.
build_pause() {
    local root=$1.root
    rm -rf "$root"
    mkdir -p "$root"
    cp /bin/busybox "$root/busybox"
    archive localhost/pause:1 "$root" '{"Entrypoint": ["/busybox", "sleep", "2147483647"]}' "$1"
    rm -r "$root"
}

stock_coredns() { image coredns "$(key "$BIN/coredns" "$(declare -f build_coredns_image)")" build_coredns_image; }

build_coredns_image() {
    local root=$1.root
    rm -rf "$root"
    mkdir -p "$root"
    cp --dereference "$BIN/coredns" "$root/coredns"
    archive localhost/coredns:1 "$root" '{"Entrypoint": ["/coredns"]}' "$1"
    rm -r "$root"
}

stock_valkey() { stock_rootfs valkey valkey/valkey:8.1 '{"Cmd": ["valkey-server"], "WorkingDir": "/data"}'; }
stock_etcd() { stock_rootfs etcd quay.io/coreos/etcd:v3.5.16 '{"Cmd": ["etcd"]}'; }

# stock_rootfs NAME TAG CONFIG: what `e2e/tools install` fetched from Debian.
stock_rootfs() {
    local root
    root=$(rootfs "$1")/root
    image "$1" "$(key "$@" "$root" "$(declare -f build_rootfs_image)")" build_rootfs_image "$2" "$root" \
        "$(jq -n --argjson config "$3" '$config + {Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}')"
}

build_rootfs_image() {
    local tag=$1 root=$2 config=$3 file=$4
    mkdir -p "$root/data"
    chmod 1777 "$root/data"
    archive "$tag" "$root" "$config" "$file"
}
