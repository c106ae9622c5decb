//! The state machine against a world in which every request can go wrong.

mod faults;
mod phases;
mod world;

use world::{Aftermath, Executor, Fault, Investigator, Run, StepFn, World, drive};
