"""Options out of a YAML file: what a beamline knows of all its scans."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from ptychostream.datasets.sources.options import InputOptions
from ptychostream.errors import ConfigurationError, MissingFileError


def with_metadata_file(options: InputOptions) -> InputOptions:
    """Complete options by those of the file that `metadata` names; what is given itself stays.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ConfigurationError
        If it is no mapping of options.
    """
    if options.metadata is None:
        return options
    path = Path(options.metadata)
    if not path.is_file():
        raise MissingFileError(f"metadata: no file '{path}'")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigurationError(f"'{path}' is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"'{path}' must hold options, as 'energy: 8.8keV'")
    known = {item.name: item for item in fields(InputOptions)}
    unknown = sorted(set(map(str, content)) - set(known))
    if unknown:
        raise ConfigurationError(
            f"'{path}': there is no option {', '.join(unknown)}; there are {', '.join(known)}"
        )
    given = options.given()
    changes: dict[str, Any] = {}
    for name, value in content.items():
        if name in given or name == "metadata":
            continue
        is_text = "str" in str(known[name].type) and not isinstance(value, str | type(None))
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        changes[name] = str(value) if is_text and not isinstance(value, str) else value
    return replace(options, **changes)
