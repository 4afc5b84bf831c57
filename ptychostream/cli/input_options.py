"""The options for reading scans, the same for all commands."""

from dataclasses import fields
from typing import Any

from jsonargparse import ArgumentParser

from ptychostream.datasets.sources.options import InputOptions


def add_input_options(parser: ArgumentParser) -> None:
    """Add the options of `InputOptions` to a command's parser."""
    parser.add_class_arguments(InputOptions, None)


def input_options(parsed: Any) -> InputOptions:
    """Take the options of `InputOptions` out of what was parsed."""
    return InputOptions(**{item.name: getattr(parsed, item.name) for item in fields(InputOptions)})
