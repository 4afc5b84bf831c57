"""`ptychostream verify STORE`."""

from collections.abc import Sequence
from shlex import quote

from ptychostream.cli.common import make_parser, parse, path_or_url, say


def run(words: Sequence[str]) -> None:
    """Check every byte of a store."""
    from ptychostream.datasets.store import open_group_store

    parser = make_parser("verify", "Read a whole store and compare it with its manifest.")
    parser.add_argument("store", type=path_or_url, help="the store")
    options = parse(parser, words)
    open_group_store(options.store).verify()
    say(
        f"{options.store} is complete and unchanged\n"
        f"next: ptychostream train {quote(str(options.store))} -o run --model.architecture unrolled"
    )
