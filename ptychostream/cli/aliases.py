"""Option names of the existing PyTorch command line, as other names of ours.

Flags themselves are generated from the dataclasses; here is only which of them is meant.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from ptychostream.cli.common import logger

#: Name → ours, where a value follows.
_SHARED = {
    "--accelerator": "--execution.accelerator",
    "--num-workers": "--execution.num_workers",
}
_WITH_VALUE: Mapping[str, Mapping[str, str]] = {
    "train": {
        **_SHARED,
        "--devices": "--execution.devices",
        "--num-nodes": "--execution.num_nodes",
        "--num_nodes": "--execution.num_nodes",
        "--strategy": "--execution.strategy",
        "--learning-rate": "--execution.learning_rate",
        "--accumulate-grad-batches": "--execution.accum_steps",
        "--checkpoint-save-top-k": "--execution.checkpoint_save_top_k",
        "--checkpoint-monitor": "--execution.checkpoint_monitor_metric",
        "--checkpoint-mode": "--execution.checkpoint_mode",
        "--early-stop-patience": "--execution.early_stop_patience",
        "--logger": "--execution.logger_backend",
    },
    "reconstruct": {**_SHARED, "--inference-batch-size": "--execution.inference_batch_size"},
}

#: Name → our words in its place.
_SWITCHES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "train": {
        "--deterministic": ("--execution.deterministic", "true"),
        "--no-deterministic": ("--execution.deterministic", "false"),
        "--enable-checkpointing": ("--execution.enable_checkpointing", "true"),
        "--disable-checkpointing": ("--execution.enable_checkpointing", "false"),
    },
    "reconstruct": {},
}

#: Names that go away: what replaces each, and whether a value follows.
_DEPRECATED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "train": {
        "--device": ("--accelerator",),
        "--n_images": ("--n_groups",),
        "--disable_mlflow": ("--logger", "none", "--quiet"),
    },
    "reconstruct": {"--device": ("--accelerator",), "--n_images": ("--n_groups",)},
}


def expand_aliases(command: Literal["train", "reconstruct"], words: Sequence[str]) -> list[str]:
    """Replace other names of options by ours; deprecated ones are warned of.

    Examples
    --------
    >>> expand_aliases("train", ["--learning-rate", "1e-4", "--no-deterministic"])
    ['--execution.learning_rate', '1e-4', '--execution.deterministic', 'false']
    """
    expanded: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in _DEPRECATED[command]:
            name, *rest = _DEPRECATED[command][name]
            logger.warning(
                "%s is deprecated; use %s", word.partition("=")[0], " ".join((name, *rest))
            )
            if rest:
                value, equals = rest[0], "="
                expanded += rest[1:]
        if name in _SWITCHES[command]:
            expanded += _SWITCHES[command][name]
            continue
        expanded.append(_WITH_VALUE[command].get(name, name))
        if equals:
            expanded[-1] += f"={_value(name, value)}"
        elif len(expanded) > 1 and expanded[-2] == "--execution.logger_backend":
            expanded[-1] = _value("--logger", word)
    return expanded


def _value(name: str, value: str) -> str:
    return "null" if name == "--logger" and value == "none" else value
