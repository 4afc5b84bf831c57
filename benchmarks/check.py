"""How often `ptychostream check` finds what is wrong, and how often it accuses a sound scan.

Simulated scans of three objects with three asymmetric beams get each fault alone; each fault is
tried on three of the nine pairs. `--measured FILE` takes a measured scan, with every fault.
*Right*: the first line is the mend. *Not to tell apart*: the mend is named among those that are
not to be told apart from the first line, or from the scan as it is. *Wrong*: neither. Prints a
table; lines are kept in a file, so that a stopped run goes on.

    python benchmarks/check.py lines.jsonl
    python benchmarks/check.py lines.jsonl --measured scan.npz
"""

import argparse
import hashlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

import ptychostream as ps
from ptychostream.datasets.sources.preprocess import ORIENTATIONS
from ptychostream.reconstruction import check as checking
from ptychostream.reconstruction.hypotheses import _AXES
from ptychostream.reconstruction.verdict import CheckResult, leads
from ptychostream.scan import ArrayPatterns

OBJECTS = ("dead_leaves", "bars_and_ellipses", "lines")
BEAMS = {
    "astigmatic": {5: 0.8, 4: 1.2, 7: 0.5},
    "coma": {8: 0.9, 7: 0.4, 4: 1.0},
    "mixed": {6: 0.6, 8: 0.6, 4: -1.5, 9: 0.3},
}
DOSES = (1e6, 1e5, 1e4)

#: What undoes each change.
INVERSE = {
    "rot90": "rot270",
    "rot270": "rot90",
    "swap,flip_x": "swap,flip_y",
    "swap,flip_y": "swap,flip_x",
}


def changed(scan: ps.Scan, patterns=None, matrix=None, **more) -> ps.Scan:
    if patterns is not None:
        more["patterns"] = ArrayPatterns(patterns)
    if matrix is not None:
        middle = scan.positions.mean(axis=0)
        more["positions"] = middle + (scan.positions - middle) @ np.array(matrix, float).T
    return replace(scan, object_guess=None, positions_start=None, **more)


def faults(scan: ps.Scan) -> Iterator[tuple[str, str, list[str], ps.Scan]]:
    """Yield the kind of each fault, its name, the options that mend it, and the scan with it."""
    patterns = scan.patterns.read(np.arange(scan.num_patterns))
    for name, turn in ORIENTATIONS.items():
        if name != "identity":
            mend = ["--orientation", INVERSE.get(name, name)]
            yield "orientation", name, mend, changed(scan, turn(patterns))
    for name, matrix in _AXES.items():
        mend = ["--position_transform", INVERSE.get(name, name)]
        yield "position axes", name, mend, changed(scan, matrix=matrix)
    for shift in (-2, -1, 1, 2):
        mend = ["--trigger_shift", str(-shift)]
        yield "trigger", f"{shift:+d}", mend, changed(scan, np.roll(patterns, shift, axis=0))
    for factor, mended in ((0.9, "1.1"), (1.1, "0.9")):
        mend = ["--position_transform", f"scale={mended}"]
        yield "scale", f"{factor}", mend, changed(scan, matrix=np.eye(2) * factor)
    mend = ["--probe_transform", "conjugate"]
    yield "probe conjugated", "conjugate", mend, changed(scan, probe=scan.probe.conj())
    other = {"counts": "amplitude", "amplitude": "counts"}[scan.measurement_domain]
    mend = ["--measurement_domain", scan.measurement_domain]
    yield "counts or amplitude", other, mend, changed(scan, measurement_domain=other)


#: Faults that are tried together.
TOGETHER = (
    (("orientation", "flip_y"), ("trigger", "+1")),
    (("orientation", "transpose"), ("scale", "1.1")),
    (("position axes", "swap"), ("trigger", "-2")),
    (("trigger", "+1"), ("scale", "0.9")),
    (("position axes", "flip_x"), ("scale", "1.1")),
    (("trigger", "-1"), ("probe conjugated", "conjugate")),
    (("orientation", "rot90"), ("trigger", "+2")),
)


def two_faults(scan: ps.Scan) -> Iterator[tuple[str, str, list[str], ps.Scan]]:
    """Yield pairs of faults as `faults` yields single ones."""
    for first, second in TOGETHER:
        wrong, mend = next((f[3], f[2]) for f in faults(scan) if f[:2] == first)
        twice, more = next((f[3], f[2]) for f in faults(wrong) if f[:2] == second)
        if mend[0] == more[0]:
            mend, more = [mend[0], f"{mend[1]},{more[1]}"], []
        yield "two at once", f"{first[1]} and {second[1]}", [*mend, *more], twice


@cache
def simulated(obj: int, beam: int, dose: float, edge: int, seed: int = 0) -> ps.Scan:
    options = {"aberrations": BEAMS[[*BEAMS][beam]], "aperture": 0.25}
    scan = ps.simulate_scan(
        object=OBJECTS[obj], probe="zernike", probe_options=options, N=edge, num_positions=196,
        step=edge / 13, nphotons=dose, seed=seed + 10 * obj + beam,
    )  # fmt: skip
    return changed(scan, scan.patterns.read(np.arange(scan.num_patterns)))


