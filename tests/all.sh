#!/usr/bin/env bash
# Runs every test. On a Debian with Rust it first installs what is missing, so it asks for root or sudo once.
#
# Plain `cargo test --all-features` runs all but the tests that need a browser, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v cc >/dev/null || missing+=(build-essential)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v redis-server >/dev/null || missing+=(redis-server)

if ((${#missing[@]})); then
    sudo=()
    ((EUID == 0)) || sudo=(sudo)
    echo "installing ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

# A suite whose browser or server is missing fails, instead of being left out.
export CLOAKROOM_TEST_EVERYTHING=1

cargo test --all-features "$@"
