#!/usr/bin/env bash
# Runs the bench of apps on real servers, next to servers of its own, which keep what they acknowledge.
#
#     benches/servers/run.sh redis --rounds 5 --out benches/results/servers.csv
set -euo pipefail

bench=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=../syncing_servers.sh
source "$bench/../syncing_servers.sh"

# Whether it works can be seen without the optimizer, which takes minutes.
profile=(--release) program=$bench/target/release/servers
if [[ " $* " == *" --quick "* ]]; then
    profile=() program=$bench/target/debug/servers
fi
cargo build "${profile[@]}" --manifest-path "$bench/Cargo.toml"
npm ci --prefix "$bench/express" --silent --no-audit --no-fund

# The app has the first core to itself, so that it is the app that sets the pace and not who else is on its core: what
# sends the requests, and the servers, have the others.
cores=$(nproc --all)
if ((cores > 1)); then
    taskset --cpu-list --pid "1-$((cores - 1))" $$ >/dev/null
    set -- --app-core 0 "$@"
fi

prepare_servers
start_syncing_postgres
start_syncing_redis

run_bench "$program" "$@"
