//! Addresses of the applications' machines.

use std::net::Ipv4Addr;

/// Two octets of a network that has the addresses of all applications' machines.
pub(crate) type Network = (u8, u8);
/// Loopback, like all of 127.0.0.0/8.
pub(crate) const LOOPBACK: Network = (127, 1);

/// The address of an application's machine.
pub(crate) fn address((first, second): Network, application: usize) -> Ipv4Addr {
    let [.., high, low] = u32::try_from(application).unwrap_or(0).to_be_bytes();
    Ipv4Addr::new(first, second, high, low)
}
