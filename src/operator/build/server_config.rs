//! What servers are configured with. The files are written anew at each start, so nothing that a server was told at run
//! time (its role above all) outlives its process.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::child_meta;
use crate::model::{GroupId, ServerUser, ServerUserKind, keyed_hash};
use crate::operator::validate::{Cluster, SERVER_PORT};

/// Starts the server with the configuration of now, as a replica of nothing: it answers INFO and ROLE and refuses data
/// until the dashboard gives it a role. So a primary that restarts empty can't wipe its replicas, and one that comes
/// back late can't be a second primary.
const START: &str = r#"set -eu
umask 077
server=$(command -v valkey-server || command -v redis-server) || {
  echo "the image holds neither valkey-server nor redis-server: see spec.servers.image" >&2
  exit 1
}
cat /etc/codis/config/server.conf "/etc/codis/users/$POD_NAME.conf" > /run/codis/server.conf
exec "$server" /run/codis/server.conf --replicaof 127.0.0.1 1 --replica-serve-stale-data no
"#;

/// Succeeds while the server holds a role: a primary, or a replica whose link to its primary is up.
const READY: &str = r#"cli=$(command -v valkey-cli || command -v redis-cli) || exit 1
REDISCLI_AUTH=$(cat "/etc/codis/users/$POD_NAME.probe") || exit 1
export REDISCLI_AUTH
info=$("$cli" --no-auth-warning --user "probe@$POD_NAME" INFO replication) || exit 1
case $info in
*role:master*) exit 0 ;;
*master_link_status:up*) exit 0 ;;
esac
echo "no role yet, or the link to the primary is down"
exit 1
"#;

/// Runs before the server is told to stop: a primary waits until it handed over, while it has a replica that could take
/// over, and no longer than a part of the pod's grace period: without an operator it goes all the same. A process of its own
/// measures that, because the clock may be set meanwhile, and a server that hangs is not waited for longer either.
///
/// It ends well before its container does, so that Kubernetes does not take it for one that failed. The server is told to stop
/// by Kubernetes then, and again and again by what stays behind: just after a full synchronisation it would not hear the one
/// time that it is told anyway.
const STOP: &str = r#"cli=$(command -v valkey-cli || command -v redis-cli) || exit 0
REDISCLI_AUTH=$(cat "/etc/codis/users/$POD_NAME.probe") || exit 0
export REDISCLI_AUTH
limit=
if command -v timeout >/dev/null; then limit="timeout 1"; fi
sleep 20 </dev/null >/dev/null 2>&1 &
timer=$!
there=yes
while kill -0 "$timer" 2>/dev/null; do
  info=$($limit "$cli" --no-auth-warning --user "probe@$POD_NAME" INFO replication 2>/dev/null)
  case $?:$info in
  0:*role:master*connected_slaves:0*) break ;;
  0:*role:master*) sleep 0.2 ;;
  0:*) break ;;
  # No answer in time, as coreutils and busybox tell it.
  124:* | 143:*) ;;
  *) there=no && break ;;
  esac
done
kill "$timer" 2>/dev/null
wait "$timer" 2>/dev/null
[ "$there" = yes ] || exit 0
# By now the operator has told the primary to go on without this replica.
sleep 2
{
  sleep 1
  while kill -TERM 1 2>/dev/null; do sleep 1; done
} </dev/null >/dev/null 2>&1 &
"#;

/// What the names of a cluster's ConfigMaps of this kind begin with; one of the first version has no more in its name.
fn config_map_prefix(cluster: &str) -> String {
    format!("{cluster}-servers")
}

/// The digits of a digest that stand in the name of a ConfigMap.
const DIGITS: usize = 8;

/// Whether a ConfigMap of this name is one with which this cluster's servers are, or once were, configured.
pub(in crate::operator) fn is_config_map_name(cluster: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(&config_map_prefix(cluster)) else {
        return false;
    };
    let digest = |text: &str| text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    rest.is_empty() || rest.strip_prefix('-').is_some_and(digest)
}

/// Each content has a name of its own, and keeps it: a pod starts anew with what it was made with, whatever the spec says
/// by then. So a configuration that no server can start with reaches nobody but those who were replaced for it.
pub(super) fn config_map(cluster: &Cluster) -> ConfigMap {
    let files = files(cluster);
    let text = serde_json::json!(files).to_string();
    let digest = &keyed_hash(&cluster.uid, &text)[..DIGITS];
    let name = format!("{}-{digest}", config_map_prefix(&cluster.name));
    ConfigMap {
        metadata: child_meta(cluster, name),
        data: Some(files),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn files(cluster: &Cluster) -> BTreeMap<String, String> {
    let max_memory = cluster
        .max_memory
        .map_or_else(String::new, |bytes| format!("maxmemory {bytes}\n"));
    let persistence = match cluster.storage {
        Some(_) => "appendonly yes\n",
        None => "appendonly no\n",
    };
    let wanted: String = cluster
        .server_config
        .iter()
        .map(|(name, value)| format!("{name} {value}\n"))
        .collect();
    let server_conf = format!(
        "maxmemory-policy noeviction\nrepl-backlog-size 16mb\nrepl-diskless-sync-delay 0\n\
         # From spec.servers.config.\n{wanted}# What the operator relies on.\n\
         bind * -::*\nport {SERVER_PORT}\nprotected-mode no\ndir /data\nsave \"\"\n{persistence}{max_memory}\
         # A silent primary is noticed by the second.\nrepl-ping-replica-period 1\n\
         repl-diskless-sync yes\n\
         # What a full synchronisation leaves behind must not be loaded by a later start.\nrdb-del-sync-files yes\n\
         user default off resetkeys resetchannels -@all\n"
    );
    let files = [
        ("server.conf", server_conf),
        ("start.sh", START.to_owned()),
        ("ready.sh", READY.to_owned()),
        ("stop.sh", STOP.to_owned()),
    ];
    files.map(|(name, text)| (name.to_owned(), text)).into()
}

pub(super) fn users_secret_name(cluster: &Cluster, group: GroupId) -> String {
    format!("{}-g{group}-users", cluster.name)
}

/// For each pod of the group `{pod}.conf`, the users it knows from the start, with hashed passwords, and
/// `{pod}.probe`, the password with which its own readiness probe logs in.
pub(super) fn users_secret(cluster: &Cluster, group: GroupId) -> Secret {
    let mut data = BTreeMap::new();
    for pod in cluster.server_pods(group) {
        let kinds = [ServerUserKind::Admin, ServerUserKind::Probe, ServerUserKind::Replica];
        let users: String = kinds
            .into_iter()
            .map(|kind| ServerUser::new(kind, &pod))
            .map(|user| format!("user {} {}\n", user.name(), user.rules(&cluster.product_auth).join(" ")))
            .collect();
        let probe = ServerUser::new(ServerUserKind::Probe, &pod).password(&cluster.product_auth);
        data.insert(format!("{pod}.conf"), ByteString(users.into_bytes()));
        data.insert(format!("{pod}.probe"), ByteString(probe.into_bytes()));
    }
    Secret {
        metadata: child_meta(cluster, users_secret_name(cluster, group)),
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
