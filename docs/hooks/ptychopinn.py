"""Fill the pages about PtychoPINN with what the code knows of its names."""

from dataclasses import fields
from functools import partial

from ptychostream.cli.aliases import options_of
from ptychostream.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
)
from ptychostream.config.older_schema import OLDER_FIELDS
from ptychostream.config.ptychopinn_settings import SETTINGS, VALUES
from ptychostream.legacy import KEY_MAPPINGS, OWN_FIELDS
from ptychostream.ptychopinn.backends.tensorflow import IDLE

_KINDS = (ModelConfig, TrainingConfig, InferenceConfig, PyTorchExecutionConfig)
_COMMANDS = {"train": "ptychostream train", "reconstruct": "ptychostream reconstruct"}


def on_page_markdown(markdown, **_):
    """Replace the markers of a page; called by mkdocs."""
    for name, generate in GENERATED.items():
        marker = f"<!-- generated: PtychoPINN's {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def same_fields():
    """List fields of PtychoPINN's dataclasses, which have the same names here."""
    rows = []
    for kind in _KINDS:
        for item in fields(kind):
            if item.name == "model" or item.name in OWN_FIELDS:
                continue
            key = "" if kind is PyTorchExecutionConfig else KEY_MAPPINGS.get(item.name, item.name)
            idle = kind is not PyTorchExecutionConfig and item.name in IDLE
            rows.append(
                f"| `{kind.__name__}.{item.name}` | {f'`{key}`' if key else 'none'} "
                f"| {'never read there: a warning' if idle else ''} |"
            )
    head = '| Field, the same here | Legacy key | With `backend="tensorflow"` |\n|---|---|---|\n'
    return head + "\n".join(rows) + "\n"


def port_settings():
    """List settings of the PyTorch port that have another name here, or none."""
    rows = [f"| `{old}` | `{new}` | |" for old, new in OLDER_FIELDS.items()]
    for kind, settings in SETTINGS.items():
        for name, each in settings.items():
            other = "refused" if each.is_refused else "a warning"
            rows.append(f"| `{kind}.{name}` | {each.advice} | {other} |")
    for field, values in VALUES.items():
        rows += [
            f"| `{field}={value!r}` | {advice} | refused |" for value, advice in values.items()
        ]
    head = "| PtychoPINN's PyTorch port | Here | Other values |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def options():
    """List options of PtychoPINN's commands."""
    rows = [
        f"| `{command}` | `{name}` | {meaning} |"
        for command, title in _COMMANDS.items()
        for name, meaning in options_of(title.split()[1]).items()
    ]
    return "| Command | Option of PtychoPINN | Here |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def counts():
    """Count what is taken, what is said to do nothing, and what is refused."""
    every = [each for settings in SETTINGS.values() for each in settings.values()]
    refused = sum(each.is_refused for each in every)
    shared = same_fields().count("\n| `")
    rows = [
        f"| Fields of the dataclasses | {shared} | 0 | 0 |",
        f"| Settings of the PyTorch port with another name or none | {len(OLDER_FIELDS)} "
        f"| {len(every) - refused} | {refused} |",
    ]
    for title in _COMMANDS.values():
        known = options_of(title.split()[1])
        no = sum(meaning.startswith("refused: ") for meaning in known.values())
        rows.append(f"| Options that `{title}` knows | {len(known) - no} | 0 | {no} |")
    titles = "| PtychoPINN's | Taken | Said to do nothing | Refused with what to do |"
    head = titles + "\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def contract_fields(kind):
    """List the fields of one configuration, with PtychoPINN's names of them."""
    older = {}
    for old, new in OLDER_FIELDS.items():
        older.setdefault(new, []).append(f"`{old}`")
    has_older = kind in (ModelConfig, TrainingConfig)
    rows = []
    for item in fields(kind):
        name = item.name
        if name == "model":
            continue
        is_own = name in OWN_FIELDS or kind is PyTorchExecutionConfig
        key = "none" if is_own else f"`{KEY_MAPPINGS.get(name, name)}`"
        old = ", ".join(older.get(name, ["same"])) if has_older else "none"
        default = getattr(kind(), name)
        shown = default if isinstance(default, str | int | float | type(None)) else str(default)
        rows.append(f"| `{name}` | `{shown!r}` | {old} | {key} |")
    head = "| Field | Default | Older PyTorch name | Legacy key |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


GENERATED = {
    "fields": same_fields,
    "settings": port_settings,
    "options": options,
    "counts": counts,
} | {f"fields of {kind.__name__}": partial(contract_fields, kind) for kind in _KINDS}
