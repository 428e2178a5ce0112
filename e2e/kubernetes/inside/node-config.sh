# shellcheck shell=bash disable=SC2154
# write_node_config DIR: what containerd, its network plugins and kubelet of this node read. ($n, $disk, $node: see node.)
write_node_config() {
    local dir=$1
    mkdir -p "$dir/net.d"
    # shellcheck disable=SC2046
    (mkdir -p "$disk/volumes" && cd "$disk/volumes" && mkdir -p $(seq "$VOLUMES_PER_NODE"))
    (cd "$STATE/keys" && kubeconfig https://10.99.0.1:6443 "$node") > "$dir/kubelet.conf"

    cat > "$dir/net.d/pods.conflist" << FILE
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "ranges": [[{"subnet": "10.244.$n.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$dir/ipam"
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
FILE

    # Without the right to lower a process' OOM score (as in some virtual machines) runc fails unless containerd is told so.
    cat > "$dir/config.toml" << FILE
version = 2
root = "$disk/containerd"
state = "$dir/state"
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/net.d"
FILE

    # Names come from the cluster alone (no resolv.conf); this machine's disk and memory are not the nodes' to police.
    cat > "$dir/kubelet.yaml" << FILE
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$dir/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CLUSTER/$node/pods
failCgroupV1: false
failSwapOn: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
enforceNodeAllocatable: []
evictionHard: {memory.available: "1Mi", nodefs.available: "0.1%", imagefs.available: "0.1%", nodefs.inodesFree: "0.1%"}
imageGCHighThresholdPercent: 100
clusterDNS: ["10.96.0.10"]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: $disk/pods
nodeLeaseDurationSeconds: $(tr -d s < "$STATE/grace")
FILE
}
