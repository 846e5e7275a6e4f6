"""How this Kernob came here, and so how to install more of it."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from urllib.parse import unquote, urlsplit

import msgspec


class _Folder(msgspec.Struct):
    editable: bool = False


class _Version(msgspec.Struct):
    vcs: str
    commit_id: str


class _Origin(msgspec.Struct):
    """Where a package was installed from (PEP 610), unless it was by its name."""

    url: str
    dir_info: _Folder | None = None
    vcs_info: _Version | None = None


def command(extra: str) -> str:
    """Returns the command that installs an extra of this very Kernob, for this Python.

    A clone, a wheel, a repository: it comes again from where it came. Only what was installed by
    its name is installed by its name.
    """
    arguments = [sys.executable, "-m", "pip", "install", *_what(extra)]
    return shlex.join(arguments)


def _what(extra: str) -> list[str]:
    written = metadata.distribution("kernob").read_text("direct_url.json")
    if not written:
        return [f"kernob[{extra}]"]
    origin = msgspec.json.decode(written, type=_Origin)
    if origin.dir_info:
        folder = unquote(urlsplit(origin.url).path)
        return [*(["--editable"] if origin.dir_info.editable else []), f"{folder}[{extra}]"]
    url = origin.url
    if origin.vcs_info:
        url = f"{origin.vcs_info.vcs}+{url}@{origin.vcs_info.commit_id}"
    return [f"kernob[{extra}] @ {url}"]
