"""How each server of the demo is prepared and started, all on 127.0.0.1."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from demo.settings import Settings

_DEBIAN: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POSTGRESQL: Final = Path("/usr/lib/postgresql")
_PACKAGES: Final = (
    "nginx-light postgresql redis-server mariadb-server memcached dnsmasq-base util-linux"
)
FOLDERS: Final = ("postgresql", "mariadb", "redis", "nginx")
"""Of servers that write files."""
NGINX: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx/pid;
error_log {folder}/nginx/errors.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx/body;
  proxy_temp_path {folder}/nginx/proxy;
  fastcgi_temp_path {folder}/nginx/fastcgi;
  uwsgi_temp_path {folder}/nginx/uwsgi;
  scgi_temp_path {folder}/nginx/scgi;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_next_upstream off;
  upstream shop {{ server 127.0.0.1:{shop}; keepalive 16; }}
  upstream stock {{ server 127.0.0.1:{stock}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{nginx};
    location / {{ proxy_pass http://shop; }}
    location /stock/ {{ proxy_pass http://stock; }}
  }}
}}
"""
MARIADB: Final = """
CREATE DATABASE stock;
CREATE USER stock@'%' IDENTIFIED BY 'stock';
GRANT ALL ON stock.* TO stock@'%';
"""


class MissingError(Exception):
    """A program is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Server:
    """A process that listens.

    Attributes:
        name: also that of its folder and its log.
        command: what it runs.
        port: which is open when it is ready.
        prepare: commands to run first, each with what it reads from standard input.
        reports: what it prints is wanted at the end, and does not go into its log.
    """

    name: str
    command: list[str]
    port: int
    prepare: tuple[tuple[list[str], str], ...] = ()
    reports: bool = False


def servers(found: Settings) -> list[Server]:
    """Returns those of the distribution; writes their configuration into the folder.

    Raises:
        MissingError: one is not installed.
    """
    return [
        _postgresql(found),
        _mariadb(found),
        _redis(found),
        _memcached(found),
        _dnsmasq(found),
        _nginx(found),
    ]


def service(found: Settings, name: str) -> Server:
    """Returns one of the demo's own, `demo/NAME.py`."""
    return Server(name, [*_module(name), str(found.folder)], found.ports[name])


def load(found: Settings, memcached: int, dnsmasq: int) -> Server:
    """Returns the load generator; it wants to know two process ids for its faults."""
    command = [*_module("load"), str(found.folder), str(memcached), str(dnsmasq)]
    return Server("load", command, found.ports["control"], reports=True)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"demo.{name}"]


def _postgresql(found: Settings) -> Server:
    # Debian keeps each version's programs in a folder of its own.
    folders = sorted(_POSTGRESQL.glob("*/bin"), key=lambda path: int(path.parent.name))
    folder = str(folders[-1]) if folders else _DEBIAN
    server = _program("postgres", folder)
    data = str(found.folder / "postgresql" / "data")
    make = [
        *(_program("initdb", folder), f"--pgdata={data}", "--username=shop", "--auth=trust"),
        *("--encoding=UTF8", "--locale=C", "--no-sync"),
    ]
    return Server(
        "postgresql",
        [
            *(server, "-D", data, "-F", "-h", "127.0.0.1", "-p", str(found.ports["postgresql"])),
            *("-c", "unix_socket_directories="),
        ],
        found.ports["postgresql"],
        (
            (make, ""),
            ([server, "--single", "-D", data, "-F", "postgres"], "CREATE DATABASE shop\n"),
        ),
    )


def _mariadb(found: Settings) -> Server:
    folder = found.folder / "mariadb"
    statements = folder / "start.sql"
    statements.write_text(MARIADB)
    options = ["--no-defaults", f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
    make = [
        *(_program("mariadb-install-db"), *options, "--skip-test-db"),
        "--auth-root-authentication-method=normal",
    ]
    return Server(
        "mariadb",
        [
            *(_program("mariadbd"), *options, f"--init-file={statements}", "--skip-name-resolve"),
            *("--bind-address=127.0.0.1", f"--port={found.ports['mariadb']}"),
            *(f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"),
            *("--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"),
        ],
        found.ports["mariadb"],
        ((make, ""),),
    )


def _redis(found: Settings) -> Server:
    port = found.ports["redis"]
    command = [_program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    return Server("redis", [*command, "--dir", str(found.folder / "redis")], port)


def _memcached(found: Settings) -> Server:
    port = found.ports["memcached"]
    command = [_program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1"]
    return Server("memcached", command, port)


def _dnsmasq(found: Settings) -> Server:
    port = found.ports["dns"]
    command = [
        *(_program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"),
        *("--no-hosts", f"--addn-hosts={found.hosts}", "--local=/demo/", f"--port={port}"),
        *("--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file="),
    ]
    return Server("dnsmasq", command, port)


def _nginx(found: Settings) -> Server:
    configuration = found.folder / "nginx" / "nginx.conf"
    configuration.write_text(NGINX.format(folder=found.folder, **found.ports))
    command = [_program("nginx"), "-e", "stderr", "-c", str(configuration)]
    return Server("nginx", command, found.ports["nginx"])


def _program(name: str, path: str = _DEBIAN) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingError(f"{name} is missing: apt-get install {_PACKAGES}")
    return found
