//! Tools to test stores and apps.

pub mod contract;
