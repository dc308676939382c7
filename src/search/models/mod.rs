//! The models: their files, where they come from, and how they are run.
