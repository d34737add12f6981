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

start_postgres() {
    [[ -z ${CLOAKROOM_TEST_POSTGRES_URL:-} ]] || return 0
    local data=$1/postgres programs port
    programs=$(postgres_programs)
    if [[ ! -x $programs/initdb ]]; then
        echo "with_servers.sh: no PostgreSQL is installed" >&2
        return 0
    fi
    mkdir "$data"
    ((EUID != 0)) || chown postgres "$data"
    as_user postgres "$programs/initdb" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
        --no-sync -D "$data/db" >"$1/postgres.log" 2>&1 || { cat "$1/postgres.log" >&2; return 1; }
    port=$(free_port)
    # Without fsync, since most tests are of what a running server does.
    as_user postgres "$programs/postgres" -D "$data/db" -p "$port" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=300 \
        -c deadlock_timeout=200ms >>"$1/postgres.log" 2>&1 &
    local starter=$!
    wait_until "$starter" "$1/postgres.log" "$programs/pg_isready" -h 127.0.0.1 -p "$port"
    # The server itself, and not what changed the user for it.
    SERVER_PIDS+=("$(head -n 1 "$data/db/postmaster.pid")")
    export CLOAKROOM_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
}
