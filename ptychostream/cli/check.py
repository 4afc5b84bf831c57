"""`ptychostream check SCAN`."""

import json
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import yaml
from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url, say
from ptychostream.cli.input_options import (
    add_input_options,
    as_words,
    find_probe,
    input_options,
)
from ptychostream.datasets.sources.options import InputOptions

if TYPE_CHECKING:
    from ptychostream.datasets.sources.chosen_probe import ProbeFinder
    from ptychostream.reconstruction.verdict import CheckResult
    from ptychostream.scan import Scan

#: Exit codes by verdict.
_CODES = {"sound": 0, "mend": 3, "undecided": 4}

#: Hypotheses that are listed.
_LISTED = 8


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream check`."""
    parser = new_parser(
        "check",
        "Find what is wrong with a scan's geometry: orientation, axes, trigger, scale, probe or "
        "centre. Exit code 0: sound, 3: to be mended, 4: undecided.",
    )
    parser.add_argument("scan", type=path_or_url, help="a scan file, or a store")
    parser.add_argument("--experiment", type=int, default=0, help="which experiment")
    parser.add_argument("--minutes", type=float, default=2.0, help="time for all hypotheses")
    parser.add_argument("--seed", type=int, default=0, help="decides which patterns are left out")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument(
        "--apply", type=Path, help="YAML file for the options that mend it: build --config FILE"
    )
    add_input_options(parser)
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Check a scan's geometry."""
    from ptychostream.datasets.sources.mending import mended
    from ptychostream.datasets.store.scans import scans_from
    from ptychostream.datasets.store.storage import is_store
    from ptychostream.errors import ConfigurationError
    from ptychostream.files import whole_file
    from ptychostream.reconstruction.check import check
    from ptychostream.reconstruction.check_without_probe import check_without_probe

    given = input_options(options)

    def read(other: InputOptions, makes_probe: "ProbeFinder" = find_probe) -> "Scan":
        scans = scans_from([options.scan], other, find_probe=makes_probe)
        if not 0 <= options.experiment < len(scans):
            raise ConfigurationError(
                f"'{options.scan}' has no experiment {options.experiment}; it holds {len(scans)}"
            )
        return scans[options.experiment]

    if given.probe == "from_patterns" and not is_store(options.scan):
        found, scan = check_without_probe(read, given, minutes=options.minutes, seed=options.seed)
    else:
        scan = read(given)
        found = check(scan, minutes=options.minutes, seed=options.seed)
    whole = mended(given, found.options, scan, is_file=not is_store(options.scan))
    if options.json is not None:
        record = {
            "verdict": found.verdict,
            "options": found.options,
            "reason": found.reason,
            "hypotheses": [
                asdict(item) | {"options": [*item.options]} for item in found.hypotheses
            ],
        }
        with whole_file(options.json) as partial:
            partial.write_text(json.dumps(record, indent=1))
    if options.apply is not None and found.verdict == "mend":
        with whole_file(options.apply) as partial:
            partial.write_text(yaml.safe_dump(whole.given()))
    say("\n".join(_lines(options, found, whole)))
    if _CODES[found.verdict]:
        raise SystemExit(_CODES[found.verdict])


def _lines(options: Namespace, found: "CheckResult", whole: InputOptions) -> list[str]:
    """Return the table, the verdict, and the next command with all options that it needs."""
    words = as_words(whole)
    width = max(len(item.name) for item in found.hypotheses[:_LISTED])
    lines = [f"{'hypothesis':{width}}  explained  skill  misfit R"]
    for item in found.hypotheses[:_LISTED]:
        lines.append(
            f"{item.name:{width}}  {item.explained:9.2f}  {item.skill:5.2f}  {item.misfit:8.4f}"
        )
    lines.append(f"{found.verdict}: {found.reason}")
    if found.verdict == "mend" or found.options:
        lines.append(f"next: ptychostream build {quote(str(options.scan))} mended.zarr {words}")
    elif found.verdict == "sound":
        lines.append(
            f"next: ptychostream reconstruct {quote(str(options.scan))} -o result {words}".rstrip()
        )
    return lines
