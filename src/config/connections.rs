//! `[connections]`: limits on concurrent connections.

use super::number::Count;
use super::section::section;

section! {
    /// Concurrent connections.
    pub(crate) Connections {
        /// Concurrent connections, over all listeners; further ones receive 421. The process needs two file descriptors for each
        /// and some more (LimitNOFILE=).
        total_max: Count = Count::of(1_000),
        /// Concurrent connections of clients that are not recognised: none of their MAIL commands was accepted, and no login
        /// succeeded. The remaining ones are reserved for recognised clients, and for addresses that were recognised within
        /// a day. At the limit, the oldest connection that was not recognised within 5 seconds is closed with 421 in favour
        /// of a new one. Default: three quarters of total_max.
        #[schemars(example = 750)]
        unrecognised_max: Option<Count> = None,
        /// Concurrent connections from one client address (for IPv6, from one /64).
        per_client_max: Count = Count::of(200),
        /// Concurrent connections of one application, unless its `[[app]]` sets connections_max. Default: no limit.
        #[schemars(example = 100)]
        per_app_max: Option<Count> = None,
    } []
}
