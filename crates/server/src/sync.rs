//! The atomics that the hop is made of; under `--cfg memwire_loom` those of the model checker.

#[cfg(not(memwire_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(memwire_loom)]
pub(crate) use self::model::AtomicBool;
#[cfg(memwire_loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};

#[cfg(memwire_loom)]
mod model {
    use loom::sync::atomic::{self, Ordering};

    /// A store is made as a swap here. To loom a plain store and another thread's read-modify-write before it have
    /// no order, so that a third access may see the older of the two; the language has no such execution, since
    /// nothing stands between a read-modify-write and what it read. A relaxed swap orders nothing else.
    #[derive(Debug)]
    pub(crate) struct AtomicBool(atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(atomic::AtomicBool::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}
