# shellcheck shell=bash
# Images in the cache ($CACHE/images/NAME.tar, with NAME.key beside it), and containerd roots that hold them.

IMAGES=$CACHE/images

# For a cluster to start: its own images, and those of Valkey and etcd.
images_ready() {
    local program
    for program in kubelet coredns etcd; do
        [[ -x $BIN/$program ]] || die "$program is not in $BIN; run: e2e/tools install"
    done
    "$E2E/images/build" pause coredns valkey etcd
}

# make_disks N...: gives each of those nodes a disk whose containerd holds every image of the cache.
#
# The images are unpacked once, into a template. A node's copy consists of hard links: layers are never written to (overlayfs puts changes
# elsewhere), only containerd's two databases are. Locked, so that a newer template does not replace it meanwhile.
make_disks() { locked "$CACHE/locks/containerd" make_disks_locked "$@"; }

make_disks_locked() {
    local common all n
    common=$(part containerd-common "$(images_key pause coredns valkey etcd)" import_common)
    all=$(part containerd-all "$(key "$common" "$(images_key)")" import_all "$common")
    for n in "$@"; do
        mkdir -p "$STATE/nodes/$n/disk"
        [[ -d $STATE/nodes/$n/disk/containerd ]] || copy_containerd "$all/root" "$STATE/nodes/$n/disk/containerd"
    done
}

# images_key [NAME...]: changes when one of these images does, or (without names) when any does.
images_key() {
    local name names=("$@")
    (($#)) || mapfile -t names < <(find "$IMAGES" -maxdepth 1 -name '[!.]*.tar' -printf '%f\n' | sed 's/\.tar$//' | sort)
    key "$(for name in "${names[@]}"; do key "$name" "$IMAGES/$name.key"; done)"
}

import_common() { import_offline "$1/root" "$IMAGES"/{pause,coredns,valkey,etcd}.tar; }

import_all() {
    local common=$1 dir=$2 tar others=()
    copy_containerd "$common/root" "$dir/root"
    for tar in "$IMAGES"/*.tar; do
        case ${tar##*/} in
            pause.tar | coredns.tar | valkey.tar | etcd.tar) ;;
            *) others+=("$tar") ;;
        esac
    done
    ((${#others[@]} == 0)) || import_offline "$dir/root" "${others[@]}"
}

# copy_containerd FROM TO
copy_containerd() {
    local database
    # Links don't go from one file system to another: there, copy.
    cp -al "$1" "$2" 2> /dev/null || { rm -rf "$2" && cp -a "$1" "$2"; }
    find "$2" -maxdepth 2 -name '*.db' -print0 | while IFS= read -r -d '' database; do
        cp --remove-destination "$1/${database#"$2"/}" "$database"
    done
}

# import_offline ROOT TAR...: unpacks images into a containerd root that no node uses, in namespaces of its own.
import_offline() {
    unshare --mount --net --pid --fork --kill-child --mount-proc "$E2E/kubernetes/inside/import" "$@"
}

# import_images SOCKET TAR...
import_images() {
    local socket=$1 tar
    shift
    for tar in "$@"; do
        [[ -f $tar ]] || die "$tar: no such image file"
        quietly ctr --address "$socket" --namespace k8s.io images import --all-platforms "$tar"
    done
}
