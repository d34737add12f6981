# A Redis Cluster of its own for the tests: three masters with a replica each, which keep nothing.

start_redis_cluster() {
    [[ -z ${CLOAKROOM_TEST_REDIS_CLUSTER_URLS:-} ]] || return 0
    local folder=$1/redis_cluster ports=() urls=() port pid node
    if ! command -v redis-server >/dev/null; then
        echo "with_servers.sh: no Redis is installed" >&2
        return 0
    fi
    mkdir -p "$folder"
    for _ in {1..60}; do
        ((${#ports[@]} < 6)) || break
        # The nodes talk to each other on a second port, which is 10000 above. A port that is taken ends
        # the server at once: then another one is tried.
        port=$((RANDOM % 10000 + 20000))
        mkdir -p "$folder/$port"
        redis-server --bind 127.0.0.1 --port "$port" --dir "$folder/$port" --save "" --appendonly no \
            --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 2000 \
            --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 \
            --logfile "$folder/$port/log" --daemonize no >/dev/null 2>&1 &
        pid=$!
        SERVER_PIDS+=("$pid")
        for _ in {1..100}; do
            if [[ $(redis-cli -p "$port" info server 2>/dev/null) == *process_id:$pid[!0-9]* ]]; then
                ports+=("$port")
                urls+=("redis://127.0.0.1:$port")
                break
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
    if ((${#ports[@]} < 6)); then
        echo "with_servers.sh: no six Redis servers came up:" >&2
        tail -n 3 "$folder"/*/log >&2
        return 1
    fi
    if ! redis-cli --cluster create "${ports[@]/#/127.0.0.1:}" --cluster-replicas 1 --cluster-yes \
        >"$folder/create" 2>&1; then
        cat "$folder/create" >&2
        return 1
    fi
    # Each node has to know of it, and each master to have a replica that follows: one that has confirmed
    # something, which comes some time after it is online.
    for _ in {1..300}; do
        sleep 0.1
        for port in "${ports[@]}"; do
            node=$(redis-cli -p "$port" cluster info; redis-cli -p "$port" info replication) || continue 2
            [[ $node == *cluster_state:ok* ]] || continue 2
            [[ $node == *role:master*state=online,offset=[1-9]* || $node == *master_link_status:up* ]] || continue 2
        done
        CLOAKROOM_TEST_REDIS_CLUSTER_URLS=$(IFS=,; echo "${urls[*]}")
        export CLOAKROOM_TEST_REDIS_CLUSTER_URLS
        return 0
    done
    echo "with_servers.sh: the Redis cluster did not come up:" >&2
    tail -n 3 "$folder"/*/log >&2
    return 1
}
