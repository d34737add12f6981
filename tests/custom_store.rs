//! The store of the example keeps the contract: the tests are in the example itself.
#![allow(dead_code)]

#[path = "../examples/custom_store.rs"]
mod example;
