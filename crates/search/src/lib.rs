//! Search over named values: what to try next, what to stop, and a store that loses nothing. It knows nothing of models.
//!
//! A [`Space`] says what may be chosen, [`Goals`] what better means. A [`Sampler`] is asked for the next point and sees the
//! [`History`]; [`Stopping`] sees what trials report on the way. Both are functions of the history and the seed: they hold no
//! state of their own, so that any worker can go on where another was killed.

mod goals;
mod history;
pub mod importance;
pub mod sampler;
pub mod space;
pub mod stopping;
pub mod store;
mod trial;

pub use goals::{Direction, Goals, Objective, dominates, hypervolume};
pub use history::History;
pub use sampler::{Ask, Sampler};
pub use space::{Domain, Parameter, Point, Space, Value};
pub use stopping::{Decision, Stopping};
pub use store::{Store, StoreError};
pub use trial::{Measured, Report, State, Trial};
