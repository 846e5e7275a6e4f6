"""Where a text is found: names of services, processes, hosts and peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlencode

from kernob.queries.model import Found, Search

if TYPE_CHECKING:
    from kernob.store.engine import Reader

MOST: Final = 20
DAYS: Final = 1
"""How far back names are looked for, besides today."""

_Kind = Literal["service", "process", "host", "peer"]


def search(reader: Reader, text: str) -> Search:
    """Returns what has a text in its name: equal names first, then beginnings, then the rest.

    The SQL makes up to four names of each series of the network in `kernob_series`, and keeps those
    that hold the text, in any case. An empty text finds nothing.

    Raises:
        StoreError: as `Reader.read`.
    """
    text = text.strip()
    if not text:
        return Search(text, [])
    found = reader.read(
        f"""
SELECT kind, name, host, service, pid, positionCaseInsensitiveUTF8(name, {{text:String}}) AS at,
    multiIf(at = 1 AND lengthUTF8(name) = lengthUTF8({{text:String}}), 0, at = 1, 1, 2) AS rank
FROM (
    SELECT DISTINCT arrayJoin(if(MetricName = 'process.network.io',
        [('process', concat(Attributes['process.executable.name'], ' ', Attributes['process.pid']),
            Host, Service, Attributes['process.pid'])],
        [('service', Service, '', '', ''), ('host', Host, '', '', ''),
            ('peer', Attributes['kernob.peer'], '', '', '')])) AS one,
        one.1 AS kind, one.2 AS name, one.3 AS host, one.4 AS service, one.5 AS pid
    FROM kernob_series
    WHERE MetricName IN ('kernob.network.io', 'process.network.io') AND Day >= today() - {DAYS}
)
WHERE name != '' AND at > 0
ORDER BY rank, indexOf(['service', 'host', 'process', 'peer'], kind), name, host LIMIT {MOST}""",
        text=text,
    )
    return Search(text, [_found(row) for row in found.to_pylist()])


def _found(row: dict[str, str]) -> Found:
    kind: _Kind = row["kind"]  # type: ignore[assignment]
    name = row["name"]
    value = f"{row['host']}:{row['pid']}" if kind == "process" else name
    query = {"by": "process" if kind == "process" else "peer", kind: value}
    if kind in ("host", "peer"):
        query["by"] = "service"
    detail = f"{row['service']} on {row['host']}" if kind == "process" else ""
    return Found(kind, name, detail, f"/traffic?{urlencode(query, safe=':')}")
