"""Where a text is found: names of services, processes, hosts, peers and operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode

from kernob.queries.model import Found, Search
from kernob.queries.requests import LABELS, METRICS, UNKNOWN

if TYPE_CHECKING:
    from kernob.store.engine import Reader

MOST: Final = 20
DAYS: Final = 1
"""How far back names are looked for, besides today."""

_OPERATION: Final = (
    f"concat({LABELS['protocol']}, ' ', "
    f"if({LABELS['operation']} = '', '{UNKNOWN}', {LABELS['operation']}))"
)
_SIDE: Final = LABELS["side"]

_Kind = Literal["service", "process", "host", "peer", "operation"]


def search(reader: Reader, text: str) -> Search:
    """Returns what has a text in its name: equal names first, then beginnings, then the rest.

    The SQL makes up to four names of each series of the network and of requests in `kernob_series`,
    and keeps those that hold the text, in any case. An empty text finds nothing.

    Raises:
        StoreError: as `Reader.read`.
    """
    text = text.strip()
    if not text:
        return Search(text, [])
    found = reader.read(
        f"""
SELECT kind, name, host, service, pid, asked,
    positionCaseInsensitiveUTF8(name, {{text:String}}) AS at,
    multiIf(at = 1 AND lengthUTF8(name) = lengthUTF8({{text:String}}), 0, at = 1, 1, 2) AS rank
FROM (
    SELECT arrayJoin(multiIf(MetricName = 'process.network.io',
        [('process', concat(Attributes['process.executable.name'], ' ', Attributes['process.pid']),
            Host, Service, Attributes['process.pid'])],
        MetricName = 'kernob.network.io',
        [('service', Service, '', '', ''), ('host', Host, '', '', ''),
            ('peer', Attributes['kernob.peer'], '', '', '')],
        [('service', Service, '', '', ''), ('operation', {_OPERATION}, '', Service, {_SIDE})]
        )) AS one,
        one.1 AS kind, one.2 AS name, one.3 AS host, one.4 AS service, one.5 AS pid,
        max(MetricName IN {METRICS}) AS asked
    FROM kernob_series
    WHERE MetricName IN ('kernob.network.io', 'process.network.io', {str(METRICS)[1:-1]})
        AND Day >= today() - {DAYS}
    GROUP BY one
)
WHERE name != '' AND at > 0
ORDER BY rank, indexOf(['service', 'host', 'process', 'operation', 'peer'], kind), name, host
LIMIT {MOST}""",
        text=text,
    )
    return Search(text, [_found(row) for row in found.to_pylist()])


def _found(row: dict[str, Any]) -> Found:
    kind: _Kind = row["kind"]
    name = row["name"]
    if kind == "operation":
        query = {"name": row["service"], "side": row["pid"], "operation": name}
        return Found(kind, name, row["service"], f"/service?{urlencode(query)}")
    if kind == "service" and row["asked"]:
        return Found(kind, name, "", f"/service?{urlencode({'name': name})}")
    value = f"{row['host']}:{row['pid']}" if kind == "process" else name
    query = {"by": "process" if kind == "process" else "peer", kind: value}
    if kind in ("host", "peer"):
        query["by"] = "service"
    detail = f"{row['service']} on {row['host']}" if kind == "process" else ""
    return Found(kind, name, detail, f"/traffic?{urlencode(query, safe=':')}")
