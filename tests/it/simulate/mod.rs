//! Tests of the simulator through its public interface: its files, its refusals, and its ground truth.
mod content;
mod ownership;
mod place;
