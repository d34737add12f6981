#!/usr/bin/env bash
# Runs every test. On a Debian with Rust it first installs what is missing, so it asks for root or sudo once.
#
# Plain `cargo test --all-features` runs all but the tests that need a browser or a server, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/install_missing.sh cc=build-essential chromium=chromium chromedriver=chromium-driver initdb=postgresql \
    redis-server=redis-server mariadbd=mariadb-server nginx=nginx-light

# A suite whose browser or server is missing fails, instead of being left out.
export CLOAKROOM_TEST_EVERYTHING=1

tests/with_servers.sh cargo test --all-features "$@"
