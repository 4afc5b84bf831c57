"""Every command that writes: what was there before, and how what is there is looked at."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fuzz.readers import digest, make_whole, read_model, read_scan, read_store, write_checkpoint

import ptychostream as ps
import ptychostream.evaluation.figures
import ptychostream.training.fit
from ptychostream.cli.main import main
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.persistence.archive import write_archive
from ptychostream.training.checkpoints import find_checkpoint

#: Options of a training that takes a second.
_TINY = [
    "--model.architecture=unrolled",
    "--model.unrolled_width=8",
    "--model.unrolled_steps=1",
    "--batch_size=30",
    "--execution.logger_backend=null",
]


class Command(NamedTuple):
    """A command, and the state of things around it.

    `prepare` fills a folder; `words` is what may be killed there; `again` is what a user then
    types, which has to succeed; `look` returns a digest of what there is and raises if it is no
    whole.
    """

    prepare: Callable[[Path], object]
    words: list[str]
    look: Callable[[Path], str]
    again: Callable[[Path], list[str]] | None = None
    is_slow: bool = False


def run(words: list[str], root: Path) -> int:
    """Run a command in a folder; names that begin with @ lie there."""
    return main([word.replace("@", f"{root}/") for word in words])


def scan(seed: int, number: int = 24) -> ps.Scan:
    return ps.simulate_scan(num_positions=number, N=16, step=2.5, nphotons=1e5, seed=seed)


def _scan_file(root: Path) -> None:
    write_npz(scan(2), root / "scan.npz", compress=False)


def _store(root: Path) -> None:
    ps.build_group_store(scan(1), root / "s.zarr", patterns_per_chunk=8, progress=False)


def _store_and_file(root: Path) -> None:
    _store(root)
    _scan_file(root)


def _growing(root: Path) -> None:
    whole = scan(1, 40)
    ps.build_group_store(
        whole.select(np.arange(24)),
        root / "s.zarr",
        patterns_per_chunk=8,
        growing=True,
        progress=False,
    )
    for number, first in ((1, 24), (2, 32)):
        write_npz(
            whole.select(np.arange(first, first + 8)), root / f"block{number}.npz", compress=False
        )


def _grown(root: Path) -> None:
    _growing(root)
    for number in (1, 2):
        assert run(["append", f"@block{number}.npz", "@s.zarr", "-q"], root) == 0


def _trained(root: Path) -> None:
    _store(root)
    assert run(["train", "@s.zarr", "-o", "@run", "--nepochs=1", "-q", *_TINY], root) == 0


def _models(root: Path) -> None:
    whole = make_whole(root)
    write_checkpoint(root / "last.ckpt", whole)
    with torch.no_grad():
        next(whole.bundle.model.parameters()).add_(1)
    write_archive(whole.bundle, root / "new.zip")


def _reconstructed(root: Path) -> None:
    _store(root)
    words = ["reconstruct", "@s.zarr", "-o", "@out", "--passes=1", "--checks_fit=false", "-q"]
    assert run(words, root) == 0
    # Another store: the next result is another one.
    ps.build_group_store(
        scan(2), root / "s.zarr", patterns_per_chunk=8, overwrite=True, progress=False
    )


def _simulated(ending: str) -> Callable[[Path], object]:
    return lambda root: run(["simulate", f"@out{ending}", "--seed=1", *_SIMULATED], root)


_SIMULATED = ["--num_positions=24", "--N=16", "--step=2.5", "-q"]


def _file(name: str, read: Callable[[Path], str]) -> Callable[[Path], str]:
    return lambda root: read(root / name) if (root / name).exists() else "nothing"


def _look_at_segments(root: Path) -> str:
    segments = len(ps.open_group_store(root / "s.zarr").segments)
    return f"{read_store(root / 's.zarr')}+{segments}"


def _look_at_run(root: Path) -> str:
    """A run: its newest checkpoint and its archive can be read."""
    checkpoint = read_model(find_checkpoint(root / "run"))
    archive = read_model(root / "run" / "wts.h5.zip")
    return f"{checkpoint} {archive}"


#: The misfit that the report of each object tells.
_MISFITS: dict[str, str] = {}


def _look_at_result(root: Path) -> str:
    """A result: arrays that can be read; a report beside them is of the same object."""
    out = root / "out"
    with np.load(out / "object.npz") as arrays:
        found = digest(arrays["object"], arrays["positions"], arrays["misfit"])
    if (out / "report.json").exists():
        misfit = f"{json.loads((out / 'report.json').read_text())['misfit']:.3f}"
        assert _MISFITS.setdefault(found, misfit) == misfit
        if (out / "report.html").exists():
            assert misfit in (out / "report.html").read_text()
    return found


def _export(ending: str) -> Command:
    def prepare(root: Path) -> None:
        _store(root)
        write_npz(scan(3), root / "other.npz", compress=False)
        if ending == "npz":
            shutil.copy(root / "other.npz", root / "out.npz")
        else:
            run(["simulate", "@out.h5", "--seed=1", *_SIMULATED], root)

    words = ["export", "@s.zarr", f"@out.{ending}", "--overwrite", "-q"]
    return Command(prepare, words, _file(f"out.{ending}", read_scan))


def _simulate(ending: str, read: Callable[[Path], str]) -> Command:
    words = ["simulate", f"@out{ending}", "--overwrite", "--seed=2", *_SIMULATED]
    return Command(_simulated(ending), words, _file(f"out{ending}", read))


_BUILD = ["build", "@scan.npz", "@s.zarr", "--patterns_per_chunk=8", "-q"]
_RECONSTRUCT = ["reconstruct", "@s.zarr", "-o", "@out", "--passes=1", "--checks_fit=false", "-q"]

COMMANDS: dict[str, Command] = {
    "build": Command(
        _scan_file, _BUILD, _file("s.zarr", read_store), lambda root: [*_BUILD, "--resume"]
    ),
    "build --overwrite": Command(
        _store_and_file, [*_BUILD, "--overwrite"], _file("s.zarr", read_store)
    ),
    "append": Command(
        _growing,
        ["append", "@block1.npz", "@s.zarr", "-q"],
        _file("s.zarr", read_store),
        # What was appended is not appended again.
        lambda root: ["append", f"@block{_next_block(root)}.npz", "@s.zarr", "-q"],
    ),
    "compact": Command(_grown, ["compact", "@s.zarr", "-q"], _look_at_segments),
    "export .npz": _export("npz"),
    "export .h5": _export("h5"),
    "simulate .npz": _simulate(".npz", read_scan),
    "simulate .h5": _simulate(".h5", read_scan),
    "simulate .zarr": _simulate(".zarr", read_store),
    "simulate FOLDER": _simulate("", read_scan),
    "train --resume": Command(
        _trained,
        ["train", "@s.zarr", "-o", "@run", "--nepochs=2", "--resume", "-q"],
        _look_at_run,
        is_slow=True,
    ),
    "convert": Command(
        _models,
        ["convert", "@last.ckpt", "@new.zip", "--overwrite", "-q"],
        _file("new.zip", read_model),
    ),
    "reconstruct --overwrite": Command(
        _reconstructed, [*_RECONSTRUCT, "--overwrite"], _look_at_result, is_slow=True
    ),
}


def _next_block(root: Path) -> int:
    return 1 + (ps.open_group_store(root / "s.zarr").num_patterns - 24) // 8


def left_over(root: Path) -> list[str]:
    """Files that no user asked for."""
    return [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.name.startswith(".") or ".partial" in path.name
    ]
