#!/bin/bash
# Starts the agent, says where its metrics are, and shows the live table until it is left. Without
# a terminal: prints the table once and stays until it is stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp -t kernob.XXXXXX)
${SUDO:-} .venv/bin/kernob agent "$@" 2>"$log" &
agent=$!
stop() {
  ${SUDO:-} kill "$agent" 2>/dev/null || true
  wait "$agent" 2>/dev/null || true
  rm -f "$log"
}
trap stop EXIT
trap 'exit 0' INT TERM

# The agent says where its metrics are once it counts.
for _ in $(seq 100); do
  kill -0 "$agent" 2>/dev/null || break
  grep -q '/metrics$' "$log" && break
  sleep 0.1
done
cat "$log" >&2
kill -0 "$agent" 2>/dev/null || { wait "$agent"; exit; }

if [ -t 0 ] && [ -t 1 ]; then
  .venv/bin/kernob top
else
  .venv/bin/kernob top --once
  wait "$agent"
fi
