"""What all commands share: the parser, logging, and errors that are messages."""

import logging
import os
import re
import shutil
import sys
import unicodedata
from argparse import RawDescriptionHelpFormatter
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from typing_extensions import override

from ptychostream.cli.help import EXAMPLES, USUAL, hide_rare_options
from ptychostream.config.ptychopinn_settings import setting
from ptychostream.errors import ConfigurationError, PtychoStreamError
from ptychostream.files import clear_folder
from ptychostream.locks import owned

#: Our logger, above all modules.
logger = logging.getLogger("ptychostream")

#: How the system's loader says that a library finds no memory.
_NO_MEMORY = ("allocate memory", "failed to map segment", "out of memory")

#: How jsonargparse names an option that there is not, on a command line and in a file.
_UNKNOWN_OPTION = re.compile(r"arguments: (--[\w.-]+)|[Oo]ption '([\w.]+)'")

_FILE_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s")


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):  # type: ignore[misc]
    """Keeps the lines of the examples as they are, and writes types in plain words."""

    def format_help(self) -> str:
        """Return the help text."""
        text: str = super().format_help()
        text = re.sub(r"<function\s+path_or_url\s+at\s+0x[0-9a-f]+>", "path or URL", text)
        return re.sub(r"<class\s+'Path'>", "path", text)


class _Parser(ArgumentParser):  # type: ignore[misc]
    """Names options as they are typed."""

    @override
    def error(self, message: str, ex: Exception | None = None) -> Any:
        head, found, names = message.partition("arguments are required: ")
        if found:
            flags = {a.dest: "/".join(a.option_strings) or a.dest for a in self._actions}
            message = head + found + ", ".join(flags.get(n, n) for n in names.split(", "))
        super().error(_with_advice(message), ex)


def _with_advice(message: str) -> str:
    """Add to the name of an option that only PtychoPINN has what stands for it here."""
    for names in _UNKNOWN_OPTION.findall(message):
        option = next(filter(None, names))
        name = option.removeprefix("--torch-").removeprefix("--").rpartition(".")[2]
        if known := setting(name.replace("-", "_")):
            return f"{message}; {option} is PtychoPINN's, and not an option here: {known.advice}"
    return message


def new_parser(command: str, description: str) -> ArgumentParser:
    """Begin a command's parser, with the options that every command has."""
    parser = _Parser(
        prog=f"ptychostream {command}",
        # Listing every option above each error would bury the error.
        usage=f"ptychostream {command} [--help] [options]",
        description="\n".join(wrap(description, 79)),
        epilog="examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES.get(command, ())),
        formatter_class=_HelpFormatter,
    )
    if command in USUAL:
        parser.add_argument("--help_all", action="help", help="Show all options and exit.")
    parser.add_argument("--config", action="config", help="YAML file with options")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    parser.add_argument("-v", "--verbose", action="store_true", help="say everything")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.add_argument("--log_file", type=Path, help="file that keeps everything, with times")
    return parser


def add_cache_options(parser: ArgumentParser) -> None:
    """Add where a command keeps what it fetches from a store at a URL."""
    group = parser.add_argument_group("stores at a URL")
    group.add_argument("--cache", type=Path, help="folder that keeps what is fetched")
    group.add_argument("--cache_limit", default="20 GiB", help="most that this folder may take")


def parse(parser: ArgumentParser, words: Sequence[str]) -> Any:
    """Parse a command line, and set up logging as it asks."""
    if {"--help", "-h"} & set(words):
        hide_rare_options(parser)
    _check_files_of_options(parser, words)
    options = parser.parse_args(list(words))
    level = logging.INFO
    if options.quiet:
        level = logging.WARNING
    if options.verbose or options.debug:
        level = logging.DEBUG
    logger.setLevel(level)
    if options.log_file is not None:
        _keep_log(options.log_file)
    return options


def _check_files_of_options(parser: ArgumentParser, words: Sequence[str]) -> None:
    """Refuse files of options that hold none, or more than plain values."""
    from ptychostream.config.plain_yaml import load_yaml

    for word, following in pairwise([*words, ""]):
        flag, given, value = word.partition("=")
        file = Path(value if given else following)
        if flag not in ("--config", "--execution") or not _is_file(file):
            continue
        if not file.stat().st_size:
            parser.error(f"the file of options '{file}' is empty; leave out {flag}, or fill it")
        try:
            load_yaml(file.read_text(encoding="utf-8"), f"the file of options '{file}'")
        except (ConfigurationError, OSError, ValueError) as error:
            parser.error(str(error))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # The value is YAML text itself: no file can have this name.
        return False


