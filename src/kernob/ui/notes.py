"""What is said beside the data: how it is known, where one is, what to do when there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from kernob.ui.command import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.queries import model


class Known(
    Element,
    component="web/kernob_known.js",
    dependencies=["web/kernob.js"],
    default_classes="k-piece",
):
    """How the figures are known: one line, more on demand."""

    def __init__(self, what: str = "byte") -> None:
        """Makes one that says nothing yet.

        Args:
            what: is counted.
        """
        super().__init__()
        self.props.update({"note": None, "what": what})

    def show(self, provenance: model.Provenance, span: model.Range) -> None:
        """Shows a provenance.

        Args:
            provenance: of what the page shows.
            span: that was asked for.
        """
        names = ("metrics", "hooks", "modes", "exact", "lost", "resolution", "rows_read", "seconds")
        note = {name: getattr(provenance, name) for name in names}
        self.props["note"] = note | {"step": span.step, "tier": span.tier}


class Crumbs(Element):
    """Where one is: the page's name, and what was chosen, each a link back."""

    def __init__(self, title: str, question: str) -> None:
        """Makes them with the page's name and its question."""
        super().__init__("div")
        self.classes("k-crumbs")
        self._title, self._question = title, question
        self._shown: Sequence[tuple[str, str]] | None = None
        self.show([])

    def show(self, crumbs: Sequence[tuple[str, str]]) -> None:
        """Shows text and link of each; the last is where one is, and its link does not count."""
        if crumbs == self._shown:
            return
        self._shown = list(crumbs)
        self.clear()
        with self:
            if not crumbs:
                TextElement(tag="h1", text=self._title)
                TextElement(tag="small", text=self._question)
                return
            for text, link in crumbs[:-1]:
                TextElement(tag="a", text=text).props["href"] = link
                TextElement(tag="i", text="/").props["aria-hidden"] = "true"
            TextElement(tag="h1", text=crumbs[-1][0])


class Empty(Element):
    """Why there is nothing, and what to do; hidden until it is shown."""

    def __init__(self, title: str, text: str, command: str = "") -> None:
        """Makes one.

        Args:
            title: what is missing.
            text: why, and what to do.
            command: to type; a button copies it.
        """
        super().__init__("div")
        self.classes("k-empty")
        with self:
            TextElement(tag="h2", text=title)
            TextElement(tag="p", text=text)
            if command:
                Command(command)
        self.set_visibility(False)
