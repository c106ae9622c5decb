//! The state machine against a world in which every request can go wrong.

mod asking;
mod breakers;
mod driver;
mod faults;
mod held;
mod late;
mod life;
mod models;
mod others;
mod phases;
mod records;
mod telling;
mod unneeded;
mod world;

use driver::{Run, drive};
use world::{Aftermath, Executor, Fault, Investigator, StepFn, World};
