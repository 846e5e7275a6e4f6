#!/bin/bash
# Runs the agent, the server and its pages until they are stopped (Ctrl-C).
set -euo pipefail
cd "$(dirname "$0")/.."

exec ${SUDO:-} .venv/bin/kernob up "$@"
