#!/usr/bin/env bash
# Runs the bench of the stores next to servers of its own, which keep what they acknowledge as servers in production
# do: those of tests/with_servers.sh do not sync.
#
#     benches/stores/run.sh postgres --sessions 1000,100000 --out benches/results
set -euo pipefail

bench=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=../../tests/with_servers.sh
source "$bench/../../tests/with_servers.sh"
for file in "$tests"/servers/*.sh; do
    # shellcheck source=/dev/null
    source "$file"
done

cargo build --release --manifest-path "$bench/Cargo.toml"

# On the disk of this folder, since temporary folders are often no disk.
folder=$(mktemp -d "$bench/target/servers.XXXXXX")
chmod 755 "$folder"
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

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

if wants postgres "$@"; then
    make_postgres "$folder/postgres" >"$folder/postgres.log" 2>&1
    port=$(free_port)
    SERVER_PID_FILES+=("$folder/postgres/db/postmaster.pid")
    run_postgres "$folder/postgres" "$port" -c shared_buffers=1GB -c max_wal_size=4GB >>"$folder/postgres.log" 2>&1 &
    wait_until $! "$folder/postgres.log" "$(postgres_programs)/pg_isready" -h 127.0.0.1 -p "$port"
    export CLOAKROOM_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
fi

if wants mysql "$@"; then
    make_mariadb "$folder/mariadb" >"$folder/mariadb.log" 2>&1
    port=$(free_port)
    SERVER_PID_FILES+=("$folder/mariadb/pid")
    run_mariadb "$folder/mariadb" "$port" --innodb-buffer-pool-size=1G --innodb-log-file-size=1G \
        >>"$folder/mariadb.log" 2>&1 &
    client=(--no-defaults --host=127.0.0.1 --port="$port" --user=root)
    wait_until $! "$folder/mariadb.log" mariadb-admin "${client[@]}" ping
    mariadb "${client[@]}" -e "CREATE DATABASE cloakroom"
    export CLOAKROOM_TEST_MYSQL_URL=mysql://root@127.0.0.1:$port/cloakroom
fi

if wants redis "$@"; then
    start_redis "$folder"
    for setting in "appendonly yes" "appendfsync everysec" "auto-aof-rewrite-percentage 0"; do
        # shellcheck disable=SC2086
        redis-cli -u "$CLOAKROOM_TEST_REDIS_URL" config set $setting >/dev/null
    done
fi

# In the background, so that a signal is dealt with at once, and not when the command ends.
"$bench/target/release/stores" "$@" &
command=$!
trap 'kill "$command" 2>/dev/null; exit 130' INT
trap 'kill "$command" 2>/dev/null; exit 143' TERM
wait "$command"
