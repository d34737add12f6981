#!/usr/bin/env bash
# Runs a command next to throwaway servers, which it stops and removes at the end, however that comes:
#
#     tests/with_servers.sh cargo test --all-features
#
# Each file of tests/servers is one server. It defines start_NAME FOLDER, which
# - does nothing if the variable is set that says where the server is: the tests then use that one;
# - starts a server on a free port of 127.0.0.1, with its data below FOLDER, and waits until it answers;
# - puts its process id into SERVER_PIDS, or the file in which it writes that into SERVER_PID_FILES, before it waits;
# - exports the variable.
#
# A test that needs a server of its own sources this file for its functions.
set -euo pipefail

tests=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
SERVER_PIDS=()
SERVER_PID_FILES=()

# Says a port on which nobody listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# wait_until PID LOG CHECK...: waits until the check succeeds, for a minute at most.
wait_until() {
    local pid=$1 log=$2 _
    shift 2
    for _ in {1..600}; do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "with_servers.sh: a server does not answer:" >&2
    cat "$log" >&2
    return 1
}

# Runs a command as the user NAME if this is root, which some servers refuse to run as.
as_user() {
    local name=$1
    shift
    if ((EUID == 0)); then runuser -u "$name" -- "$@"; else "$@"; fi
}

# has_ended PID: a process that has not been waited for is still there, as a zombie.
has_ended() {
    [[ ! -e /proc/$1/stat ]] || [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]
}

stop_servers() {
    local status=$? pid file _
    trap - EXIT INT TERM
    for file in "${SERVER_PID_FILES[@]}"; do
        [[ ! -s $file ]] || SERVER_PIDS+=("$(head -n 1 "$file")")
    done
    for pid in "${SERVER_PIDS[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${SERVER_PIDS[@]}"; do
        for _ in {1..100}; do
            has_ended "$pid" && break
            sleep 0.1
        done
        has_ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$folder"
    exit "$status"
}

[[ ${BASH_SOURCE[0]} == "$0" ]] || return 0

folder=$(mktemp -d)
chmod 755 "$folder"
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for file in "$tests"/servers/*.sh; do
    # shellcheck source=/dev/null
    source "$file"
    "start_$(basename "$file" .sh)" "$folder"
done

# In the background, so that a signal is dealt with at once, and not when the command ends.
"$@" &
command=$!
trap 'kill -INT "$command" 2>/dev/null; exit 130' INT
trap 'kill -TERM "$command" 2>/dev/null; exit 143' TERM
wait "$command"
