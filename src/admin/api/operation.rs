//! One operation of the API: its route, and what the OpenAPI document says of it.

use crate::admin::AdminContext;
use axum::http::StatusCode;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::sync::Arc;

type Route = fn() -> MethodRouter<Arc<AdminContext>>;
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// An operation.
pub(super) struct Operation {
    /// `get` or `post`.
    pub(super) method: &'static str,
    /// After the prefix; `{name}` is a parameter.
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// Whether it changes something or shows content, so that it needs an operator.
    pub(super) changes: bool,
    pub(super) route: Route,
    /// The parameters in the query, as the members of an object.
    pub(super) query: Option<SchemaOf>,
    /// What the body has, as JSON.
    pub(super) body: Option<SchemaOf>,
    pub(super) status: StatusCode,
    /// `None`: the content of a message.
    pub(super) answer: Option<SchemaOf>,
}

impl Operation {
    /// One that reads.
    pub(super) fn get<A: JsonSchema>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        route: Route,
    ) -> Self {
        let answer: SchemaOf = |generator| generator.subschema_for::<A>();
        let (query, status) = (None, StatusCode::OK);
        Self {
            method: "get",
            path,
            id,
            summary,
            changes: false,
            route,
            query,
            body: None,
            status,
            answer: Some(answer),
        }
    }

    /// One that changes something.
    pub(super) fn change<A: JsonSchema>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        route: Route,
    ) -> Self {
        Self { method: "post", changes: true, ..Self::get::<A>(path, id, summary, route) }
    }

    /// One that answers the content of a message.
    pub(super) fn content(path: &'static str, id: &'static str, summary: &'static str, route: Route) -> Self {
        Self { changes: true, answer: None, ..Self::get::<()>(path, id, summary, route) }
    }

    /// It is a POST with this in its body.
    pub(super) fn body<B: JsonSchema>(self) -> Self {
        Self { method: "post", body: Some(|generator| generator.subschema_for::<B>()), ..self }
    }

    pub(super) fn query<Q: JsonSchema>(self) -> Self {
        Self { query: Some(|generator| generator.root_schema_for::<Q>()), ..self }
    }

    pub(super) fn answers(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}
