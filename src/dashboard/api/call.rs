use std::future::Future;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::Api;
use super::answer::Done;
use crate::dashboard::error::Error;
use crate::dashboard::rules::epochs::{Expected, Subject};
use crate::dashboard::rules::{Refusal, Ruling};
use crate::dashboard::term::Term;
use crate::dashboard::topology::Topology;
use crate::model::HostPort;

/// The name of the xauth in the paths of routes.
pub(crate) const XAUTH: &str = "xauth";

/// A request that may be served: the dashboard is active, and the xauth is right where the route has one.
pub(crate) struct Call {
    /// The term to serve it in.
    pub(crate) term: Arc<Term>,
    params: Vec<(String, String)>,
    /// The epoch that the caller saw.
    pub(crate) epoch: Option<i64>,
}

/// What may stand behind the path. Anything else is passed over, as in Codis.
#[derive(Deserialize)]
struct Asked {
    epoch: Option<i64>,
}

impl FromRequestParts<Api> for Call {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let term = api.candidate.term()?;
        let params = RawPathParams::from_request_parts(parts, api)
            .await
            .map_err(|error| Refusal(format!("the path can't be read: {error}")))?;
        let params: Vec<_> = params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let given = params.iter().find(|(name, _)| name == XAUTH);
        if given.is_some_and(|(_, xauth)| !bool::from(xauth.as_bytes().ct_eq(api.xauth.as_bytes()))) {
            return Err(Refusal("invalid xauth, please check product name & auth".to_owned()).into());
        }
        let Query(Asked { epoch }) = Query::try_from_uri(&parts.uri)
            .map_err(|error| Refusal(format!("the query can't be read, epoch has to be a number: {error}")))?;
        Ok(Self { term, params, epoch })
    }
}

impl Call {
    /// A part of the path; empty where the route has none of this name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    /// The address in the path.
    ///
    /// # Errors
    /// When it is not `host:port`.
    pub(crate) fn addr(&self) -> Result<HostPort, Refusal> {
        self.param("addr")
            .parse()
            .map_err(|error: crate::model::AddrError| Refusal(error.to_string()))
    }

    /// What the caller saw of what is to be changed.
    pub(crate) fn expected(&self, subject: Subject) -> Expected {
        Expected::new(subject, self.epoch)
    }

    /// A number in the path.
    ///
    /// # Errors
    /// When it is none, or does not fit.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Refusal> {
        let text = self.param(name);
        text.parse()
            .map_err(|_| Refusal(format!("invalid {name} {text:?}: it must be a whole number that fits")))
    }

    /// A switch in the path.
    ///
    /// # Errors
    /// When it is neither 0 nor 1.
    pub(crate) fn switch(&self, name: &str) -> Result<bool, Refusal> {
        match self.param(name) {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(Refusal(format!("invalid {name} {other:?}: it must be 0 or 1"))),
        }
    }
}

/// Does work that must not stop half way, even when the client goes away or waits no longer.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            // As if it had happened here.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::TimedOut(format!("the request was not finished: {error}"))),
        },
    }
}

/// Makes a change of the records, as a rule says, if they still are what the caller saw.
///
/// # Errors
/// That they are not, what the rule refuses, and what the store says.
pub(crate) async fn change_seen<F>(call: Call, subject: Subject, rule: F) -> Result<Done, Error>
where
    F: Fn(&Topology) -> Ruling + Send + Sync + 'static,
{
    let expected = call.expected(subject);
    change(call.term, move |topology| {
        expected.check(topology)?;
        rule(topology)
    })
    .await
}

/// Makes a change of the records, as a rule says.
///
/// # Errors
/// What the rule refuses, and what the store says.
pub(crate) async fn change<F>(term: Arc<Term>, rule: F) -> Result<Done, Error>
where
    F: Fn(&Topology) -> Ruling + Send + Sync + 'static,
{
    to_the_end(async move { term.change(rule).await }).await.map(|_| Done)
}
