#!/bin/bash
# Runs all tests. Where it may, it first installs the servers and tools that the live tests use;
# a test whose server is missing is skipped with its reason (and fails where CI=true).
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package
tools=(bpftool:bpftool nginx:nginx wrk:wrk ip:iproute2 openssl:openssl curl:curl setpriv:util-linux tmux:tmux
  nft:nftables prometheus:prometheus victoria-metrics:victoria-metrics podman:podman runc:runc
  busybox:busybox-static ps:procps perl:perl
  qemu-system-x86_64:qemu-system-x86 debootstrap:debootstrap mke2fs:e2fsprogs
  chromium:chromium faketime:faketime mount:mount systemd-analyze:systemd
  redis-server:redis-server redis-benchmark:redis-tools memcached:memcached
  dnsmasq:dnsmasq-base dig:bind9-dnsutils
  mariadbd:mariadb-server mariadb:mariadb-client sysbench:sysbench
  pg_ctlcluster:postgresql)
missing=()
export PATH=$PATH:/usr/sbin:/sbin
for tool in "${tools[@]}"; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || [ -n "${SUDO:-}" ]; }; then
  echo "kernob: installing for the tests: ${missing[*]}"
  # No server of the host's is started by its package: the tests start their own.
  install() { ${SUDO:-} env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
  install || { ${SUDO:-} apt-get update -qq; install; } ||
    echo "kernob: not all of them could be installed: their tests are skipped" >&2
fi

if command -v go >/dev/null; then
  for collector in manifest clickhouse; do
    tools/collector.sh $collector >/dev/null || echo "kernob: no Collector: its tests are skipped" >&2
  done
fi
tools/senders.sh >/dev/null || echo "kernob: not all SDKs: their tests are skipped" >&2

exec ${SUDO:-} .venv/bin/pytest "$@"
