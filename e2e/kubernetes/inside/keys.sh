# shellcheck shell=bash
# Keys, certificates and tokens of one cluster, made when it starts; all in the current folder.

make_keys() {
    local ip=$1 who id=1
    quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=e2e
    quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout api.key -out api.csr -subj /CN=kube-apiserver
    printf 'subjectAltName=%s\n' "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:10.96.0.1,IP:$ip,IP:127.0.0.1" > api.ext
    quietly openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out api.crt -days 3650 -extfile api.ext
    quietly openssl genrsa -out sa.key 2048
    {
        token admin admin system:masters
        for who in kube-controller-manager kube-scheduler kube-proxy; do token "$who" "system:$who" ''; done
        for id in $(seq 64); do token "node$id" "system:node:node$id" system:nodes; done
    } > tokens.csv
}

# One line of the API server's token file; the token is random, and its user can be found by its id.
token() { printf '%s,%s,%s,"%s"\n' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' ')" "$2" "$1" "$3"; }

# kubeconfig URL WHO: on standard output.
kubeconfig() {
    cat << FILE
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "$1", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $2, user: {token: $(awk -F, -v who="$2" '$3 == who { print $1 }' tokens.csv)}}]
contexts: [{name: e2e, context: {cluster: e2e, user: $2}}]
current-context: e2e
FILE
}
