# shellcheck shell=bash
# Our own image: the last stage of the Dockerfile, as a user's build runs it, on a base made of Debian packages and with the programs of
# this working copy.

readonly PROGRAMS=(codis-operator codis-dashboard codis-proxy)

# own_image DIR: from the programs in that folder.
own_image() {
    local binaries=$1 program base
    for program in "${PROGRAMS[@]}"; do
        [[ -x $binaries/$program ]] || die "$binaries/$program is not there; run: cargo build --bins"
    done
    base=$(rootfs base)/root
    image codis-operator "$(key "$E2E/../Dockerfile" "${PROGRAMS[@]/#/$binaries/}" "$base" "$(declare -f build_own_image)")" build_own_image "$binaries" "$base"
}

build_own_image() {
    local binaries=$1 base=$2 file=$3 work
    # All of buildah's own state is here and goes with it; only the image stays.
    work=$(mktemp -d "$file.XXXXXX")
    mkdir -p "$work/context/programs"
    for program in "${PROGRAMS[@]}"; do
        strip -o "$work/context/programs/$program" "$binaries/$program"
    done
    archive localhost/base "$base" '{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}' "$work/base.tar"
    local buildah=(buildah --storage-driver vfs --root "$work/store" --runroot "$work/run")
    # The folder stands in for the stage of the same name, which compiles.
    quietly "${buildah[@]}" build --isolation chroot --layers=false --timestamp 0 --build-context programs="$work/context" \
        --build-arg BASE="docker-archive:$work/base.tar" --tag codis-operator/codis-operator:0.1.0 --file "$E2E/../Dockerfile" "$work/context"
    quietly "${buildah[@]}" push codis-operator/codis-operator:0.1.0 "docker-archive:$file:docker.io/codis-operator/codis-operator:0.1.0"
    rm -rf "$work"
}
