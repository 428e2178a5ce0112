use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease as KubeLease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Error;
use super::labels::MANAGER;
use super::settings::Settings;

/// How long a leader that fell silent keeps the others waiting, in seconds.
const DURATION: u64 = 4;
/// How long before that it renews, in seconds.
const GRACE: u64 = 2;

/// The Lease, held.
pub(super) struct Lease {
    leading: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
    api: Api<KubeLease>,
    identity: String,
}

/// Resolves when this instance's renewals were not seen to go on for as long as the Lease lasts, by this machine's own
/// clock. The library goes by what it last read, and tries on for half a minute when the API server is out of reach.
async fn not_renewed(api: &Api<KubeLease>, identity: &str) {
    let (mut last, mut seen) = (None, Instant::now());
    while seen.elapsed() < Duration::from_secs(DURATION) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let read = tokio::time::timeout(Duration::from_secs(2), api.get(MANAGER)).await;
        let Ok(Ok(Some(spec))) = read.map(|read| read.map(|lease| lease.spec)) else {
            continue;
        };
        if spec.holder_identity.as_deref() == Some(identity) && spec.renew_time != last {
            (last, seen) = (spec.renew_time, Instant::now());
        }
    }
}

/// Waits until this instance leads.
pub(super) async fn acquire(client: &Client, settings: &Settings) -> Result<Lease, Error> {
    let name = format!("{}/{MANAGER}", settings.namespace);
    let failed = |error: &dyn std::fmt::Display| Error::Lease {
        name: name.clone(),
        reason: error.to_string(),
    };
    let manager = LeaseManagerBuilder::new(client.clone(), MANAGER)
        .with_namespace(&settings.namespace)
        .with_identity(&settings.identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .with_field_manager(MANAGER)
        .build()
        .await
        .map_err(|error| failed(&error))?;
    let (mut leading, task) = manager.watch().await;
    leading.wait_for(|leads| *leads).await.map_err(|error| failed(&error))?;
    let api = Api::namespaced(client.clone(), &settings.namespace);
    Ok(Lease {
        leading,
        task,
        api,
        identity: settings.identity.clone(),
    })
}

impl Lease {
    /// Resolves when this instance does not lead any more: another one took the Lease, or nobody can tell any more that
    /// it was renewed in time.
    pub(super) async fn lost(&mut self) {
        tokio::select! {
            // An error means that the task which renews is gone: nobody renews.
            _ = self.leading.wait_for(|leads| !*leads) => {}
            () = not_renewed(&self.api, &self.identity) => {}
        }
    }

    /// Has nothing to do with the Lease any more, which may be another one's.
    pub(super) fn abandon(self) {
        self.task.abort();
    }

    /// Frees the Lease, so that a successor need not wait.
    pub(super) async fn release(self) {
        let Self { leading, task, .. } = self;
        drop(leading);
        if tokio::time::timeout(Duration::from_secs(3), task).await.is_err() {
            tracing::warn!("the Lease could not be freed in time; a successor waits until it ends");
        }
    }
}
