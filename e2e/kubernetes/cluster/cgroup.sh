# shellcheck shell=bash
# Control groups: CLUSTER/nodeN/system for a node's own processes, CLUSTER/nodeN/pods for its pods.
#
# Version 1 (a hierarchy for each controller) and version 2 (one for all) are both handled.
# Tried on version 1 only; what version 2 needs is from the kernel's documentation and marked below.

readonly CGROUPS=/sys/fs/cgroup

cgroup_version() { [[ $(stat -fc %T "$CGROUPS") == cgroup2fs ]] && echo 2 || echo 1; }

# The hierarchies that nodes are given groups in.
cgroup_hierarchies() {
    local dir
    if [[ $(cgroup_version) == 2 ]]; then
        echo "$CGROUPS"
        return
    fi
    for dir in "$CGROUPS"/*; do
        # Links are other names of the same hierarchy; `tasks` exists in version 1 only, so a hybrid's "unified" is left alone.
        [[ -d $dir && ! -L $dir && -e $dir/tasks ]] && echo "$dir"
    done
    return 0
}

cgroup_make() {
    local node=$1 hierarchy part group
    while read -r hierarchy; do
        for part in "$CLUSTER" "$CLUSTER/$node" "$CLUSTER/$node/system" "$CLUSTER/$node/pods"; do
            group=$hierarchy/$part
            mkdir -p "$group"
            if [[ -e $group/cpuset.mems && $(cgroup_version) == 1 ]]; then
                # A new cpuset is empty, and an empty one takes no process.
                cat "$hierarchy/cpuset.cpus" > "$group/cpuset.cpus"
                cat "$hierarchy/cpuset.mems" > "$group/cpuset.mems"
            fi
        done
        # Version 2 (not tried): controllers reach a child only when its parent hands them down. The groups that do so hold no
        # processes themselves, hence system and pods side by side.
        if [[ $(cgroup_version) == 2 ]]; then
            for part in . "$CLUSTER" "$CLUSTER/$node" "$CLUSTER/$node/pods"; do
                local controller
                for controller in cpuset cpu io memory pids; do
                    echo "+$controller" > "$hierarchy/$part/cgroup.subtree_control" 2> /dev/null || true
                done
            done
        fi
    done < <(cgroup_hierarchies)
}

# Puts the calling shell, and what it starts, into the node's group of its own processes.
cgroup_join() {
    local node=$1 hierarchy
    while read -r hierarchy; do
        echo 0 > "$hierarchy/$CLUSTER/$node/system/cgroup.procs"
    done < <(cgroup_hierarchies)
}

# cgroup_freeze NODE | cgroup_thaw NODE: every process of the node, pods included, and await that it is so.
cgroup_freeze() {
    if [[ $(cgroup_version) == 2 ]]; then
        # Not tried.
        echo 1 > "$CGROUPS/$CLUSTER/$1/cgroup.freeze"
        await 10 "freezing $1" "$CGROUPS/$CLUSTER/$1/cgroup.events" grep -qx 'frozen 1' "$CGROUPS/$CLUSTER/$1/cgroup.events"
    else
        echo FROZEN > "$CGROUPS/freezer/$CLUSTER/$1/freezer.state"
        await 10 "freezing $1" "$CGROUPS/freezer/$CLUSTER/$1/freezer.state" grep -qx FROZEN "$CGROUPS/freezer/$CLUSTER/$1/freezer.state"
    fi
}

cgroup_thaw() {
    if [[ $(cgroup_version) == 2 ]]; then
        echo 0 > "$CGROUPS/$CLUSTER/$1/cgroup.freeze"
    else
        echo THAWED > "$CGROUPS/freezer/$CLUSTER/$1/freezer.state"
    fi
}

cgroup_is_frozen() {
    grep -qxE 'FROZEN|FREEZING' "$CGROUPS/freezer/$CLUSTER/$1/freezer.state" 2> /dev/null ||
        grep -qx 'frozen 1' "$CGROUPS/$CLUSTER/$1/cgroup.events" 2> /dev/null
}

# cgroup_remove [NODE]: the groups of a node, or of the whole cluster; its processes are dead or dying.
cgroup_remove() {
    local group
    # All hierarchies, not only ours: on a hybrid host runc makes groups in "unified" as well.
    for group in "$CGROUPS/$CLUSTER${1:+/$1}" "$CGROUPS"/*/"$CLUSTER${1:+/$1}"; do
        [[ ! -d $group ]] || await 20 "the end of all processes in $group" "$group/cgroup.procs" cgroup_removed "$group"
    done
}

cgroup_removed() {
    [[ ! -d $1 ]] || find "$1" -depth -type d -exec rmdir {} + 2> /dev/null
    [[ ! -d $1 ]]
}

# A frozen process does not die, not even of SIGKILL: thaw all before ending them.
cgroup_thaw_all() {
    local node
    for node in "$CGROUPS/freezer/$CLUSTER"/node* "$CGROUPS/$CLUSTER"/node*; do
        [[ ! -d $node ]] || cgroup_thaw "${node##*/}"
    done
}
