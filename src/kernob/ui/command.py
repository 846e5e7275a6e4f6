"""A command to type, with a button that copies it."""

from __future__ import annotations

from nicegui.element import Element


class Command(Element, component="web/kernob_command.js", dependencies=["web/kernob.js"]):
    """One command; what is copied is its whole text."""

    def __init__(self, command: str) -> None:
        """Takes the command, of one line or more."""
        super().__init__()
        self._props["command"] = command
