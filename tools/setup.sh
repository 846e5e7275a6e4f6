#!/bin/bash
# Makes .venv with Kernob and its developer tools in it; installs the few system packages that
# are missing. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "kernob: $PYTHON is older than 3.11: install Python 3.11 or later, or say PYTHON=..." >&2
  exit 1
}

missing=()
"$PYTHON" -c 'import ctypes; ctypes.CDLL("libbpf.so.1")' 2>/dev/null || missing+=(libbpf1)
[ -e /usr/include/bpf/bpf_helpers.h ] || missing+=(libbpf-dev)
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || {
    echo "kernob: missing: ${missing[*]}; this is no Debian: install them by hand" >&2
    exit 1
  }
  echo "kernob: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  ${SUDO:-} apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    { ${SUDO:-} apt-get update -qq; ${SUDO:-} apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
fi

[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[server]' --group dev
