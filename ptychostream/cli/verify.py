"""`ptychostream verify STORE`."""

from shlex import quote

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url, say


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream verify`."""
    parser = new_parser("verify", "Read a whole store and compare it with its manifest.")
    parser.add_argument("store", type=path_or_url, help="the store")
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Check every byte of a store."""
    from ptychostream.datasets.store import open_group_store

    open_group_store(options.store).verify()
    say(
        f"{options.store} is complete and unchanged\n"
        f"next: ptychostream train {quote(str(options.store))} -o run --model.architecture unrolled"
    )
