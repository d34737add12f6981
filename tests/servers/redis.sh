# A Redis server of its own for the tests, which keeps nothing.

start_redis() {
    [[ -z ${CLOAKROOM_TEST_REDIS_URL:-} ]] || return 0
    local folder=$1/redis port pid
    if ! command -v redis-server >/dev/null; then
        echo "with_servers.sh: no Redis is installed" >&2
        return 0
    fi
    mkdir -p "$folder"
    # A port that was free a moment ago may be taken by now: then another one is tried.
    for _ in {1..20}; do
        port=$((RANDOM % 12000 + 20000))
        redis-server --bind 127.0.0.1 --port "$port" --dir "$folder" --save "" --appendonly no \
            --logfile "$folder/log" --daemonize no >/dev/null 2>&1 &
        pid=$!
        SERVER_PIDS+=("$pid")
        for _ in {1..100}; do
            # Whether it is this server that answers, and not one that had the port before.
            if [[ $(redis-cli -p "$port" info server 2>/dev/null) == *process_id:$pid[!0-9]* ]]; then
                export CLOAKROOM_TEST_REDIS_URL=redis://127.0.0.1:$port
                return 0
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    echo "with_servers.sh: no Redis server came up:" >&2
    cat "$folder/log" >&2
    return 1
}
