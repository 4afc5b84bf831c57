"""Reconstruct into a folder: the result with its files, its report, and a page meanwhile."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychostream.config import write_yaml
from ptychostream.datasets.store import GroupStore
from ptychostream.reconstruction.basis import basis_of
from ptychostream.reconstruction.live_page import LivePage
from ptychostream.reconstruction.reconstruct import follow, reconstruct
from ptychostream.reconstruction.report_files import write_result_files
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.solver.ranks import Ranks

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """What a command asks of each reconstruction, in values that go to other processes, too.

    Attributes
    ----------
    title : str
        Name of what is reconstructed, for the report.
    text : str
        The command's options, for the report.
    arguments : dict
        Of `reconstruct`; a scratch folder of None is the result's.
    interval_s : float, optional
        Seconds between two results of a growing store that is followed; None follows none.
    model : str, optional
        Digest of the network.
    """

    title: str
    text: str
    arguments: dict[str, Any]
    interval_s: float | None = None
    model: str | None = None


def write_reconstruction(
    asked: Asked,
    store: GroupStore,
    bundle: "ModelBundle | None",
    experiments: Sequence[int] | None,
    out: Path,
    *,
    ranks: Ranks | None = None,
) -> tuple[ReconstructionResult, list[Path]]:
    """Reconstruct one object, and write all files of the result.

    Raises
    ------
    KeyboardInterrupt
        If the store that is followed had too few patterns when the command was stopped.
    """
    result, written = None, []
    title = asked.title + _named(experiments, store)
    for result in _results(asked, store, bundle, experiments, out, title=title, ranks=ranks):
        logger.info(
            "%d positions: %s",
            len(result.positions),
            ", ".join(f"{name} {time:.1f} s" for name, time in result.seconds.items()),
        )
        if ranks is not None and ranks.number:
            # The first one has the whole object, and writes it.
            return result, []
        if bundle is not None:
            _keep_configuration(bundle, out)
        written = write_result_files(
            result,
            bundle,
            out,
            title=title,
            options={"Options of this reconstruction": asked.text},
            refresh_s=asked.interval_s,
            basis=_basis(asked, store, experiments),
        )
    if result is None:
        raise KeyboardInterrupt("there were not enough patterns for an object yet")
    return result, written


def _basis(
    asked: Asked, store: GroupStore, experiments: Sequence[int] | None
) -> dict[str, Any] | None:
    """Return what the result of one experiment among many follows from."""
    if experiments is None or len(experiments) > 1:
        return None
    return basis_of(asked.arguments, asked.model, store, experiments[0])


def _keep_configuration(bundle: "ModelBundle", out: Path) -> None:
    """Write what the network was trained with; a run's own folder has it already."""
    from ptychostream.persistence.open_archive import ARCHIVE_NAME

    if not (out / ARCHIVE_NAME).is_file():
        write_yaml(bundle.config, out / "config.yaml")


def _results(
    asked: Asked,
    store: GroupStore,
    bundle: "ModelBundle | None",
    experiments: Sequence[int] | None,
    out: Path,
    *,
    title: str,
    ranks: Ranks | None,
) -> Iterable[ReconstructionResult]:
    """Reconstruct, once or while the store grows."""
    data = (store,) if bundle is None else (bundle, store)
    one = experiments is None or len(experiments) > 1
    arguments = {
        **asked.arguments,
        "ranks": ranks,
        "experiment": experiments if one or experiments is None else experiments[0],
        "scratch_folder": asked.arguments.get("scratch_folder") or out,
    }
    out.mkdir(parents=True, exist_ok=True)
    if asked.interval_s is not None:
        yield from follow(*data, **arguments, interval_s=asked.interval_s)
    else:
        yield reconstruct(*data, **arguments, on_pass=LivePage(out, title=title))


def _named(experiments: Sequence[int] | None, store: GroupStore) -> str:
    """Return the part of a title that names the experiment, where there are several."""
    if experiments is None or store.num_experiments == 1:
        return ""
    listed = ", ".join(map(str, experiments))
    return f", experiment{'s' if len(experiments) > 1 else ''} {listed}"
