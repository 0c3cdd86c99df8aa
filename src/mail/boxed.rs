//! Frames: the memory in which a future keeps its state.

use std::pin::Pin;

/// A future in a box, made where it will lie. `Box::pin(future)` makes it on the stack and moves the whole frame from there,
/// of which hardly anything is filled yet: 10 KB for a call to SES.
pub(crate) fn boxed<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}
