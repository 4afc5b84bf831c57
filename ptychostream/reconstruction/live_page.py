"""A report page of a run that goes on: object, probe and misfit so far."""

import time
from datetime import datetime
from pathlib import Path

from ptychostream.evaluation.figures import draw_misfit, draw_object, draw_probe
from ptychostream.evaluation.report import write_page
from ptychostream.solver.solution import SolverState

#: Seconds before the first page, and between two: short runs need none.
_INTERVAL_S = 10.0

#: Drawing takes at most this part of the time.
_SHARE = 0.05


class LivePage:
    """Write a page that reloads itself, every now and then; called after each pass.

    `folder`: the result's folder, whose page is replaced in the end.
    `interval_s`: seconds between two pages, at least.
    """

    def __init__(self, folder: Path, *, title: str, interval_s: float = _INTERVAL_S) -> None:
        self._folder, self._title, self._interval_s = folder, title, interval_s
        self._began = self._due = time.perf_counter()
        self._due += interval_s
        self._misfit: list[float] = []

    def __call__(self, state: SolverState) -> None:
        """Draw the state, if it is time to."""
        self._misfit.append(state.misfit)
        now = time.perf_counter()
        if now < self._due or state.number == state.passes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        draw_object(state.object, state.coverage, self._folder)
        draw_probe(state.probe, self._folder / "probe.png")
        draw_misfit(self._misfit, self._folder / "misfit.png")
        record = {
            "title": f"{self._title}: pass {state.number} of {state.passes}",
            "subtitle": f"As of {datetime.now().astimezone():%H:%M:%S}. The run goes on, and this "
            "page loads itself again; if the time stands still, it was stopped.",
            "tiles": [
                ["misfit R", f"{state.misfit:.3f}"],
                ["so far", f"{now - self._began:.0f} s"],
            ],
            "warnings": None,  # they come with the result
            "numbers": {
                "misfit R of this pass": state.misfit,
                "deviance of a pixel": state.deviance,
            },
            "configuration": {},
            "refresh_s": self._interval_s,
        }
        write_page(self._folder, record)
        spent = time.perf_counter() - now
        self._due = now + max(self._interval_s, spent / _SHARE)
