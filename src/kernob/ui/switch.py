"""One of a few, all of them in sight: kept in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui.element import Element

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.ui.shell import Shell


class Switch(Element, component="web/kernob_switch.js"):
    """A choice of the page."""

    def __init__(
        self, shell: Shell, name: str, options: Sequence[tuple[str, str]], *, label: str = ""
    ) -> None:
        """Makes one.

        Args:
            shell: in whose URL it is.
            name: of the choice.
            options: value and words of each; the first is the default and not in the URL.
            label: before them.
        """
        super().__init__()
        self._shell, self._name, self._options = shell, name, options
        self.props.update({"options": [list(option) for option in options], "label": label})
        self.props["value"] = self.value
        self.on(
            "choose", lambda event: shell.go(shell.state.choose(**{name: self._said(event.args)}))
        )

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._shell.state.choice(self._name, *(value for value, _ in self._options))

    def show(self, options: Sequence[tuple[str, str]] | None = None) -> None:
        """Shows what the URL says, maybe with other options."""
        self._options = options or self._options
        self.props["options"] = [list(option) for option in self._options]
        self.props["value"] = self.value

    def _said(self, value: str) -> str:
        return "" if value == self._options[0][0] else value
