"""What all commands share: the parser, logging, and errors that are messages."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from ptychostream.errors import ConfigurationError, PtychoStreamError

#: Our logger, above all modules.
logger = logging.getLogger("ptychostream")


def make_parser(command: str, description: str) -> ArgumentParser:
    """Make a command's parser, with the options that every command has.

    Parameters
    ----------
    command : str
        Its name.
    description : str
        What it does, with an example.

    Returns
    -------
    jsonargparse.ArgumentParser
        The parser.
    """
    parser = ArgumentParser(
        prog=f"ptychostream {command}",
        # Listing every option above each error would bury the error.
        usage=f"ptychostream {command} [--help] [options]",
        description=description,
    )
    parser.add_argument("--config", action="config", help="YAML file with options")
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")
    parser.add_argument("--verbose", action="store_true", help="say everything")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


def parse(parser: ArgumentParser, words: Sequence[str]) -> Any:
    """Parse a command line, and set up logging as it asks.

    Parameters
    ----------
    parser : jsonargparse.ArgumentParser
        From `make_parser`.
    words : sequence of str
        The command's arguments.

    Returns
    -------
    jsonargparse.Namespace
        The options.
    """
    options = parser.parse_args(list(words))
    level = logging.INFO
    if options.quiet:
        level = logging.WARNING
    if options.verbose or options.debug:
        level = logging.DEBUG
    logger.setLevel(level)
    return options


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Parameters
    ----------
    folder : Path
        May exist.

    Raises
    ------
    ConfigurationError
        If it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"'{folder}' can't be made as a folder for results ({error.strerror}); name another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"the folder '{folder}' can't be written to; name another")


def log_to(folder: Path, name: str, *, append: bool = False) -> None:
    """Write the log into a file too.

    Parameters
    ----------
    folder : Path
        Made if need be.
    name : str
        The file's name.
    append : bool
        Whether what the file holds is kept.
    """
    make_folder(folder)
    handler = logging.FileHandler(folder / name, mode="a" if append else "w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)


def say(text: str) -> None:
    """Print a result, unless the user asked for quiet.

    Parameters
    ----------
    text : str
        One or more lines.
    """
    if logger.level <= logging.INFO:
        print(text, flush=True)


def run_guarded(command: Callable[[Sequence[str]], None], words: Sequence[str]) -> int:
    """Run a command, and turn what goes wrong into one message.

    Parameters
    ----------
    command : callable
        Takes the arguments.
    words : sequence of str
        The arguments.

    Returns
    -------
    int
        The exit code.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        command(words)
    except KeyboardInterrupt as interrupt:
        print(": ".join(("interrupted", *interrupt.args)), file=sys.stderr)
        return 130
    except PtychoStreamError as error:
        if "--debug" in words:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # A full disk, a file that may not be read: the system's own words say which.
        if "--debug" in words:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else 2
    finally:
        for attached in list(logger.handlers):
            logger.removeHandler(attached)
            attached.close()
    return 0
