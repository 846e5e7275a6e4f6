"""A heat map over time: how many took how long, in the very buckets that were counted.

    heat = HeatMap(shell, "Latency")
    heat.show(answer.range, answer.times, answer.heat)

Its cross-hair is that of all charts; hovering tells the count and the bucket's bounds. Dragging
sets the page's range, a double click goes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import nicegui.elements.echart  # noqa: F401  (brings ECharts as a module for the browser)
from nicegui.element import Element

from kernob.queries.rates import complete_steps
from kernob.ui.state import SHORTEST, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nicegui.events import GenericEventArguments

    from kernob.queries import model, model_requests
    from kernob.ui.shell import Shell


class HeatMap(
    Element,
    component="web/kernob_heat.js",
    dependencies=["web/kernob.js"],
    default_classes="k-piece",
):
    """The heat map; it has its final size before it has data."""

    def __init__(self, shell: Shell, label: str, *, height: int = 176) -> None:
        """Makes an empty one.

        Args:
            shell: whose range it sets.
            label: what it shows, for screen readers.
            height: pixels.
        """
        super().__init__()
        self._shell = shell
        self.props.update({"data": None, "height": height, "label": label})
        self.on("zoom", self._zoom)
        self.on("unzoom", shell.back)

    def show(self, span: model.Range, times: Sequence[int], heat: model_requests.HeatMap) -> None:
        """Shows data; steps that are not over are left out, as in charts.

        Args:
            span: the range that was asked for.
            times: start of each step.
            heat: counts of the buckets in each step.
        """
        whole = min(complete_steps(span, self._shell.now()), len(times), len(heat.counts))
        cells = [
            (step, bucket, count)
            for step, counts in enumerate(heat.counts[:whole])
            for bucket, count in enumerate(counts)
            if count
        ]
        data = {
            "times": list(times[:whole]),
            "step": span.step,
            "bounds": [float(f"{bound:.4g}") for bound in heat.bounds],
            "cells": cells,
        }
        # As text: NiceGUI and Vue would watch into each list.
        self.props["data"] = msgspec.json.encode(data).decode()

    def _zoom(self, event: GenericEventArguments) -> None:
        start, end = int(event.args["start"]), int(event.args["end"])
        self._shell.zoom(Span(0, start, max(end, start + SHORTEST)))