def path_or_url(text: str | Path) -> Path | str:
    """Read the name of a store or of a scan file.

    `text`: a path, or a URL with a protocol, which a `Path` would spoil.
    """
    return text if isinstance(text, str) and "://" in text else Path(text)


def make_folder(folder: Path) -> None:
    """Make a folder for results."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"'{folder}' can't be made as a folder for results ({error.strerror}); name another"
        ) from error
    if (folder / "zarr.json").is_file():
        raise ConfigurationError(f"'{folder}' is a group store; name another folder for results")
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"the folder '{folder}' can't be written to; name another")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder for results, and keep other processes from writing to it meanwhile."""
    make_folder(folder)
    with owned(folder, f"'{folder}' is being written to by another process"):
        for place in (folder, folder / "checkpoints"):
            clear_folder(place)
        for left in folder.glob(".ptychostream-*"):
            # A killed process can't remove its scratch files.
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        yield


def log_to(folder: Path, name: str, *, append: bool = False) -> None:
    """Write the log into a file too; what was said before comes first."""
    make_folder(folder)
    _keep_log(folder / name, append=append)


def _keep_log(path: Path, *, append: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, mode="a" if append else "w")
    handler.setFormatter(_FILE_FORMAT)
    for earlier in [item for item in logger.handlers if isinstance(item, _Earlier)]:
        for record in earlier.records:
            handler.handle(record)
    logger.addHandler(handler)


class _Earlier(logging.Handler):
    """What a command said before it had a file for its log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=1000)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _LogFile(logging.FileHandler):
    """A log that ends, with one line on the terminal, where the disk takes no more."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logger.removeHandler(self)
        self.close()
        logger.warning("could not write to the log '%s': %s", self.baseFilename, error.strerror)

    @override
    def close(self) -> None:
        # What is left in the buffer can't be written either.
        with suppress(OSError):
            super().close()


def printable(text: str) -> str:
    """Escape control characters: text from files must not control the terminal."""
    return "".join(
        letter
        if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co")
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


class _TerminalFormat(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def say(text: str) -> None:
    """Print a result, unless the user asked for quiet; log files keep it anyway."""
    if logger.level <= logging.INFO:
        print(printable(text), flush=True)
    _into_files(logging.INFO, text)


def _into_files(level: int, text: str, error: BaseException | None = None) -> None:
    """Write to log files only: the terminal shows it in another form, or not at all."""
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logger.makeRecord(logger.name, level, "", 0, text, (), info)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def run_guarded(command: Callable[[Sequence[str]], None], words: Sequence[str]) -> int:
    """Run a command; an error ends it with one message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TerminalFormat("%(message)s"))
    logger.addHandler(handler)
    logger.addHandler(_Earlier())
    logger.propagate = False
    try:
        command(words)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        message = ": ".join(("interrupted", *map(str, interrupt.args)))
        print(printable(message), file=sys.stderr)
        _into_files(logging.WARNING, message)
        return 130
    except BrokenPipeError:
        # The reader of our output closed the pipe; otherwise Python prints an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else 2
    except Exception as error:  # users see a sentence, whatever it is; --debug shows the rest
        _into_files(logging.ERROR, f"error: {error}", error)
        if "--debug" in words:
            raise
        print(f"error: {printable(_message(error))}", file=sys.stderr)
        return 1
    finally:
        for attached in list(logger.handlers):
            logger.removeHandler(attached)
            attached.close()
    return 0


def _message(error: Exception) -> str:
    if isinstance(error, PtychoStreamError | OSError):
        return str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, ImportError) and any(sign in str(error) for sign in _NO_MEMORY)
    ):
        return "out of memory; ask for less at once, or for a smaller memory_budget"
    if isinstance(error, SystemError) and "without exception set" in str(error):
        return (
            "a library failed without a reason, as compiled ones do that are out of memory; ask "
            "for less at once, or for a smaller memory_budget"
        )
    return (
        f"{type(error).__name__}: {error}\nThis is a defect of ptychostream, not yours: please "
        "report what the same command prints with --debug"
    )
