#!/usr/bin/env bash
# Installs Debian packages a program of which is missing, for which it asks for root or sudo:
#
#     tests/install_missing.sh cc=build-essential redis-server=redis-server
set -euo pipefail

# Not all of Debian's programs are on everyone's path.
PATH=$PATH:/usr/sbin$(printf ':%s' /usr/lib/postgresql/*/bin)

missing=()
for pair; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
((${#missing[@]})) || exit 0

sudo=()
((EUID == 0)) || sudo=(sudo)
echo "installing ${missing[*]}"
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
