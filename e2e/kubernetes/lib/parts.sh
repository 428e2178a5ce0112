# shellcheck shell=bash
# The cache of built parts: $CACHE/parts/NAME-KEY, complete or not there at all.

# key WORDS... FILES...: a short hash of the words, and of the contents of those that are files.
key() {
    local word
    for word in "$@"; do
        if [[ -f $word ]]; then sha256sum < "$word"; else printf '%s\n' "$word"; fi
    done | sha256sum | cut -c1-16
}

# part NAME KEY BUILDER [ARGS...]: runs `BUILDER ARGS... FOLDER` unless that part is there, and prints the part's folder.
# It is built beside and renamed, so an interrupted build is never taken for a whole one; parts of other keys are removed.
part() { locked "$CACHE/locks/$1" build_part "$@"; }

build_part() {
    local name=$1 dir=$CACHE/parts/$1-$2 new=$CACHE/parts/.new-$1 other
    shift 2
    if [[ ! -d $dir ]]; then
        rm -rf "$new"
        mkdir -p "$new"
        "$@" "$new" >&2
        mv "$new" "$dir"
        for other in "$CACHE/parts/$name"-*; do
            [[ $other == "$dir" ]] || rm -rf "$other"
        done
    fi
    echo "$dir"
}

# link NAME TARGET: the program NAME in the cache's bin folder is TARGET.
link() {
    mkdir -p "$BIN"
    ln -sfn "$2" "$BIN/.$1.$$"
    mv -T "$BIN/.$1.$$" "$BIN/$1"
}
