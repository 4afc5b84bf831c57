"""`ptychostream compact STORE`."""

from collections.abc import Sequence
from shlex import quote

from ptychostream.cli.common import make_parser, parse, path_or_url, say


def run(words: Sequence[str]) -> None:
    """Write the segments of a grown store as one."""
    from ptychostream.datasets.store import compact_group_store

    parser = make_parser(
        "compact",
        "Write all segments of a grown store as one, in the place of the store. Programs that "
        "read it meanwhile are not disturbed; more may be appended afterwards.",
    )
    parser.add_argument("store", type=path_or_url, help="the store, a folder")
    parser.add_argument("--memory_budget", default="1 GiB", help="memory for patterns in flight")
    options = parse(parser, words)
    store = compact_group_store(options.store, memory_budget=options.memory_budget, progress=True)
    say(
        f"{options.store}: {store.num_patterns} patterns in one segment\n"
        f"next: ptychostream info {quote(str(options.store))}"
    )
