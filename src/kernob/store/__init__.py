"""The store: OTLP in as it came, SQL out; ClickHouse, embedded (chDB) or a server by URL.

The tables are those of the OpenTelemetry Collector's ClickHouse exporter, so that whatever reads
these reads ours; beside them stand narrow tables of points by series, which the pages' queries use.
"""
