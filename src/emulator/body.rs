//! Receives the body of a request, within limits.
//!
//! The size and the time of a body are limited, and all bodies in progress share a memory budget: a request that
//! exceeds it waits for others to finish. A body that arrives in one piece is not copied.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::refusal::{ErrorName, Refusal};

/// Memory for bodies, in units of [`UNIT_OCTETS`].
#[derive(Debug)]
pub(super) struct BodyBudget {
    units: Semaphore,
    total: u32,
}

/// A body and the share of the budget that it holds.
pub(super) struct ReadBody<'a> {
    pub(super) octets: Bytes,
    /// Must live as long as any part of the body.
    pub(super) share: SemaphorePermit<'a>,
}

impl BodyBudget {
    /// The budget holds at least one body of the largest size.
    pub(super) fn new(octets: usize, body_octets_max: usize) -> Self {
        let total = units(octets.max(body_octets_max));
        Self { units: Semaphore::new(total as usize), total }
    }

    pub(super) async fn read(
        &self,
        body: Incoming,
        octets_max: usize,
        time_max: Duration,
    ) -> Result<ReadBody<'_>, Refusal> {
        let announced = body.size_hint().exact().map(|octets| usize::try_from(octets).unwrap_or(usize::MAX));
        if announced.is_some_and(|octets| octets > octets_max) {
            return Err(ErrorName::RequestEntityTooLarge.into());
        }
        let share = units(announced.unwrap_or(octets_max)).min(self.total);
        let Ok(share) = self.units.acquire_many(share).await else {
            return Err(ErrorName::ServiceUnavailable.into());
        };
        match tokio::time::timeout(time_max, collect(body, announced, octets_max)).await {
            Ok(read) => Ok(ReadBody { octets: read?, share }),
            Err(_) => Err(ErrorName::RequestTimeout.into()),
        }
    }
}

async fn collect(mut body: Incoming, announced: Option<usize>, octets_max: usize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // The client closed the connection and will not read the response.
        let Ok(octets) = frame.map_err(|_| Refusal::from(ErrorName::RequestTimeout))?.into_data() else { continue };
        if first.len() + all.len() + octets.len() > octets_max {
            return Err(ErrorName::RequestEntityTooLarge.into());
        }
        if first.is_empty() && all.is_empty() {
            first = octets;
            continue;
        }
        if all.is_empty() {
            all.reserve(announced.unwrap_or(first.len() * 2));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&octets);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn units(octets: usize) -> u32 {
    u32::try_from(octets / UNIT_OCTETS + 1).unwrap_or(u32::MAX).min(UNITS_MAX)
}

const UNIT_OCTETS: usize = 1024;
/// Within the limit of a tokio semaphore: 512 GiB in units.
const UNITS_MAX: u32 = 1 << 29;
