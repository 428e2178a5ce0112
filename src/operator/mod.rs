//! The operator: reconciles each `CodisCluster` in the order dereference → validate → build → apply → topology →
//! status. Only the first and the last three touch a client. What has to be answered within seconds is the business of [`ha`].

mod apply;
mod build;
mod controller;
mod customise;
mod deletion;
mod dereference;
mod error;
mod events;
mod gates;
mod ha;
mod labels;
mod leader;
mod metrics;
mod mirror;
mod old_configs;
mod purge;
mod reconcile;
mod rollout;
mod settings;
mod status;
mod topology;
mod validate;
mod web;

pub use build::{Children, build};
pub use controller::run;
pub use dereference::Dereferenced;
pub use error::Error;
pub use settings::Settings;
pub use validate::{Cluster, validate};
