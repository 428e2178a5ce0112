//! Registration for Jodis clients, in a real etcd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::backend::Backend;
use support::etcd::Etcd;
use support::eventually;
use support::proxy::{Proxy, Setup, slots_over};

async fn entry_of(etcd: &Etcd, key: &str) -> Value {
    let registered = async || etcd.get(key).await;
    let text = eventually("the proxy is registered", Duration::from_secs(20), registered).await;
    serde_json::from_str(&text).unwrap()
}

async fn wait_gone(etcd: &Etcd, key: &str) {
    eventually("the entry is gone", Duration::from_secs(20), async || {
        etcd.get(key).await.is_none().then_some(())
    })
    .await;
}

fn settings(etcd: &Etcd, timeout: &str, compatible: bool) -> String {
    format!(
        "jodis_name = \"etcd\"\njodis_addr = \"127.0.0.1:1,{}\"\njodis_timeout = \"{timeout}\"\njodis_compatible = {compatible}",
        etcd.endpoint()
    )
}

async fn record_of(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.get("/proxy/model").await.1).unwrap()
}

#[tokio::test]
async fn proxy_is_registered_while_it_serves() {
    let (etcd, backend) = (Etcd::start().await, Backend::start().await);
    let toml = settings(&etcd, "60s", false);
    let mut proxy = Proxy::launch(Setup {
        toml: &toml,
        ..Setup::default()
    })
    .await;
    assert!(etcd.dump("/jodis").await.is_empty(), "it does not serve yet");
    let api = proxy.api().await;
    api.fill_slots(&slots_over(&[backend.addr()], 1)).await.unwrap();
    api.start().await.unwrap();
    let record = record_of(&proxy).await;
    let key = format!("/jodis/refdemo/proxy-{}", record["token"].as_str().unwrap());
    assert_eq!(record["jodis_path"], key);
    let entry = json!({
        "addr": record["proxy_addr"], "admin": record["admin_addr"], "start": record["start_time"],
        "token": record["token"], "state": "online",
    });
    assert_eq!(entry_of(&etcd, &key).await, entry);
    proxy.process.signal("TERM");
    wait_gone(&etcd, &key).await;
    assert_eq!(proxy.process.exit_code(Duration::from_secs(10)).await, Some(0));
}

#[tokio::test]
async fn entry_that_somebody_deleted_comes_back_and_that_of_a_killed_proxy_goes() {
    let (mut etcd, backend) = (Etcd::start().await, Backend::start().await);
    let toml = settings(&etcd, "3s", true);
    let setup = Setup {
        toml: &toml,
        ..Setup::default()
    };
    let mut proxy = Proxy::serving_with(slots_over(&[backend.addr()], 1), setup).await;
    let token = record_of(&proxy).await["token"].as_str().unwrap().to_owned();
    let key = format!("/zk/codis/db_refdemo/proxy/{token}");
    entry_of(&etcd, &key).await;
    etcd.client().await.delete(key.as_str(), None).await.unwrap();
    entry_of(&etcd, &key).await;
    etcd.empty().await;
    entry_of(&etcd, &key).await;
    proxy.process.kill();
    wait_gone(&etcd, &key).await;
}
