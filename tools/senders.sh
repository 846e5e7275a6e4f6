#!/bin/bash
# Builds the programs of tests/senders that send with OpenTelemetry's SDKs (go, java, node), into a
# cache that outlives the clone, and prints where each is. Later it takes no time. A language whose
# tools are missing is left out.
#   senders.sh                 builds what isn't there
#   senders.sh --path go       only says where that one would be
set -euo pipefail
here=$(cd "$(dirname "$0")/../tests/senders" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kernob

folder() { # of a sender, by its content
  echo "$cache/sender-$1-$(cd "$here/$1" && cat -- $(ls) | sha256sum | cut -c1-12)"
}

build_go() { go build -trimpath -o sender .; }
build_node() { npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; }
build_java() {
  mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib
  javac -cp 'lib/*' -d classes Sender.java
}

if [ "${1:-}" = --path ]; then
  folder "$2"
  exit
fi
mkdir -p "$cache"
exec 9>"$cache/senders.lock"
flock 9
failed=0
for pair in go:go node:npm java:mvn; do
  name=${pair%%:*}
  target=$(folder "$name")
  if [ ! -d "$target" ]; then
    command -v "${pair##*:}" >/dev/null || {
      echo "kernob: no ${pair##*:} to build the sender in $name with: its tests are skipped" >&2
      continue
    }
    work=$(mktemp -d "$cache/build.XXXXXX")
    cp "$here/$name"/* "$work"
    if (cd "$work" && nice -n 10 bash -c "$(declare -f "build_$name"); set -e; build_$name" >&2); then
      mv "$work" "$target"
    else
      rm -rf "$work"
      failed=1
      continue
    fi
  fi
  echo "$target"
done
exit $failed
