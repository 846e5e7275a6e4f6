"""A chart over time: stacked areas or lines, one cross-hair for all charts of a page.

    chart = Chart(shell, "Traffic by service")
    colour = slots(["nginx"])
    chart.show(answer.range, answer.times, [Series("nginx", [1.0, None], colour["nginx"])])

Its legend is a table. Dragging sets the page's range, a double click goes back, a click in the
legend isolates a line and sums the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import nicegui.elements.echart  # noqa: F401  (brings ECharts as a module for the browser)
from nicegui.element import Element

from kernob.queries.rates import complete_steps
from kernob.ui.state import SHORTEST, Span
from kernob.ui.words import rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nicegui.events import GenericEventArguments

    from kernob.queries import model
    from kernob.ui.shell import Shell

Kind = Literal["rate", "bytes", "count", "per_second", "share", "seconds"]


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one layer of a stack.

    Attributes:
        name: as the legend shows it.
        values: one for each time; None where nothing was measured.
        slot: its colour (`colours.slots`).
        total: bytes in the range, if that is known better than by adding up the values.
    """

    name: str
    values: Sequence[float | None]
    slot: int
    total: float | None = None


class Chart(
    Element,
    component="web/kernob_chart.js",
    dependencies=["web/kernob.js"],
    default_classes="k-piece",
):
    """The chart; it has its final size before it has data."""

    def __init__(
        self,
        shell: Shell,
        label: str,
        *,
        kind: Kind = "rate",
        stacked: bool = True,
        height: int = 240,
        legend: Literal["right", "below", "none"] = "right",
        nothing: str = "Nothing moved in this range.",
    ) -> None:
        """Makes an empty one.

        Args:
            shell: whose range it sets.
            label: what it shows, for screen readers.
            kind: of its values.
            stacked: areas on each other, else lines.
            height: pixels, without a legend below.
            legend: where it is.
            nothing: what to say if there is nothing to draw.
        """
        super().__init__()
        self._shell = shell
        self._nothing = nothing
        self.props.update(
            {
                "data": None,
                "kind": kind,
                "stacked": stacked,
                "height": height,
                "legend": legend,
                "label": label,
                "only": [],
            }
        )
        self.on("zoom", self._zoom)
        self.on("unzoom", shell.back)
        self.on("only", lambda event: shell.keep(only=",".join(event.args)))

    def show(
        self,
        span: model.Range,
        times: Sequence[int],
        series: Sequence[Series],
        marks: Sequence[model.Mark] = (),
        *,
        label: str = "",
    ) -> None:
        """Shows data; the last step is left out if it isn't over yet.

        Args:
            span: the range that was asked for.
            times: start of each step.
            series: the largest first.
            marks: what happened meanwhile.
            label: another one than before.
        """
        # What isn't settled yet would look like a fall; the server answered a moment ago.
        whole = min(complete_steps(span, self._shell.now()), len(times))
        if whole and all(line.values[whole - 1] is None for line in series):
            whole -= 1
        end = span.start + max(whole - 1, 1) * span.step
        data = {
            "times": list(times[:whole]),
            "step": span.step,
            "start": span.start,
            "end": end,
            "lines": [
                {
                    "name": line.name,
                    "slot": line.slot,
                    "values": _rounded(line.values[:whole]),
                    "total": line.total,
                }
                for line in series
            ],
            "marks": [{"time": m.time, "name": m.name, "what": m.what} for m in marks],
            "empty": self._nothing,
        }
        # As text: NiceGUI and Vue would watch into each list.
        self.props["data"] = msgspec.json.encode(data).decode()
        self.props["label"] = label or self.props["label"]
        only = self._shell.state.choice("only")
        self.props["only"] = [name for name in only.split(",") if name]

    def _zoom(self, event: GenericEventArguments) -> None:
        start, end = int(event.args["start"]), int(event.args["end"])
        self._shell.zoom(Span(0, start, max(end, start + SHORTEST)))


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else rounded(value) for value in values]
