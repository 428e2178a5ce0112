# shellcheck shell=bash
# What comes from Debian: packages of this machine's release, and root filesystems of a newer one for Valkey and etcd.

PACKAGES=(containerd runc containernetworking-plugins nftables conntrack iproute2 e2fsprogs iptables socat buildah mmdebstrap
    debian-archive-keyring busybox-static openssl procps util-linux jq protobuf-compiler libprotobuf-dev
    gcc g++ libc6-dev python3-venv)

install_packages() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    quietly apt_get update
    quietly apt_get install -y --no-install-recommends "${missing[@]}"
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

# What the official images hold besides the program itself: a shell and the everyday tools.
rootfs_packages() {
    case $1 in
        valkey) echo base-files,libc6,dash,coreutils,sed,grep,hostname,valkey-server,valkey-tools ;;
        etcd) echo base-files,libc6,dash,coreutils,etcd-server,etcd-client ;;
        # A proxy to compare ours with.
        nutcracker) echo base-files,libc6,nutcracker ;;
        # The base of our own image: the C library, and what a TLS client and a shell-less process need.
        base) echo base-files,libc6,libgcc-s1,ca-certificates ;;
    esac
}

# rootfs NAME: prints the folder of that root filesystem, fetched when it is not there.
rootfs() {
    local packages
    packages=$(rootfs_packages "$1")
    part "rootfs-$1" "$(key "$DEBIAN_RELEASE" "$packages" "$(declare -f fetch_rootfs)")" fetch_rootfs "$packages"
}

fetch_rootfs() {
    local packages=$1 dir=$2
    # `extract` unpacks without running the packages' scripts, so nothing of the other release runs on this machine;
    # what those scripts would have made is made here.
    # From where this machine's own packages come.
    local mirror
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -1)
    quietly mmdebstrap --variant=extract --format=directory --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include="$packages" "$DEBIAN_RELEASE" "$dir/root" ${mirror:+"$mirror"}
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/:/usr/sbin/nologin' > "$dir/root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > "$dir/root/etc/group"
    [[ ! -e $dir/root/usr/bin/dash || -e $dir/root/usr/bin/sh ]] || ln -s dash "$dir/root/usr/bin/sh"
    if [[ -d $dir/root/usr/share/ca-certificates ]]; then
        mkdir -p "$dir/root/etc/ssl/certs"
        find "$dir/root/usr/share/ca-certificates" -name '*.crt' -exec cat {} + > "$dir/root/etc/ssl/certs/ca-certificates.crt"
    fi
    rm -rf "$dir"/root/usr/share/{doc,man,info,locale,lintian,bash-completion} "$dir"/root/var/lib/{apt,dpkg} "$dir"/root/dev/*
}

# install_rootfs valkey|etcd|nutcracker: its programs in the bin folder, run through their own C library so that they work on any release.
install_rootfs() {
    local name=$1 dir programs program want version
    dir=$(rootfs "$name")/root
    case $name in
        valkey) programs=(valkey-server valkey-cli valkey-benchmark) want=$VALKEY_VERSION ;;
        etcd) programs=(etcd etcdctl) want=$ETCD_VERSION ;;
        nutcracker) foreign_program "$dir" nutcracker; return ;;
    esac
    for program in "${programs[@]}"; do
        foreign_program "$dir" "$program"
    done
    # Not in a pipe: a reader that has seen enough would end the program, and that would count as a failure.
    version=$("${programs[0]}" --version)
    grep -qE "[ =v]$want\." <<< "$version" ||
        die "Debian $DEBIAN_RELEASE no longer holds $name $want but: ${version%%$'\n'*}; set its version in e2e/versions.env"
}

foreign_program() {
    local dir=$1 program=$2 loader path
    path=$(find "$dir"/usr/{bin,sbin} -name "$program" | head -1)
    loader=$(find "$dir/usr/lib" "$dir/usr/lib64" -maxdepth 2 -name 'ld-linux*.so.*' 2> /dev/null | head -1)
    mkdir -p "$BIN"
    cat > "$BIN/.$program.$$" << SCRIPT
#!/bin/sh
exec $(printf %q "$loader") --library-path $(printf %q "$(dirname "$(find "$dir/usr/lib" -name libc.so.6 | head -1)")") --argv0 $program $(printf %q "$path") "\$@"
SCRIPT
    chmod +x "$BIN/.$program.$$"
    mv "$BIN/.$program.$$" "$BIN/$program"
}
