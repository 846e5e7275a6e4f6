#!/bin/bash
# Runs the demo until it is stopped (Ctrl-C); installs the servers that it needs where it may.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package
tools=(nginx:nginx redis-server:redis-server mariadbd:mariadb-server memcached:memcached
  dnsmasq:dnsmasq-base setpriv:util-linux)
missing=()
export PATH=$PATH:/usr/sbin:/sbin
for tool in "${tools[@]}"; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || {
    echo "demo: missing: ${missing[*]}; this is no Debian: install them by hand" >&2
    exit 1
  }
  echo "demo: installing ${missing[*]}"
  # No server of the host's is started by its package: the demo starts its own.
  install() { ${SUDO:-} env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
  install || { ${SUDO:-} apt-get update -qq; install; }
fi

# As root for the agent; what it watches runs as the user who says sudo, or as nobody.
exec ${SUDO:-} .venv/bin/python -m demo "$@"
