# shellcheck shell=bash
# Local volumes: twelve on each node, each a folder on its disk that claims 20 GiB (nothing measures it), ReadWriteOnce.

readonly VOLUMES_PER_NODE=12

# volume_objects N: the PersistentVolumes of node N, as YAML.
volume_objects() {
    local n=$1 k
    for k in $(seq $VOLUMES_PER_NODE); do
        cat << FILE
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: node$n-$k}
spec:
  capacity: {storage: 20Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: local
  local: {path: /run/e2e/disk/volumes/$k}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node$n]}]}]}}
FILE
    done
}

# A volume whose claim was deleted is emptied and offered again, as a provisioner would delete it and make a new one.
recycle_volumes() {
    local kubectl=("$BIN/kubectl" --kubeconfig "$STATE/keys/admin.conf") volume phase claim
    local -A recycled=()
    "${kubectl[@]}" get persistentvolumes --watch -o 'jsonpath={.metadata.name} {.status.phase} {.spec.claimRef.uid}{"\n"}' |
        while read -r volume phase claim; do
            [[ $phase == Released && $volume =~ ^node([0-9]+)-([0-9]+)$ ]] || continue
            # The same news can come twice, when the next claim may already hold the volume.
            [[ -n $claim && -z ${recycled[$claim]:-} ]] || continue
            recycled[$claim]=1
            find "$STATE/nodes/${BASH_REMATCH[1]}/disk/volumes/${BASH_REMATCH[2]}" -mindepth 1 -delete
            "${kubectl[@]}" patch persistentvolume "$volume" --type=json \
                -p "[{\"op\": \"test\", \"path\": \"/spec/claimRef/uid\", \"value\": \"$claim\"}, {\"op\": \"remove\", \"path\": \"/spec/claimRef\"}]" || true
        done
}
