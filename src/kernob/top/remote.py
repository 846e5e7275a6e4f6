"""The traffic table of an agent that runs already."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Final, TypeVar

import msgspec

from kernob.errors import ConfigError, KernobError
from kernob.traffic import Table

PATH: Final = "/api/network"
TIMEOUT: Final = 3.0
"""Seconds, for connecting and for each read."""
MOST: Final = 256 << 20
"""Bytes of an answer: some 500,000 rows."""

A: Final = {"agent": "an agent", "server": "a server"}

T = TypeVar("T")

# The agent is near: what the environment says about proxies is for the way out.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def ask(url: str, token: str, kind: type[T], who: str) -> T:
    """Returns what `url` answers.

    Args:
        url: in full.
        token: the bearer token; empty for none.
        kind: what is wanted, from JSON.
        who: `agent` or `server`, for errors.

    Raises:
        ConfigError: `url` isn't one, or the token is refused.
        KernobError: nobody answers there, or something else.

    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} isn't the address of {A[who]}", remedy="use http://HOST:PORT")
    address, path = "/".join(url.split("/", 3)[:3]), "/" + url.split("/", 3)[-1]
    request = urllib.request.Request(url)  # noqa: S310
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _open(request, timeout=TIMEOUT) as answer:
            body = answer.read(MOST + 1)
        if len(body) > MOST:
            raise KernobError(f"the {who} at {address} sent more than {MOST} bytes")
        return msgspec.json.decode(body, type=kind)
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code in {401, 403}:
            raise ConfigError(
                f"the {who} at {address} refuses this token",
                remedy="give the token it was started with",
            ) from exc
        raise KernobError(
            f"{address} answers {path.partition('?')[0]} with status {exc.code}",
            remedy=f"is this a Kernob {who}?",
        ) from exc
    except ValueError as exc:
        raise KernobError(
            f"{address} sent no traffic table ({exc})",
            remedy=f"is it {A[who]} of this version?",
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", exc)
        why = getattr(reason, "strerror", None) or type(reason).__name__
        raise KernobError(
            f"no {who} answers at {address} ({why})", remedy=f"start one with `kernob {who}`"
        ) from exc


def traffic_from_agent(url: str, token: str = "") -> Table:
    """Returns the traffic table of the agent that listens at `url`.

    Args:
        url: scheme, host and port, such as `http://127.0.0.1:9464`.
        token: the bearer token that guards the listener, if it has one.

    Raises:
        ConfigError: `url` isn't one of an agent, or the agent refuses the token.
        KernobError: nobody answers there, or not with a traffic table.

    """
    return ask(url.rstrip("/") + PATH, token, Table, "agent")
