"""The help of the live table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from kernob.top.cells import NOT_MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult

KEYS: Final = (
    ("1 2 3, Tab", "per process, per service, per peer"),
    ("↑ ↓ PgUp PgDn", "select a line; j k g G as well"),
    ("Enter, Esc", "open it (a service's processes, a process's peers), go back"),
    ("/, Esc", "filter: process, service, peer, user, pid, port; clear it"),
    ("< >", "sort by the next column; a click on its header does it too"),
    ("m t r o", "sort by share (both directions), transmit, receive, ops/s"),
    ("T R c", "by total transmitted, total received, connections"),
    ("n p u s", "by name, pid, user, service; the same key again reverses"),
    ("i", "reverse the order"),
    ("Space", "pause, go on"),
    ("q", "quit"),
)
WORDS: Final = (
    ("transmit", "bytes per second over TCP and UDP, as the calls returned them"),
    ("ops/s", "calls that moved data"),
    ("conn", "open TCP connections"),
    ("→ 443", "a port that is called"),
    ("← 443", "a port that is served"),
    (NOT_MEASURED, "not measured here"),
)

REQUEST_KEYS: Final = (
    ("↑ ↓ PgUp PgDn", "select a line; j k g G as well"),
    ("/, Esc", "filter: service, side, peer, protocol, operation; clear it"),
    ("< >", "sort by the next column; a click on its header does it too"),
    ("m r e", "sort by share of time, requests, errors"),
    ("5 9", "sort by p50, p99"),
    ("n s p", "by operation, service, peer; the same key again reverses"),
    ("i", "reverse the order"),
    ("Space", "pause, go on"),
    ("q", "quit"),
)
REQUEST_WORDS: Final = (
    ("side", "what the service is: client or server"),
    ("share", "of the time that all requests took together"),
    ("p99", "99 of 100 requests were no slower, first byte asked to last byte answered"),
    (NOT_MEASURED, "no request in this interval"),
)

Entries = tuple[tuple[str, str], ...]


class Help(ModalScreen[None]):
    """Keys, what the columns mean, and how the figures are known."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll {
        width: 80; max-width: 100%; height: auto; max-height: 100%;
        background: $panel; padding: 1 2; scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss")]

    def __init__(self, description: str, keys: Entries = KEYS, words: Entries = WORDS) -> None:
        super().__init__()
        self._description = description
        self._entries = keys, words

    def compose(self) -> ComposeResult:
        """Yields the text."""
        keys, words = self._entries
        text = Content.assemble(
            *_paragraph(keys),
            "\n",
            *_paragraph(words),
            "\n",
            (self._description, "$quiet"),
        )
        with VerticalScroll():
            yield Static(text, markup=False)


def _paragraph(entries: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        part
        for word, meaning in entries
        for part in ((f"{word:<15}", "bold $accent"), (f"{meaning}\n", "$foreground"))
    ]
