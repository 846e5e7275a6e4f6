#!/bin/bash
# Prints the path of the OpenTelemetry Collector that the tests send to. The first time it builds
# it (minutes; needs Go), into a cache that outlives the clone; later it takes no time.
#   collector.sh                     builds if needed
#   collector.sh --path              only says where it would be
#   collector.sh [--path] NAME       the one of collector/NAME.yaml: clickhouse, bench
set -euo pipefail
VERSION=v0.149.0
build=yes
[ "${1:-}" != --path ] || { build=; shift; }
manifest=$(cd "$(dirname "$0")" && pwd)/collector/${1:-manifest}.yaml
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kernob
binary=$cache/collector-$VERSION-$(sha256sum "$manifest" | cut -c1-12)

if [ -n "$build" ] && [ ! -x "$binary" ]; then
  command -v go >/dev/null || {
    echo "kernob: building the OpenTelemetry Collector needs Go: install it, or skip these tests" >&2
    exit 1
  }
  mkdir -p "$cache"
  exec 9>"$cache/collector.lock"
  flock 9
  if [ ! -x "$binary" ]; then
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cp "$manifest" "$work/manifest.yaml"
    cd "$work"
    GOBIN=$work nice -n 19 go install "go.opentelemetry.io/collector/cmd/builder@$VERSION" >&2
    # Its own compilation begins with `go mod tidy`, which wants what the modules' tests need, too.
    ./builder --config manifest.yaml --skip-strict-versioning --skip-get-modules --skip-compilation >&2
    CGO_ENABLED=0 nice -n 19 go build -mod=mod -trimpath -ldflags='-s -w' -o kernob-collector . >&2
    mv kernob-collector "$binary"
  fi
fi
echo "$binary"
