//! Boxed futures.

use std::pin::Pin;

/// Creates a future in its box. `Box::pin(future)` creates it on the stack and moves the whole state, of which hardly
/// anything is initialised: 10 KB for a call to SES.
pub(crate) fn boxed<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}
