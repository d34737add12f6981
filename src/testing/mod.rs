//! Tools to test stores and apps.
