"""`ptychostream COMMAND ...`: find the command, run it, turn errors into messages."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from ptychostream._version import __version__

#: Each command is a module of this package: `make_parser()`, `run(options, parser)`, and, where
#: words of the command line mean others, `prepare(words, parser)`.
COMMANDS = {
    "simulate": "make a synthetic scan: NPZ, store or ptychodus training data",
    "build": "turn scan files into a group store",
    "append": "let a store grow by the patterns of a scan file",
    "compact": "write the segments of a grown store as one",
    "info": "describe a scan file, a store, a model or an object",
    "check": "find what is wrong with the geometry of a scan",
    "verify": "check every byte of a store",
    "export": "write a store back as an NPZ scan",
    "train": "train a network on a store",
    "reconstruct": "reconstruct a scan or a store, with or without a network",
    "convert": "make one of our model archives from a TensorFlow one, or from a checkpoint",
    "evaluate": "compare an object with a reference",
    "doctor": "list what works on this machine, and what to install for the rest",
    "completion": "print a script that completes commands and options in a shell",
}

_EXAMPLE = """\
a first run:
  ptychostream simulate scan.npz --num_positions 900
  ptychostream reconstruct scan.npz -o result
  ptychostream evaluate result/object.npz --reference scan.npz
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns 0 done, 1 the input or the environment is at fault, 2 wrong usage, 130 interrupted, 141
        the reader of our output closed the pipe.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if arguments is None:
        # Plugins of pydantic, such as that which comes with ptychodus, take longer to import than
        # pydantic, and concern none of our classes. A program that calls us keeps its own.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if words[0] == "--version":
        print(f"ptychostream {__version__}")
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        print(f"no command {words[0]!r}{meant}; see ptychostream --help", file=sys.stderr)
        return 2
    try:
        from ptychostream.cli.common import run_guarded

        command = find_command(words[0])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return run_guarded(partial(_run, command), words[1:])


def find_command(name: str) -> Any:
    """Return the module of a command."""
    return importlib.import_module(f"ptychostream.cli.{name}")


def _run(command: Any, words: Sequence[str]) -> None:
    from ptychostream.cli.common import parse

    parser = command.make_parser()
    if hasattr(command, "prepare"):
        words = command.prepare(words, parser)
    command.run(parse(parser, words), parser)


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: ptychostream COMMAND [options]\n\n"
        "Ptychography: group stores, an iterative solver, physics-informed networks.\n\n"
        f"commands:\n{listed}\n\n"
        f"{_EXAMPLE}\n"
        "`ptychostream COMMAND --help` lists a command's options, with examples. Every command\n"
        "takes --config FILE.yaml, --quiet, --verbose, --log_file FILE, and --debug to see where\n"
        "an error comes from."
    )


if __name__ == "__main__":
    sys.exit(main())
