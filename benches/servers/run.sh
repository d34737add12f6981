#!/usr/bin/env bash
# Runs the bench of apps on real servers, next to servers of its own, which keep what they acknowledge.
#
#     benches/servers/run.sh redis --rounds 5 --out benches/results/servers.csv
set -euo pipefail

bench=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=../syncing_servers.sh
source "$bench/../syncing_servers.sh"

# Installs what the app of express-session consists of, unless that is done.
install_express() {
    local app=$bench/express
    [[ ! $app/node_modules/.package-lock.json -nt $app/package-lock.json ]] || return 0
    node --eval 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || return
    timeout 120 npm ci --prefix "$app" --loglevel=error --no-audit --no-fund
}

if [[ " $* " == *" --quick "* ]]; then
    # Whether it works can be seen without the optimizer, which takes minutes, and with what the crate's own tests
    # have built already.
    target=$bench/../../target program=$target/debug/servers
    cargo build --target-dir "$target" --manifest-path "$bench/Cargo.toml"
    if ! install_express; then
        echo "LEFT OUT: express-session. It takes Node 20 or newer, npm, and a registry that answers." >&2
        set -- --apps "no session,by hand,cloakroom,tower-sessions" "$@"
    fi
else
    target=$bench/target program=$target/release/servers
    cargo build --release --target-dir "$target" --manifest-path "$bench/Cargo.toml"
    install_express
fi

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
