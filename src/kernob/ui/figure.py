"""One figure with its unit: three significant digits, the exact number on hovering.

Also a time, relative, with the absolute one on hovering.
"""

from __future__ import annotations

from typing import Literal

from nicegui.element import Element

Kind = Literal["rate", "bytes", "count", "share", "seconds", "ago", "time", "text"]


class Figure(
    Element,
    component="web/kernob_figure.js",
    dependencies=["web/kernob.js"],
    default_classes="k-piece",
):
    """A label and a figure below it, or beside it if small."""

    def __init__(self, label: str, kind: Kind, *, small: bool = False) -> None:
        """Makes one that shows a dash: nothing is known yet."""
        super().__init__()
        self.props.update({"label": label, "kind": kind, "small": small, "value": None})

    def show(self, value: float | str | None, *, label: str = "") -> None:
        """Shows a value: milliseconds for times, a share of 1, a text as it is; None is a dash."""
        self.props["value"] = value
        self.props["label"] = label or self.props["label"]
