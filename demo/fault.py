"""Switches a fault of the running demo on, or all off: `python -m demo.fault NAME`."""

from __future__ import annotations

import http.client

import click

from demo import settings

_SECONDS = 5


class NotSwitchedError(Exception):
    """The demo does not run, or knows no such fault; the message says which."""


def switch(control: int, name: str) -> str:
    """Switches a fault on instead of the one before; returns what it does, in words.

    Args:
        control: port of the load generator.
        name: of `settings.FAULTS`.

    Raises:
        NotSwitchedError: it did not.
    """
    connection = http.client.HTTPConnection("127.0.0.1", control, timeout=_SECONDS)
    try:
        connection.request("POST", f"/fault/{name}")
        answer = connection.getresponse()
        text = answer.read().decode().strip()
    except OSError as exc:
        raise NotSwitchedError(
            f"no demo answers on port {control} ({exc}): start it by make demo"
        ) from exc
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise NotSwitchedError(text)
    return text


@click.command()
@click.argument("name", type=click.Choice(list(settings.FAULTS)))
@click.option("--control", default=settings.CONTROL_PORT, show_default=True, help="Its port.")
def main(name: str, control: int) -> None:
    """Switches a fault of the running demo on instead of the one before; off for none."""
    try:
        click.echo(switch(control, name))
    except NotSwitchedError as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
