//! Routes, each with what it is for: none is served that is not described.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{get, put};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Api;
use super::call::XAUTH;

/// The schema of a type, once there is a generator to keep its definitions.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a route answers when it did what it was asked.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// The JSON text `"OK"`.
    Done,
    /// A value as JSON.
    Json(SchemaOf),
    /// Plain text.
    Text,
    /// Another place to ask at.
    Redirect,
}

/// What a route is for.
pub(crate) struct Says {
    /// For people.
    pub(crate) text: &'static str,
    /// The body that it reads.
    pub(crate) takes: Option<SchemaOf>,
    /// What it answers.
    pub(crate) answer: Answer,
    /// What has the epoch that may stand behind its path.
    pub(crate) expects: Option<&'static str>,
    /// What else may stand behind its path.
    pub(crate) asks: Option<SchemaOf>,
}

/// A route that reads no body and answers `"OK"`, until more is said.
pub(crate) fn says(text: &'static str) -> Says {
    Says {
        text,
        takes: None,
        answer: Answer::Done,
        expects: None,
        asks: None,
    }
}

impl Says {
    /// It reads a body of this type.
    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        Self {
            takes: Some(T::json_schema),
            ..self
        }
    }

    /// The caller may name the epoch of this that it saw.
    pub(crate) fn expects(self, what: &'static str) -> Self {
        Self {
            expects: Some(what),
            ..self
        }
    }

    /// The caller may name the fields of this behind the path.
    pub(crate) fn asks<T: JsonSchema>(self) -> Self {
        Self {
            asks: Some(T::json_schema),
            ..self
        }
    }

    /// It answers a value of this type.
    pub(crate) fn answers<T: JsonSchema>(self) -> Self {
        Self {
            answer: Answer::Json(|generator| generator.subschema_for::<T>()),
            ..self
        }
    }

    /// It answers plain text.
    pub(crate) fn answers_text(self) -> Self {
        Self {
            answer: Answer::Text,
            ..self
        }
    }

    /// It sends the client elsewhere.
    pub(crate) fn redirects(self) -> Self {
        Self {
            answer: Answer::Redirect,
            ..self
        }
    }
}

/// A route as the description knows it.
pub(crate) struct Entry {
    /// The method.
    pub(crate) method: Method,
    /// The path, with its parameters in braces.
    pub(crate) path: String,
    /// The subject that it belongs to.
    pub(crate) subject: &'static str,
    /// What it is for.
    pub(crate) says: Says,
}

/// The routes of a subject, or of all.
pub(crate) struct Table {
    subject: &'static str,
    router: Router<Api>,
    entries: Vec<Entry>,
}

impl Table {
    /// A table without routes.
    pub(crate) fn of(subject: &'static str) -> Self {
        Self {
            subject,
            router: Router::new(),
            entries: Vec::new(),
        }
    }

    /// Adds a route that reads. A path without a slash before it is under `/api/topom/`, and `X` in it stands for the
    /// xauth, as in Codis' own description.
    pub(crate) fn get<H: Handler<T, Api>, T: 'static>(mut self, path: &str, handler: H, says: Says) -> Self {
        let path = self.enter(Method::GET, path, says);
        self.router = self.router.route(&path, get(handler));
        self
    }

    /// Adds a route that changes something; its path as in [`Self::get`].
    pub(crate) fn put<H: Handler<T, Api>, T: 'static>(mut self, path: &str, handler: H, says: Says) -> Self {
        let path = self.enter(Method::PUT, path, says);
        self.router = self.router.route(&path, put(handler));
        self
    }

    /// Adds the routes of another subject.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.entries.extend(other.entries);
        self
    }

    /// The routes, to be described.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The routes, to be served.
    pub(crate) fn into_router(self) -> Router<Api> {
        self.router
    }

    fn enter(&mut self, method: Method, path: &str, says: Says) -> String {
        let path = whole(path);
        self.entries.push(Entry {
            method,
            path: path.clone(),
            subject: self.subject,
            says,
        });
        path
    }
}

fn whole(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        let xauth = format!("{{{XAUTH}}}");
        let parts = path.split('/').map(|part| if part == "X" { &xauth } else { part });
        format!("/api/topom/{}", parts.collect::<Vec<_>>().join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_of_its_own_stands_for_the_xauth() {
        assert_eq!(whole("group/X/X2"), "/api/topom/group/{xauth}/X2");
        assert_eq!(whole("/topom"), "/topom");
    }
}
