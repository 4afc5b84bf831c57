"""`ptychostream append SRC STORE`."""

from shlex import quote
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url, say
from ptychostream.cli.input_options import add_input_options, input_options


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream append`."""
    parser = new_parser(
        "append",
        "Append the patterns of scan files to a store; whoever reads it meanwhile sees what was "
        "there when it was opened. Preprocess them as the store was built.",
    )
    parser.add_argument(
        "paths", type=path_or_url, nargs="+", help="scan files, then the store that grows"
    )
    parser.add_argument(
        "--experiment",
        type=_experiment,
        default=0,
        help="experiment they belong to; `new` begins one for each scan",
    )
    parser.add_argument("--finish", action="store_true", help="nothing more will be appended")
    parser.add_argument("--memory_budget", default="1 GiB", help="memory for patterns in flight")
    add_input_options(parser)
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Append the patterns of a scan file to a store, or declare a store finished."""
    from ptychostream.datasets.store import append_patterns, finish_group_store, open_group_store
    from ptychostream.datasets.store.scans import scans_from

    *sources, target = options.paths
    if not sources and not options.finish:
        parser.error("name at least one scan file and the store, or --finish")
    inputs = input_options(options)
    store = open_group_store(target)
    probe = None
    if options.experiment != "new" and 0 <= options.experiment < store.num_experiments:
        modes = store.attributes["probe_modes"][options.experiment]
        probe = store.probe[options.experiment, :modes]
    for scan in scans_from(sources, inputs, spare_probe=probe) if sources else []:
        store = append_patterns(
            target, scan, experiment=options.experiment, memory_budget=options.memory_budget
        )
    if options.finish:
        store = finish_group_store(target)
    say(
        f"{target}: {store.num_patterns} patterns in {len(store.segments)} segment(s), "
        f"{'complete' if store.is_complete else 'growing'}\n"
        f"next: ptychostream info {quote(str(target))}"
    )


def _experiment(text: str) -> int | Literal["new"]:
    return "new" if text == "new" else int(text)
