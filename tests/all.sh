#!/usr/bin/env bash
# Runs every test. On a Debian with Rust it first installs what is missing, so it asks for root or sudo once.
#
# Plain `cargo test --all-features` runs all but the tests that need a browser or a server, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v cc >/dev/null || missing+=(build-essential)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
PATH=$PATH:/usr/sbin command -v mariadbd >/dev/null || missing+=(mariadb-server)
PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx-light)

if ((${#missing[@]})); then
    sudo=()
    ((EUID == 0)) || sudo=(sudo)
    echo "installing ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

# A suite whose browser or server is missing fails, instead of being left out.
export CLOAKROOM_TEST_EVERYTHING=1

tests/with_servers.sh cargo test --all-features "$@"
