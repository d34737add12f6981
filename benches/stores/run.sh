#!/usr/bin/env bash
# Runs the bench of the stores next to servers of its own, which keep what they acknowledge.
#
#     benches/stores/run.sh postgres --sessions 1000,100000 --out benches/results
set -euo pipefail

bench=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=../syncing_servers.sh
source "$bench/../syncing_servers.sh"

if [[ " $* " == *" --quick "* ]]; then
    # Whether it works can be seen without the optimizer, which takes minutes, and with what the crate's own tests
    # have built already.
    target=$bench/../../target program=$target/debug/stores
    cargo build --target-dir "$target" --manifest-path "$bench/Cargo.toml"
else
    program=$bench/target/release/stores
    cargo build --release --manifest-path "$bench/Cargo.toml"
fi
prepare_servers

# wants STORE ARGUMENT...: whether the store is to be measured, as all are where none is named.
wants() {
    local store=$1 argument any=
    shift
    for argument; do
        [[ $argument != "$store" ]] || return 0
        [[ ! $argument =~ ^(memory|file|sqlite|postgres|mysql|redis)$ ]] || any=1
    done
    [[ -z $any ]]
}

if wants postgres "$@"; then start_syncing_postgres; fi
if wants mysql "$@"; then start_syncing_mariadb; fi
if wants redis "$@"; then start_syncing_redis; fi

run_bench "$program" "$@"
