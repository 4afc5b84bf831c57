"""What settings do, and what the library says of its options, with the names of the window."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typing_extensions import override

from ptychodus_ext.labels import LABELS

#: Fields whose own sentence is for those who write programs.
_TOOL_TIPS = {
    "gridsize": "Patterns along one side of a group: 1 is each pattern alone, 2 is four together.",
    "num_nodes": "Number of machines; 1 but for runs that a cluster starts.",
    "n_groups": "How many groups are drawn; left empty, one around each position.",
    "scale_contract_version": "ci_intensity_v2 compares predictions with counts, legacy_v1 with "
    "amplitudes brought to the same number of photons; none takes what fits the data.",
    "targets": "Where the true object comes from: object_guess is the product's object, solver is "
    "what the solver makes of the patterns, for which no truth is needed.",
    "seed": "The number that random choices start from.",
    "inference_batch_size": "Groups in a batch of a reconstruction; left empty, one is chosen.",
}

#: What the library advises on its command line → what to do in the window.
_ADVICE = (
    (
        r"build with --swap_quadrants true",
        "put it into the middle before the data are loaded",
    ),
    (
        r"leave (such patterns|them) out: (build with )?--leave_out '[^']*'",
        r"leave \1 out by the limits of the total counts when diffraction data are loaded",
    ),
    (
        r"\. If it holds the good pixels, give --invert_mask true; if it is right, "
        "--invert_mask false",
        ": load the opposite of it as bad pixels",
    ),
    (r"--orientation (\w+)", r"turn the patterns when they are loaded, \1"),
    (
        r"give one by --probe\b|Give one by --probe\b",
        "give the product another probe",
    ),
    (
        r"\(?`ptychostream check`[^)`;]*\)? tries them",
        "`ptychostream check FOLDER` tries them on the folder of a batch run's input",
    ),
    (r"--start\b", "“Start from” at product"),
)


def explained(field: str, meaning: str, *, is_choice: bool) -> str:
    """Return what a setting does, without the names of a program.

    Examples
    --------
    >>> explained("resnet_width", "Channels; None is fno_width.", is_choice=False)
    'Channels; left empty, it is “Fourier: channels”.'
    """
    text = " ".join(_TOOL_TIPS.get(field, meaning).split())
    if is_choice:
        text = re.sub(r"\bNone\b", "none", text)
    text = re.sub(r"(?<=\. )None is\b", "Left empty, it is", text)
    text = re.sub(r"\bNone is\b", "left empty, it is", text)
    text = text.replace("(True)", "(ticked)")
    return _named(text)


def in_words(text: str) -> str:
    """Return what the library says with the window's names in the place of options.

    Examples
    --------
    >>> in_words("set --gradient_clip_val 1, or --probe_trainable true")
    'set “Limit for gradients” 1, or “Refine probe” ticked'
    """
    for pattern, words in _ADVICE:
        text = re.sub(pattern, words, text)

    def name(match: re.Match[str]) -> str:
        label = LABELS.get(match[1])
        if label is None:
            return match[0]
        state = {" true": " ticked", " false": " not ticked"}.get(match[2] or "", "")
        return f"“{label}”{state}"

    text = re.sub(r"--(?:\w+\.)?(\w+)( true\b| false\b)?", name, text)
    return _named(text)


def _named(text: str) -> str:
    """Put a setting's name in the window in the place of the name of its field."""

    def name(match: re.Match[str]) -> str:
        label = LABELS.get(match[0])
        return match[0] if label is None else f"“{label}”"

    # Words without an underscore are those of everyday language.
    # Those in paths and in program text stay, too.
    return re.sub(r"(?<![\w/\\'.-])[a-z0-9]+(?:_[a-z0-9]+)+(?![\w/\\'=-]|\.\w)", name, text)


@contextmanager
def in_the_window(name: str) -> Iterator[None]:
    """Show what a logger of the library says, too, as the window shows what ours say."""
    source, handler = logging.getLogger(name), _ToWindow()
    source.addHandler(handler)
    propagates, source.propagate = source.propagate, False
    try:
        yield
    finally:
        source.propagate = propagates
        source.removeHandler(handler)


class _ToWindow(logging.Handler):
    """Hands records on to the logger that ptychodus shows."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        shown = logging.getLogger("ptychostream.ptychodus")
        if shown.isEnabledFor(record.levelno):
            record.msg, record.args = in_words(record.getMessage()), ()
            shown.handle(record)


class InWords(logging.Filter):
    """Puts log records into the words of the window."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        text: Any = record.getMessage()
        record.msg, record.args = in_words(text), ()
        return True
