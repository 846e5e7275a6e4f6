"""Making the tables, migrating them, and keeping them to the settings' retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.errors import StoreError
from kernob.store.engine import Limits
from kernob.store.tables import (
    NUMBERS,
    NUMBERS_COLUMNS,
    NUMBERS_TABLE,
    SEEN,
    TABLES,
    Table,
)
from kernob.store.views import views

if TYPE_CHECKING:
    from kernob import config
    from kernob.store.engine import Engine

VERSION: Final = 3
LOCAL: Final = "_local"
"""What a table's name ends with on each node of a cluster; the name itself reads all nodes."""

# To merge wide rows costs more than to insert them: so fewer and larger merges.
_MERGES: Final = ", merge_selector_base = 32, vertical_merge_algorithm_min_rows_to_activate = 16384"


def retention(table: Table, settings: config.Store) -> int:
    """Returns how many seconds the table is kept."""
    seconds = int(getattr(settings, f"{table.signal}_retention"))
    return min(seconds, table.keep) if table.keep else seconds


def _ttl(table: Table, settings: config.Store) -> str:
    return f"{table.time} + toIntervalSecond({retention(table, settings)})"


def stored(name: str, settings: config.Store) -> str:
    """Returns the name of the table that holds the rows on a node."""
    return name + LOCAL if settings.cluster else name


def on_cluster(settings: config.Store) -> str:
    """Returns the clause that runs DDL on all nodes, empty without a cluster."""
    return f" ON CLUSTER {settings.cluster}" if settings.cluster else ""


def statements(settings: config.Store) -> list[str]:
    """Returns the DDL that makes everything, in order; each can run again.

    With `settings.cluster` tables are replicated, hold a shard on each node under a name that ends
    with `_local`, and are read and written by Distributed tables of the usual names. Rows of one
    series, trace or service stay on one shard only where a balancer keeps them so: shards are
    chosen at random.
    """
    database = settings.database
    on = on_cluster(settings)
    made = [f"CREATE DATABASE IF NOT EXISTS {database}{on}"]
    for table in TABLES:
        engine = f"Replicated{table.engine}" if settings.cluster else table.engine
        primary = f"\nPRIMARY KEY {table.primary}" if table.primary else ""
        made.append(
            f"CREATE TABLE IF NOT EXISTS {database}.{stored(table.name, settings)}{on} "
            f"({table.columns}\n) ENGINE = {engine}\nPARTITION BY {table.partition}{primary}\n"
            f"ORDER BY {table.order}\nTTL {_ttl(table, settings)}\n"
            f"SETTINGS index_granularity = {table.granularity}, ttl_only_drop_parts = 1, "
            f"materialize_ttl_recalculate_only = 1{_MERGES if table.wide else ''}"
        )
        if settings.cluster:
            made.append(_distributed(table.name, settings))
    # In memory: after a start each series is written once more, and folded by a merge.
    made.append(
        f"CREATE TABLE IF NOT EXISTS {database}.{SEEN}{on} (Day Date, SeriesId UInt64) "
        "ENGINE = Set SETTINGS persistent = 0"
    )
    made.append(
        f"CREATE TABLE IF NOT EXISTS {database}.{stored(NUMBERS_TABLE, settings)}{on} "
        f"({NUMBERS_COLUMNS}\n) ENGINE = Null"
    )
    if settings.cluster:
        made.append(_distributed(NUMBERS_TABLE, settings))
    for view in views(database):
        target = SEEN if view.target == SEEN else stored(view.target, settings)
        select = view.select.format(source=stored(view.source, settings))
        made.append(
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{view.name}{on} "
            f"TO {database}.{target} AS {select}"
        )
    return made


def _distributed(name: str, settings: config.Store) -> str:
    """Returns the DDL of the table that reads and writes all nodes."""
    local = stored(name, settings)
    return (
        f"CREATE TABLE IF NOT EXISTS {settings.database}.{name}{on_cluster(settings)} "
        f"AS {settings.database}.{local} ENGINE = Distributed("
        f"{settings.cluster}, {settings.database}, {local}, rand())"
    )


def _version_table(settings: config.Store) -> str:
    on = on_cluster(settings)
    engine = "ReplicatedMergeTree" if settings.cluster else "MergeTree"
    return (
        f"CREATE TABLE IF NOT EXISTS {settings.database}.kernob_schema{on} "
        f"(Version UInt32, Time DateTime DEFAULT now()) ENGINE = {engine} ORDER BY Version"
    )


MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {
    # Views of `NUMBERS_TABLE` took their place.
    2: tuple(
        f"DROP VIEW IF EXISTS {{database}}.kernob_{what}_{kind}{{on}}"
        for what in ("points", "series")
        for kind in NUMBERS
    ),
    # `kernob_histograms` and its rollups are new: they begin empty.
    3: (),
}
"""Statements that lead to a version from the one before, with `{database}` and `{on}`."""


def prepare(engine: Engine, settings: config.Store) -> None:
    """Makes what is missing, migrates what is older, and sets the retention of today's settings.

    Raises:
        StoreError: the store was written by a newer Kernob, or a statement failed.
    """
    database = settings.database
    on = on_cluster(settings)
    engine.command(f"CREATE DATABASE IF NOT EXISTS {database}{on}")
    engine.command(_version_table(settings))
    answer = engine.read(
        f"SELECT max(Version) AS version FROM {database}.kernob_schema", {}, Limits(), "schema"
    )
    version = int(answer["version"][0].as_py())
    if version > VERSION:
        raise StoreError(
            f"the store is of version {version}, this Kernob knows {VERSION}",
            remedy="use the Kernob that wrote it, or another store.path or store.database",
        )
    if version:
        for number in range(version + 1, VERSION + 1):
            for statement in MIGRATIONS[number]:
                engine.command(statement.format(database=database, on=on))
    for statement in statements(settings):
        engine.command(statement)
    if version != VERSION:
        engine.command(f"INSERT INTO {database}.kernob_schema (Version) VALUES ({VERSION})")
    _apply_retention(engine, settings)


def _apply_retention(engine: Engine, settings: config.Store) -> None:
    answer = engine.read(
        "SELECT name, engine_full FROM system.tables WHERE database = {database:String}",
        {"database": settings.database},
        Limits(),
        "schema",
    )
    engines = dict(zip(answer["name"].to_pylist(), answer["engine_full"].to_pylist(), strict=True))
    on = on_cluster(settings)
    for table in TABLES:
        name = stored(table.name, settings)
        ttl = _ttl(table, settings)
        # ClickHouse writes the expression its own way, but for its end.
        if f"toIntervalSecond({retention(table, settings)})" not in engines[name]:
            engine.command(f"ALTER TABLE {settings.database}.{name}{on} MODIFY TTL {ttl}")