def trials(options: argparse.Namespace) -> Iterator[tuple[str, str, str, list[str], ps.Scan]]:
    """Yield where a fault is tried, its kind and name, its mend, and the scan."""
    if options.measured:
        scan = changed(ps.read_scan(options.measured))
        where = options.measured.stem
        yield where, "sound", "sound", [], scan
        for fault in (*faults(scan), *two_faults(scan)):
            yield (where, *fault)
        return
    for turn in range(3):
        for number in range(10):
            obj, beam = number % 3, (number + turn) % 3
            dose = DOSES[(number // 3 + turn) % 3]
            scan = simulated(obj, beam, dose, options.N, seed=100 * number)
            yield f"simulated {dose:.0e}", "sound", f"{turn} {number}", [], scan
        for obj in range(3):
            # Each object with each beam once in three turns, and every third fault of each.
            scan = simulated(obj, (obj + turn) % 3, 1e6, options.N)
            for number, fault in enumerate(faults(scan)):
                if number % 3 == obj:
                    yield ("simulated", *fault[:1], f"{fault[1]} {turn}", *fault[2:])
            for number, fault in enumerate(two_faults(scan)):
                if number % 3 == obj:
                    yield ("simulated", *fault[:1], f"{fault[1]} {turn}", *fault[2:])


def pairs_of(options: list[str]) -> set[tuple[str, str]]:
    """Return options and their values, in whatever order."""
    return set(zip(options[::2], options[1::2], strict=True))


def outcome(found: CheckResult, mend: list[str]) -> str:
    first = found.hypotheses[0]
    if not mend:
        return {"sound": "right", "mend": "wrong"}.get(
            found.verdict, "wrong" if found.options else "alike"
        )
    if found.verdict == "mend" and pairs_of(found.options) == pairs_of(mend):
        return "right"
    wanted = pairs_of(mend)
    same = (item.name for item in found.hypotheses if pairs_of([*item.options]) == wanted)
    name = next(same, None)
    as_it_is = next((item for item in found.hypotheses if not item.options), None)
    if found.verdict == "sound" and as_it_is is not None:
        mended = next((item for item in found.hypotheses if item.name == name), None)
        alike = mended is not None and not leads(as_it_is, mended)
        return "alike" if alike else "wrong"
    return "alike" if name in [first.name, *found.equals] else "wrong"


def remembering_judge():
    """Judge each part of a scan once: two turns one after the other are a turn."""
    judge, known = checking.judge, {}

    def judged(counts, positions, probe, good, options, *, seed):
        key = hashlib.sha1(np.ascontiguousarray(counts)).hexdigest()
        key += hashlib.sha1(np.rint(positions * 1e6).astype(np.int64).tobytes()).hexdigest()
        key += hashlib.sha1(np.ascontiguousarray(probe)).hexdigest() + f"{options.passes} {seed}"
        if key not in known:
            known[key] = judge(counts, positions, probe, good, options, seed=seed)
        return known[key]

    return judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path, help="file of results so far")
    parser.add_argument("--measured", type=Path, help="a measured scan in place of simulated ones")
    parser.add_argument("--N", type=int, default=64, help="edge of the simulated patterns")
    parser.add_argument("--minutes", type=float, default=1e9, help="when to stop")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    checking.judge = remembering_judge()
    lines = (
        [*map(json.loads, options.lines.read_text().splitlines())] if options.lines.exists() else []
    )
    done = {(line["where"], line["kind"], line["fault"]) for line in lines}
    until = time.monotonic() + 60 * options.minutes
    for where, kind, fault, mend, scan in trials(options):
        if (where, kind, fault) in done or time.monotonic() > until:
            continue
        began = time.process_time()
        found = ps.check(scan, minutes=60)
        line = {
            "where": where, "kind": kind, "fault": fault, "outcome": outcome(found, mend),
            "verdict": found.verdict, "options": found.options, "wanted": mend,
            "seconds": time.process_time() - began, "reason": found.reason,
            "first": [(h.name, h.explained, h.spread) for h in found.hypotheses[:6]],
        }  # fmt: skip
        lines.append(line)
        with options.lines.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
    table(lines)


def table(lines: list[dict]) -> None:
    print("| Scan | Fault | Tried | Right | Not to tell apart | Wrong |\n|---|---|---|---|---|---|")
    where_of = {line["where"]: line["where"].split()[0] for line in lines}
    groups = sorted({(where_of[line["where"]], line["kind"]) for line in lines})
    for where, kind in groups:
        found = Counter(
            line["outcome"]
            for line in lines
            if (where_of[line["where"]], line["kind"]) == (where, kind)
        )
        cells = (sum(found.values()), found["right"], found["alike"], found["wrong"])
        print(f"| {where} | {kind} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
