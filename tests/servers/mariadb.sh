# A MariaDB server, for CLOAKROOM_TEST_MYSQL_URL.

mariadb_program() {
    PATH=$PATH:/usr/sbin command -v mariadbd
}

# make_mariadb DATA: new databases.
make_mariadb() {
    mkdir "$1" "$1/tmp"
    ((EUID != 0)) || chown mysql "$1" "$1/tmp"
    # No file of options: those of the machine's own server are not meant for this one.
    TMPDIR=$1/tmp as_user mysql mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db \
        --datadir="$1/db"
}

# run_mariadb DATA PORT OPTION...
run_mariadb() {
    local data=$1 port=$2
    shift 2
    # A server that starts removes the temporary tables that it finds, and those of other servers with them.
    TMPDIR=$data/tmp as_user mysql "$(mariadb_program)" --no-defaults --datadir="$data/db" --port="$port" \
        --bind-address=127.0.0.1 --socket="$data/socket" --pid-file="$data/pid" --max-connections=300 "$@"
}

start_mariadb() {
    [[ -z ${CLOAKROOM_TEST_MYSQL_URL:-} ]] || return 0
    local data=$1/mariadb log=$1/mariadb.log port starter client
    if ! mariadb_program >/dev/null; then
        echo "with_servers.sh: no MariaDB is installed" >&2
        return 0
    fi
    make_mariadb "$data" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
    port=$(free_port)
    SERVER_PID_FILES+=("$data/pid")
    # Without syncing, since most tests are of what a running server does.
    run_mariadb "$data" "$port" --innodb-flush-log-at-trx-commit=2 >>"$log" 2>&1 &
    starter=$!
    client=(--no-defaults --host=127.0.0.1 --port="$port" --user=root)
    wait_until "$starter" "$log" mariadb-admin "${client[@]}" ping
    mariadb "${client[@]}" -e "CREATE DATABASE cloakroom"
    export CLOAKROOM_TEST_MYSQL_URL=mysql://root@127.0.0.1:$port/cloakroom
}
