//! What people may put into pods and into the servers' configuration, checked before anything is built of it.

use std::collections::BTreeMap;

use super::error::Invalid;
use crate::api::{GROUP, PodTemplate};

/// Settings that the operator or the dashboard gives servers: what was written here would break roles, fences, or logins.
const OURS: [&str; 44] = [
    "aclfile",
    "appenddirname",
    "appendfilename",
    "appendonly",
    "bind",
    "bind-source-addr",
    "cluster-enabled",
    "daemonize",
    "dbfilename",
    "dir",
    "enable-debug-command",
    "enable-module-command",
    "enable-protected-configs",
    "include",
    "loadmodule",
    "masterauth",
    "masteruser",
    "maxmemory",
    "min-replicas-max-lag",
    "min-replicas-to-write",
    "min-slaves-max-lag",
    "min-slaves-to-write",
    "pidfile",
    "port",
    "primaryauth",
    "primaryuser",
    "protected-mode",
    "rdb-del-sync-files",
    "rename-command",
    "repl-diskless-sync",
    "repl-ping-replica-period",
    "repl-ping-slave-period",
    "replica-announce-ip",
    "replica-announce-port",
    "replica-read-only",
    "replica-serve-stale-data",
    "replicaof",
    "requirepass",
    "save",
    "slave-read-only",
    "slave-serve-stale-data",
    "slaveof",
    "tls-port",
    "user",
];

/// Names in the pods of each part that are the operator's.
const VOLUMES: [&str; 4] = ["config", "users", "run", "data"];

/// Checks the settings of servers.
///
/// # Errors
/// Names the setting and the remedy.
pub(super) fn check_config(config: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let invalid = |message: String| {
        Err(Invalid {
            field: "spec.servers.config",
            message,
        })
    };
    for (name, value) in config {
        let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !well_formed {
            return invalid(format!(
                "{name:?} is not the name of a setting: write it in lower case, as maxmemory-policy"
            ));
        }
        if name == "maxmemory" {
            return invalid("maxmemory is given by spec.servers.maxMemory".to_owned());
        }
        if OURS.contains(&name.as_str()) {
            return invalid(format!(
                "{name} is set by the operator, which relies on it; take it out"
            ));
        }
        if value.trim().is_empty() || value.contains(char::is_control) {
            return invalid(format!(
                "the value of {name} is empty or holds control characters; write it on one line (an empty text as \"\")"
            ));
        }
    }
    Ok(())
}

/// Checks what is added to the pods of the part whose main container has this name.
///
/// # Errors
/// Names `field` and the remedy.
pub(super) fn check_template(field: &'static str, container: &str, template: &PodTemplate) -> Result<(), Invalid> {
    let invalid = |message: String| Err(Invalid { field, message });
    for key in template.labels.keys() {
        let ours = [
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
            "app.kubernetes.io/managed-by",
        ];
        if ours.contains(&key.as_str()) || is_reserved(key) {
            return invalid(format!("labels: {key} is the operator's; take it out"));
        }
    }
    if let Some(key) = template.annotations.keys().find(|key| is_reserved(key)) {
        return invalid(format!("annotations: {key} is the operator's; take it out"));
    }
    if let Some(volume) = template.volumes.iter().find(|v| VOLUMES.contains(&v.name.as_str())) {
        return invalid(format!(
            "volumes: {:?} is the operator's; name it otherwise",
            volume.name
        ));
    }
    if let Some(sidecar) = template.sidecars.iter().find(|sidecar| sidecar.name == container) {
        return invalid(format!(
            "sidecars: {:?} is the main container; name it otherwise",
            sidecar.name
        ));
    }
    let of_ours = |name: &str| {
        ["POD_NAME", "POD_IP"].contains(&name) || name.starts_with("CODIS_") || name.starts_with("COORDINATOR_")
    };
    if let Some(env) = template.env.iter().find(|env| of_ours(&env.name)) {
        return invalid(format!("env: {} is the operator's; take it out", env.name));
    }
    Ok(())
}

fn is_reserved(key: &str) -> bool {
    key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, value: &str) -> Result<(), Invalid> {
        check_config(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn settings_that_the_operator_relies_on_are_refused() {
        assert_eq!(config("maxmemory-policy", "allkeys-lru"), Ok(()));
        for name in OURS {
            assert!(config(name, "1").unwrap_err().message.contains(name), "{name}");
        }
        for (name, value) in [("", "1"), ("A", "1"), ("a b", "1"), ("hz", ""), ("hz", "1\nport 1")] {
            assert!(config(name, value).is_err(), "{name:?} {value:?}");
        }
    }

    #[test]
    fn names_of_the_operator_can_not_be_taken() {
        let check = |json: serde_json::Value| {
            check_template(
                "spec.servers.podTemplate",
                "server",
                &serde_json::from_value(json).unwrap(),
            )
        };
        let good = serde_json::json!({"labels": {"team": "a"}, "annotations": {"x/y": "z"}, "volumes": [{"name": "mine"}],
            "sidecars": [{"name": "exporter"}], "env": [{"name": "TZ", "value": "UTC"}]});
        assert_eq!(check(good), Ok(()));
        for (bad, word) in [
            (
                serde_json::json!({"labels": {"app.kubernetes.io/name": "x"}}),
                "app.kubernetes.io/name",
            ),
            (
                serde_json::json!({"labels": {"codis.dev/group": "1"}}),
                "codis.dev/group",
            ),
            (serde_json::json!({"annotations": {"codis.dev/x": "1"}}), "codis.dev/x"),
            (serde_json::json!({"volumes": [{"name": "data"}]}), "data"),
            (serde_json::json!({"sidecars": [{"name": "server"}]}), "server"),
            (serde_json::json!({"env": [{"name": "POD_NAME"}]}), "POD_NAME"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(
                error.message.contains(word) && error.field == "spec.servers.podTemplate",
                "{error}"
            );
        }
    }
}
