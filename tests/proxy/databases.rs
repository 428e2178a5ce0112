//! Databases other than the first.

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, cluster, slots_over};
use crate::support::wire::request;

#[tokio::test]
async fn each_client_works_in_the_database_that_it_selected() {
    let backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let (mut one, mut other, mut third) = (proxy.wire().await, proxy.wire().await, proxy.wire().await);
    third.call("HELLO 3").await;
    assert_eq!(
        [one.call("SELECT 3").await, third.call("SELECT 15").await],
        ["+OK", "+OK"]
    );
    for (wire, value) in [(&mut one, "in3"), (&mut other, "in0"), (&mut third, "in15")] {
        assert_eq!(wire.call(&format!("MSET a {value} b {value}")).await, "+OK");
    }
    for (wire, value) in [(&mut one, "in3"), (&mut other, "in0"), (&mut third, "in15")] {
        assert_eq!(wire.call("MGET a b").await, format!("*[${value} ${value}]"));
        assert_eq!(wire.call("GET a").await, format!("${value}"));
    }
    let holder = &backends[codis_operator::model::SlotId::of_key(b"a").index() % 2];
    let mut direct = holder.wire().await;
    assert_eq!(
        [direct.call("SELECT 3").await, direct.call("GET a").await],
        ["+OK", "$in3"]
    );
    assert_eq!([one.call("RESET").await, one.call("GET a").await], ["+RESET", "$in0"]);
}

#[tokio::test]
async fn selection_in_a_pipeline_holds_for_what_follows() {
    let backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let mut wire = proxy.wire().await;
    let mut batch = Vec::new();
    for database in ["0", "1", "2", "1", "0"] {
        batch.extend(request(&["SELECT", database]));
        batch.extend(request(&["APPEND", "a", database]));
    }
    wire.send(batch).await;
    for length in [1, 1, 1, 2, 2] {
        assert_eq!(wire.reply().await, "+OK");
        assert_eq!(wire.reply().await, format!(":{length}"));
    }
}

#[tokio::test]
async fn databases_beyond_the_setting_or_the_servers_are_refused() {
    let (_backends, proxy) = cluster(1, "backend_number_databases = 40").await;
    let mut wire = proxy.wire().await;
    assert_eq!(
        wire.call("SELECT 40").await,
        "-ERR invalid DB index, only accept DB [0,40)"
    );
    // A stock server has 16.
    assert_eq!(wire.call("SELECT 39").await, "+OK");
    assert_eq!(wire.call("GET a").await, "-ERR handle response, backend conn reset");
    assert_eq!([wire.call("SELECT 1").await, wire.call("GET a").await], ["+OK", "$-"]);
}
