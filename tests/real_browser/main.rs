//! What a real browser does with the session's cookie, and a real cache with the responses: Chromium at sites of
//! their own names, by HTTPS, which the tests serve.
//!
//! Where a test names what the browser lets through or refuses, Chromium 156 was seen to do so. Another browser, or
//! another version, may do otherwise, and then these tests say what has changed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/example.rs"]
#[allow(dead_code)]
mod example;
#[path = "../support/example_client.rs"]
#[allow(dead_code)]
mod example_client;

mod acceptance;
mod certificate;
mod configurations;
mod cross_site;
mod jar;
mod nginx;
mod removal;
mod scripts;
mod server;
mod shadowing;
mod shared_cache;
mod shop;
