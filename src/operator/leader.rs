use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Error;
use super::labels::MANAGER;
use super::settings::Settings;

/// How long a leader that fell silent keeps the others waiting, in seconds.
const DURATION: u64 = 10;
/// How long before that it renews, in seconds.
const GRACE: u64 = 6;

/// The Lease, held.
pub(super) struct Lease {
    leading: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
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
    Ok(Lease { leading, task })
}

impl Lease {
    /// Resolves when this instance does not lead any more.
    pub(super) async fn lost(&mut self) {
        // An error means that the task which renews is gone: nobody renews.
        let _ = self.leading.wait_for(|leads| !*leads).await;
    }

    /// Frees the Lease, so that a successor need not wait.
    pub(super) async fn release(self) {
        let Self { leading, task } = self;
        drop(leading);
        if tokio::time::timeout(Duration::from_secs(3), task).await.is_err() {
            tracing::warn!("the Lease could not be freed in time; a successor waits until it ends");
        }
    }
}
