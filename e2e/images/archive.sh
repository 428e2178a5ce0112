# shellcheck shell=bash
# A docker-archive written by hand: one layer, its configuration, and a manifest that names both. (Format: the "image.md"
# specification of the Docker image format, version 1.2, as `docker load` takes it.)

# archive TAG ROOT CONFIG FILE: the folder ROOT as an image of that name; CONFIG is the JSON of what a container runs by default.
archive() {
    local tag=$1 root=$2 config=$3 file=$4 dir digest
    dir=$(mktemp -d "$file.XXXXXX")
    # Same folder, same bytes: no times, no owners of this machine.
    tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$dir/layer.tar" .
    digest=$(sha256sum < "$dir/layer.tar" | cut -d' ' -f1)
    jq -n --arg arch "$(image_architecture)" --arg digest "sha256:$digest" --argjson config "$config" \
        '{architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z", config: $config, rootfs: {type: "layers", diff_ids: [$digest]}}' > "$dir/config.json"
    jq -n --arg tag "$tag" '[{Config: "config.json", RepoTags: [$tag], Layers: ["layer.tar"]}]' > "$dir/manifest.json"
    tar -C "$dir" -cf "$file" manifest.json config.json layer.tar
    rm -r "$dir"
}

image_architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) die "no image architecture is known for $(uname -m)" ;;
    esac
}
