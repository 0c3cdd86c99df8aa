//! Parameters of requests, whose errors are problem documents.

use crate::admin::Problem;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The query.
pub(super) struct ApiQuery<T>(pub(super) T);

/// A parameter in the path.
pub(super) struct ApiPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let wrong = |error: QueryRejection| Problem::bad_request(error.body_text());
        Query::from_request_parts(parts, state).await.map(|Query(query)| Self(query)).map_err(wrong)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let wrong = |error: PathRejection| Problem::not_found(error.body_text());
        Path::from_request_parts(parts, state).await.map(|Path(path)| Self(path)).map_err(wrong)
    }
}
