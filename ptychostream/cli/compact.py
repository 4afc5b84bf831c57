"""`ptychostream compact STORE`."""

from shlex import quote

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url, say


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream compact`."""
    parser = new_parser(
        "compact",
        "Write all segments of a grown store as one, in the place of the store. Programs that "
        "read it meanwhile are not disturbed; more may be appended afterwards.",
    )
    parser.add_argument("store", type=path_or_url, help="the store, a folder")
    parser.add_argument("--memory_budget", default="1 GiB", help="memory for patterns in flight")
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Write the segments of a grown store as one."""
    from ptychostream.datasets.store import compact_group_store

    store = compact_group_store(options.store, memory_budget=options.memory_budget, progress=True)
    say(
        f"{options.store}: {store.num_patterns} patterns in one segment\n"
        f"next: ptychostream info {quote(str(options.store))}"
    )
