# shellcheck shell=bash
# What is built with Go: Kubernetes as one program of many names, CoreDNS with only the plugins used here, and Helm.

install_go() {
    local name=$1 dir component
    command -v go > /dev/null || die "Go is needed to build $name: put its bin folder on the PATH"
    dir=$(part "$name" "$(go_key "$name")" "build_$name")
    link "$name" "$dir/$name"
    if [[ $name == kube ]]; then
        for component in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
            link "$component" kube
        done
    fi
}

go_key() {
    local name=$1 src=$E2E/kubernetes
    case $name in
        helm) key "$HELM_VERSION" "$(go_version)" "$(declare -f build_helm)" ;;
        *) key "$KUBERNETES_VERSION" "$(go_version)" "$src/go.mod" "$src/go.sum" "$src/$name"/*.go "$(declare -f "build_$name")" ;;
    esac
}

go_version() { go env GOVERSION; }

build_kube() {
    local pkg=k8s.io/component-base/version major minor
    IFS=. read -r major minor _ <<< "$KUBERNETES_VERSION"
    CGO_ENABLED=0 go build -C "$E2E/kubernetes" -trimpath -ldflags "-s -w -X $pkg.gitVersion=v$KUBERNETES_VERSION -X $pkg.gitMajor=$major -X $pkg.gitMinor=$minor" -o "$1/kube" ./kube
}

build_coredns() { CGO_ENABLED=0 go build -C "$E2E/kubernetes" -trimpath -ldflags '-s -w' -o "$1/coredns" ./coredns; }

build_helm() { GOBIN=$1 CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "helm.sh/helm/v4/cmd/helm@v$HELM_VERSION"; }
