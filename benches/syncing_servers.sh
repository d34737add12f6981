# Servers for benches, which keep what they acknowledge as servers in production do: those of tests/with_servers.sh do
# not sync. To be sourced by a bench's run.sh, with `bench` set to its folder.

# shellcheck source=../tests/with_servers.sh
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../tests/with_servers.sh"
for file in "$tests"/servers/*.sh; do
    # shellcheck source=/dev/null
    source "$file"
done

# Makes the folder of the servers, and has them stopped at the end, however that comes.
prepare_servers() {
    # On the disk of this folder, since temporary folders are often no disk.
    mkdir -p "$bench/target"
    folder=$(mktemp -d "$bench/target/servers.XXXXXX")
    chmod 755 "$folder"
    trap stop_servers EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

start_syncing_postgres() {
    local port
    make_postgres "$folder/postgres" >"$folder/postgres.log" 2>&1
    port=$(free_port)
    SERVER_PID_FILES+=("$folder/postgres/db/postmaster.pid")
    run_postgres "$folder/postgres" "$port" -c shared_buffers=1GB -c max_wal_size=4GB >>"$folder/postgres.log" 2>&1 &
    wait_until $! "$folder/postgres.log" "$(postgres_programs)/pg_isready" -h 127.0.0.1 -p "$port"
    export CLOAKROOM_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
}

start_syncing_mariadb() {
    local port client
    make_mariadb "$folder/mariadb" >"$folder/mariadb.log" 2>&1
    port=$(free_port)
    SERVER_PID_FILES+=("$folder/mariadb/pid")
    run_mariadb "$folder/mariadb" "$port" --innodb-buffer-pool-size=1G --innodb-log-file-size=1G \
        >>"$folder/mariadb.log" 2>&1 &
    client=(--no-defaults --host=127.0.0.1 --port="$port" --user=root)
    wait_until $! "$folder/mariadb.log" mariadb-admin "${client[@]}" ping
    mariadb "${client[@]}" -e "CREATE DATABASE cloakroom"
    export CLOAKROOM_TEST_MYSQL_URL=mysql://root@127.0.0.1:$port/cloakroom
}

# Each second, as Redis's own documentation advises.
start_syncing_redis() {
    local setting
    start_redis "$folder"
    for setting in "appendonly yes" "appendfsync everysec" "auto-aof-rewrite-percentage 0"; do
        # shellcheck disable=SC2086
        redis-cli -u "$CLOAKROOM_TEST_REDIS_URL" config set $setting >/dev/null
    done
}

# Runs the bench, in the background, so that a signal is dealt with at once, and not when it ends.
run_bench() {
    "$@" &
    local command=$!
    # shellcheck disable=SC2064
    trap "kill $command 2>/dev/null; exit 130" INT
    # shellcheck disable=SC2064
    trap "kill $command 2>/dev/null; exit 143" TERM
    wait "$command"
}
