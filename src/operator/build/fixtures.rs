//! A cluster to test with.

use crate::api::{CodisCluster, CodisClusterSpec};
use crate::operator::dereference::Dereferenced;
use crate::operator::settings::Settings;
use crate::operator::validate::{Cluster, validate};

pub(in crate::operator) fn shop() -> CodisCluster {
    let mut cluster = CodisCluster::new("shop", CodisClusterSpec::default());
    cluster.metadata.namespace = Some("ns".to_owned());
    cluster.metadata.uid = Some("uid-of-shop".to_owned());
    cluster
}

pub(in crate::operator) fn refs() -> Dereferenced {
    Dereferenced {
        product_auth: Some("generated-password".to_owned()),
        ..Dereferenced::default()
    }
}

pub(in crate::operator) fn settings() -> Settings {
    Settings {
        image: "codis-operator/codis-operator:0.1.0".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secrets: Vec::new(),
        coordinator: vec!["http://etcd:2379".to_owned()],
        namespace: "codis-system".to_owned(),
        identity: "codis-operator-0".to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
    }
}

pub(in crate::operator) fn valid_shop() -> Cluster {
    validate(&shop(), &refs(), &settings()).unwrap()
}
