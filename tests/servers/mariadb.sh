# A MariaDB server, for CLOAKROOM_TEST_MYSQL_URL.

start_mariadb() {
    [[ -z ${CLOAKROOM_TEST_MYSQL_URL:-} ]] || return 0
    local data=$1/mariadb server port
    if ! server=$(PATH=$PATH:/usr/sbin command -v mariadbd); then
        echo "with_servers.sh: no MariaDB is installed" >&2
        return 0
    fi
    mkdir "$data"
    ((EUID != 0)) || chown mysql "$data"
    # No file of options: those of the machine's own server are not meant for this one.
    as_user mysql mariadb-install-db --no-defaults --auth-root-authentication-method=normal \
        --skip-test-db --datadir="$data/db" >"$1/mariadb.log" 2>&1 || { cat "$1/mariadb.log" >&2; return 1; }
    port=$(free_port)
    # Without syncing, since most tests are of what a running server does.
    as_user mysql "$server" --no-defaults --datadir="$data/db" --port="$port" --bind-address=127.0.0.1 \
        --socket="$data/socket" --pid-file="$data/pid" --max-connections=300 \
        --innodb-flush-log-at-trx-commit=2 >>"$1/mariadb.log" 2>&1 &
    local starter=$!
    wait_until "$starter" "$1/mariadb.log" mariadb-admin --no-defaults --host=127.0.0.1 --port="$port" \
        --user=root ping
    SERVER_PIDS+=("$(cat "$data/pid")")
    mariadb --no-defaults --host=127.0.0.1 --port="$port" --user=root -e "CREATE DATABASE cloakroom"
    export CLOAKROOM_TEST_MYSQL_URL=mysql://root@127.0.0.1:$port/cloakroom
}
