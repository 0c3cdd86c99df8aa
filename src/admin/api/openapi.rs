//! The OpenAPI 3.1 document, made from the table of operations and the types of the answers.

use super::operation::Operation;
use super::{PREFIX, Problem, operations};
use crate::admin::problem;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The document, as `config/openapi.json` contains it.
pub(crate) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", build()));
    &DOCUMENT
}

pub(super) async fn show() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}

fn build() -> Value {
    let settings = |change: fn(&mut SchemaSettings)| SchemaSettings::draft2020_12().with(change);
    let mut answers =
        settings(|it| it.definitions_path = "/components/schemas".into()).for_serialize().into_generator();
    let mut queries = settings(|it| it.inline_subschemas = true).into_generator();
    let problem = answers.subschema_for::<Problem>();
    let problem = json!({
        "description": "A problem document (RFC 9457)",
        "content": { (problem::MEDIA_TYPE): { "schema": problem } },
    });
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let described = describe(&operation, &mut answers, &mut queries);
        let path = paths.entry(format!("{PREFIX}{}", operation.path)).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gatepost",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin API of an SMTP relay. Every token reads; operations marked x-operator need a token of \
                            admin.operator_tokens, or a Unix socket.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": answers.take_definitions(true),
            "responses": { "Problem": problem },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn describe(operation: &Operation, answers: &mut SchemaGenerator, queries: &mut SchemaGenerator) -> Value {
    let in_path = operation.path.split(['{', '}']).skip(1).step_by(2);
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if let Some(query) = operation.query {
        let object = query(queries).to_value();
        let required = |name: &str| object["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name));
        for (name, schema) in object["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            parameters.push(json!({
                "name": name, "in": "query", "required": required(name), "description": description, "schema": schema,
            }));
        }
    }
    let content = match operation.answer {
        Some(answer) => json!({ "application/json": { "schema": answer(answers) } }),
        None => json!({ "message/rfc822": {} }),
    };
    let body = operation
        .body
        .map(|body| json!({ "required": true, "content": { "application/json": { "schema": body(queries) } } }));
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "x-operator": operation.changes,
        "parameters": parameters,
        "responses": {
            (operation.status.as_str()): { "description": operation.summary, "content": content },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    if let Some(body) = body {
        described["requestBody"] = body;
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_document_is_the_one_that_the_program_serves() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/openapi.json");
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "run: cargo run -- openapi > config/openapi.json";
        assert!(stored == document(), "config/openapi.json is not up to date; {hint}");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_own_id() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = build();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(target.is_some(), "{reference}");
        }
        let mut ids: Vec<&str> = operations().iter().map(|operation| operation.id).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }
}
