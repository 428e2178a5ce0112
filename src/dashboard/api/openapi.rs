//! The OpenAPI description of all routes, made from the table that they are served from.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::call::XAUTH;
use super::routes;
use super::table::{Answer, Entry, Says};
use crate::model::RemoteError;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = format!("{:#}", document(routes::table().entries()));
    text.push('\n');
    text
});

/// The OpenAPI 3.1 description of the dashboard's API, as JSON.
pub fn openapi() -> &'static str {
    &DOCUMENT
}

/// What is in paths, and what may stand there.
fn parameter(name: &str) -> Option<Value> {
    let (text, schema) = match name {
        XAUTH => (
            "Proves which product is meant: the first 16 bytes of SHA-256 over Codis-XAuth-[product], in hex.",
            json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        ),
        "gid" => ("A group.", json!({"type": "integer", "minimum": 1, "maximum": 9999})),
        "addr" => ("An address, host:port.", json!({"type": "string"})),
        "datacenter" => ("Where the server is.", json!({"type": "string"})),
        "token" => ("A proxy's token.", json!({"type": "string"})),
        "force" => (
            "1: also when the proxy does not answer.",
            json!({"type": "integer", "enum": [0, 1]}),
        ),
        "sid" => ("A slot.", json!({"type": "integer", "minimum": 0, "maximum": 1023})),
        "beg" | "end" => (
            "The first or the last slot of the range.",
            json!({"type": "integer", "minimum": 0, "maximum": 1023}),
        ),
        "src" | "dst" => (
            "The group that slots are taken from, 0 for those without owner, or given to.",
            json!({"type": "integer", "minimum": 0, "maximum": 9999}),
        ),
        "num" => ("How many slots.", json!({"type": "integer", "minimum": 0})),
        "usec" => ("Microseconds; at most 1000000.", json!({"type": "integer"})),
        "confirm" => (
            "1: ask for the moves; 0: only plan them.",
            json!({"type": "integer", "enum": [0, 1]}),
        ),
        "value" => ("The new value.", json!({"type": "string"})),
        _ => return None,
    };
    Some(json!({"name": name, "in": "path", "required": true, "description": text, "schema": schema}))
}

/// The epoch that a caller may name.
fn epoch(what: &str) -> Option<Value> {
    let text = format!(
        "The epoch of {what} that the caller saw, as v2/status tells it: refused when that was changed since. Where the \
         body has an epoch, that one counts."
    );
    Some(json!({
        "name": "epoch", "in": "query", "required": false, "description": text,
        "schema": {"type": "integer", "format": "int64"},
    }))
}

/// The fields that a caller may name.
fn fields(mut schema: Schema) -> Vec<Value> {
    let fields = schema.remove("properties");
    let fields = fields.as_ref().and_then(Value::as_object).into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let text = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({"name": name, "in": "query", "required": false, "description": text, "schema": schema})
    };
    fields.map(parameter).collect()
}

fn document(entries: &[Entry]) -> Value {
    let mut answers = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let mut bodies = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator();
    let mut paths = Map::new();
    for entry in entries {
        let methods = paths.entry(&entry.path).or_insert_with(|| json!({}));
        methods[entry.method.as_str().to_ascii_lowercase()] = operation(entry, &mut answers, &mut bodies);
    }
    let error = answers.subschema_for::<RemoteError>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "codis-dashboard",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The HTTP API of a product's dashboard: Codis 3.2's routes, and ours under /api/topom/v2. What \
                            changes something is a PUT with its parameters in the path, and answers \"OK\".",
        },
        "paths": paths,
        "components": {
            "schemas": answers.take_definitions(true),
            "responses": {"Failed": {
                "description": "It was not done. Status 800: it was refused, or failed; Cause says why. 503: this instance \
                                is not the active one. 401: admin_token is set and was not given. 500: a bug.",
                "content": {"application/json": {"schema": error}},
            }},
            "securitySchemes": {"admin_token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(entry: &Entry, answers: &mut SchemaGenerator, bodies: &mut SchemaGenerator) -> Value {
    let Says {
        text,
        takes,
        answer,
        expects,
        asks,
    } = &entry.says;
    let named = asks.map(|asks| fields(asks(bodies))).unwrap_or_default();
    let parameters = parameters(&entry.path)
        .map(parameter)
        .chain(expects.map(epoch))
        .chain(named.into_iter().map(Some));
    let mut operation = json!({
        "operationId": operation_id(entry),
        "tags": [entry.subject],
        "summary": text,
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": {"default": {"$ref": "#/components/responses/Failed"}},
    });
    let (status, done) = match answer {
        Answer::Done => ("200", as_json("Done.", json!({"const": "OK"}))),
        Answer::Json(schema) => ("200", as_json("What was asked for.", schema(answers))),
        Answer::Text => (
            "200",
            json!({"description": "What was asked for.", "content": {"text/plain": {"schema": {"type": "string"}}}}),
        ),
        Answer::Redirect => ("302", json!({"description": "It is to be found elsewhere."})),
    };
    operation["responses"][status] = done;
    if let Some(takes) = takes {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": takes(bodies)}}});
    }
    if entry.method == axum::http::Method::PUT {
        // Either will do: the token is wanted only where one is set.
        operation["security"] = json!([{}, {"admin_token": []}]);
    }
    operation
}

fn as_json(text: &str, schema: impl Into<Value>) -> Value {
    json!({"description": text, "content": {"application/json": {"schema": schema.into()}}})
}

fn operation_id(entry: &Entry) -> String {
    let words = entry.path.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| !word.is_empty() && *word != XAUTH)
        .fold(entry.method.as_str().to_ascii_lowercase(), |id, word| {
            format!("{id}_{word}")
        })
}

fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_parameter_is_described_and_no_operation_has_the_name_of_another() {
        let table = routes::table();
        let mut ids = HashSet::new();
        for entry in table.entries() {
            assert!(ids.insert(operation_id(entry)), "{} {}", entry.method, entry.path);
            for name in parameters(&entry.path) {
                assert!(parameter(name).is_some(), "{name} in {}", entry.path);
            }
        }
    }

    #[test]
    fn what_the_description_refers_to_is_in_it() {
        let document: Value = serde_json::from_str(openapi()).unwrap();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 10);
        for reference in references {
            let place = reference.trim_start_matches('#');
            assert!(document.pointer(place).is_some(), "{reference}");
        }
    }

    fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                references.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
            _ => {}
        }
    }
}
