# A PostgreSQL server, for CLOAKROOM_TEST_POSTGRES_URL.

# The folder of PostgreSQL's programs, which Debian keeps out of the PATH.
postgres_programs() {
    local programs
    if programs=$(command -v initdb); then
        dirname "$(realpath "$programs")"
    else
        printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1
    fi
}

# make_postgres DATA: a new cluster of databases.
make_postgres() {
    mkdir "$1"
    ((EUID != 0)) || chown postgres "$1"
    as_user postgres "$(postgres_programs)/initdb" --username=postgres --auth=trust --encoding=UTF8 \
        --locale=C.UTF-8 --no-sync -D "$1/db"
}

# run_postgres DATA PORT OPTION...
run_postgres() {
    local data=$1 port=$2
    shift 2
    as_user postgres "$(postgres_programs)/postgres" -D "$data/db" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c max_connections=300 "$@"
}

start_postgres() {
    [[ -z ${CLOAKROOM_TEST_POSTGRES_URL:-} ]] || return 0
    local data=$1/postgres log=$1/postgres.log port starter
    if [[ ! -x $(postgres_programs)/initdb ]]; then
        echo "with_servers.sh: no PostgreSQL is installed" >&2
        return 0
    fi
    make_postgres "$data" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
    port=$(free_port)
    # The server itself, and not what changed the user for it.
    SERVER_PID_FILES+=("$data/db/postmaster.pid")
    # Without fsync, since most tests are of what a running server does.
    run_postgres "$data" "$port" -c fsync=off -c deadlock_timeout=200ms >>"$log" 2>&1 &
    starter=$!
    wait_until "$starter" "$log" "$(postgres_programs)/pg_isready" -h 127.0.0.1 -p "$port"
    export CLOAKROOM_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
}
