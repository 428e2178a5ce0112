use std::collections::BTreeMap;

use super::*;
use crate::operator::build::fixtures::{refs, settings, shop};

fn invalid(change: impl FnOnce(&mut CodisCluster, &mut Dereferenced)) -> Invalid {
    let (mut cluster, mut refs) = (shop(), refs());
    change(&mut cluster, &mut refs);
    validate(&cluster, &refs, &settings()).err().unwrap()
}

#[test]
fn a_cluster_with_a_name_alone_is_valid() {
    let cluster = validate(&shop(), &refs(), &settings()).unwrap();
    assert_eq!(
        (
            cluster.product.as_str(),
            cluster.groups.len(),
            cluster.replicas_per_group
        ),
        ("ns.shop", 3, 2)
    );
    assert_eq!(cluster.coordinator.endpoints, settings().coordinator);
    assert_eq!(cluster.max_memory, None);
    let desired = cluster.desired_topology();
    assert_eq!(
        desired.groups[2].servers[1].as_str(),
        "shop-g3-1.shop-servers.ns.svc:6379"
    );
}

#[test]
fn a_share_of_the_memory_limit_becomes_bytes() {
    let mut cluster = shop();
    cluster.spec.servers.resources = Some(ResourcesSpec {
        limits: BTreeMap::from([("memory".to_owned(), Quantity("1Gi".to_owned()))]),
        ..ResourcesSpec::default()
    });
    assert_eq!(
        validate(&cluster, &refs(), &settings()).unwrap().max_memory,
        Some(751_619_276)
    );
    cluster.spec.servers.max_memory = "2Gi".to_owned();
    let error = validate(&cluster, &refs(), &settings()).err().unwrap();
    assert_eq!(error.field, "spec.servers.maxMemory");
}

#[test]
fn each_error_names_its_field() {
    let coordinator = |secret: Option<&str>| {
        let secret_ref = secret.map(|name| crate::api::SecretRef { name: name.to_owned() });
        let etcd = crate::api::EtcdSpec {
            endpoints: vec!["http://etcd:2379".to_owned()],
            secret_ref,
        };
        Some(crate::api::CoordinatorSpec { etcd })
    };
    let auth = || {
        Some(crate::api::AuthSpec {
            secret_ref: SecretKeyRef {
                name: "pw".to_owned(),
                key: "password".to_owned(),
            },
        })
    };
    let cases = [
        (
            "metadata.name",
            invalid(|cluster, _| cluster.metadata.name = Some("a".repeat(43))),
        ),
        (
            "metadata.name",
            invalid(|cluster, _| cluster.metadata.name = Some("1a".to_owned())),
        ),
        (
            "spec.product",
            invalid(|cluster, _| cluster.spec.product = Some("a/b".to_owned())),
        ),
        (
            "spec.servers.groups",
            invalid(|cluster, _| cluster.spec.servers.groups = 0),
        ),
        (
            "spec.servers.groups",
            invalid(|cluster, _| cluster.spec.servers.groups = 1025),
        ),
        (
            "spec.servers.replicasPerGroup",
            invalid(|cluster, _| cluster.spec.servers.replicas_per_group = 17),
        ),
        (
            "spec.proxies.replicas",
            invalid(|cluster, _| cluster.spec.proxies.replicas = -1),
        ),
        (
            "spec.servers.maxMemory",
            invalid(|cluster, _| cluster.spec.servers.max_memory = "101%".to_owned()),
        ),
        (
            "spec.servers.maxMemory",
            invalid(|cluster, _| cluster.spec.servers.max_memory = "70".to_owned()),
        ),
        (
            "spec.servers.maxMemory",
            invalid(|cluster, _| cluster.spec.servers.max_memory = "2Xi".to_owned()),
        ),
        ("spec.auth.secretRef", invalid(|cluster, _| cluster.spec.auth = auth())),
        (
            "spec.auth.secretRef",
            invalid(|cluster, refs| {
                cluster.spec.auth = auth();
                refs.session_auth = Some(BTreeMap::from([("password".to_owned(), b"secret\n".to_vec())]));
            }),
        ),
        (
            "spec.coordinator.etcd.secretRef",
            invalid(|cluster, _| cluster.spec.coordinator = coordinator(Some("gone"))),
        ),
    ];
    for (field, error) in cases {
        assert_eq!(error.field, field, "{error}");
    }
    let mut without_default = settings();
    without_default.coordinator.clear();
    let error = validate(&shop(), &refs(), &without_default).err().unwrap();
    assert_eq!(error.field, "spec.coordinator");
}
