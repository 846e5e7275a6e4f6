"""Colours for dark terminals, light ones and those without colour, and which one this is."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from typing import Final

from textual.theme import BUILTIN_THEMES, Theme

# Healthy is grey, one accent for what is selected, amber for attention, red for failure. Every
# text colour has a contrast of at least 4.5 to the background (WCAG AA), `faint` excepted: it is
# for lines that are on their way out.
DARK: Final = Theme(
    name="kernob-dark",
    dark=True,
    primary="#6cb6ff",
    accent="#6cb6ff",
    warning="#e3b341",
    error="#ff7b72",
    foreground="#d8dce3",
    background="#0f1217",
    surface="#0f1217",
    panel="#171c24",
    variables={
        "quiet": "#838c99",
        "faint": "#59616d",
        "selected": "#1c3a5e",
        "bar": "#3d6a9e",
        "scrollbar": "#39414d",
        "scrollbar-background": "#0f1217",
    },
)
LIGHT: Final = Theme(
    name="kernob-light",
    dark=False,
    primary="#0a5cc2",
    accent="#0a5cc2",
    warning="#8a5a00",
    error="#c4232d",
    foreground="#1d2229",
    background="#ffffff",
    surface="#ffffff",
    panel="#f1f4f8",
    variables={
        "quiet": "#646d78",
        "faint": "#949ca6",
        "selected": "#d3e5fb",
        "bar": "#7fb0ea",
        "scrollbar": "#c3cad3",
        "scrollbar-background": "#ffffff",
    },
)
PLAIN: Final = Theme(
    name="kernob-plain",
    ansi=True,
    primary="ansi_default",
    accent="ansi_default",
    warning="ansi_default",
    error="ansi_default",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    variables=BUILTIN_THEMES["ansi-dark"].variables
    | {
        "quiet": "ansi_default",
        "faint": "ansi_default",
        "selected": "ansi_default",
        "bar": "ansi_default",
        "scrollbar": "ansi_default",
        "scrollbar-background": "ansi_default",
    },
)

_ANSWER: Final = re.compile(rb"\x1b\]11;rgb:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)")
_ATTRIBUTES: Final = re.compile(rb"\x1b\[\?[0-9;]*c")
PATIENCE: Final = 0.3
"""Seconds for which a terminal may think about its colour."""


def theme_of_terminal() -> Theme:
    """Returns the theme that suits this terminal; the dark one if it doesn't say."""
    if os.environ.get("NO_COLOR") is not None:
        return PLAIN
    return LIGHT if _is_light(_ask()) else DARK


def _is_light(answer: bytes) -> bool:
    match = _ANSWER.search(answer)
    if match:
        red, green, blue = (int(part, 16) / int("f" * len(part), 16) for part in match.groups())
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5  # noqa: PLR2004
    # rxvt, Konsole and others say it in the environment: "foreground;background".
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in {"7", "15"}


def _ask() -> bytes:
    """Returns what the terminal answers to OSC 11 (xterm's control sequences: its background).

    A terminal that doesn't know it stays silent. All answer the question for their attributes
    (DA1) that goes after it, so nobody has to wait for silence.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    answer = b""
    deadline = time.monotonic() + PATIENCE
    try:
        tty.setcbreak(terminal)
        os.write(sys.stdout.fileno(), b"\x1b]11;?\x1b\\\x1b[c")
        while not _ATTRIBUTES.search(answer):
            if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            answer += os.read(terminal, 256)
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
    return answer
