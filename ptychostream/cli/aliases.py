"""Options of PtychoPINN's command lines: translated to ours, or refused with advice.

Our own options are made from the dataclasses; the tables say which of them is meant. These are
the options of `ptycho_torch.train` and `ptycho_torch.inference`, and of the scripts `ptycho_train`
and `ptycho_inference`, whose options for PyTorch begin with `--torch-`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Literal

from ptychostream.cli.common import logger
from ptychostream.config import ModelConfig, PyTorchExecutionConfig
from ptychostream.config.ptychopinn_settings import advice_for_value
from ptychostream.errors import ConfigurationError

#: Stands for the store, which is an argument without a name here.
_POSITIONAL = ""
#: Name → ours, where a value follows.
_SHARED = {
    "--accelerator": "--execution.accelerator",
    "--num-workers": "--execution.num_workers",
    "--output_dir": "--out",
    "--output-dir": "--out",
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
        "--train_data_file": _POSITIONAL,
        "--max_epochs": "--nepochs",
        "--torch-loss-mode": "--torch_loss_mode",
        "--scale-contract-version": "--scale_contract_version",
        "--measurement-domain": "--measurement_domain",
        "--probe-mask-sigma": "--model.probe_mask_sigma",
        "--probe-mask-diameter": "--model.probe_mask_diameter",
        **{f"--{item.name}": f"--model.{item.name}" for item in fields(ModelConfig)},
    },
    "reconstruct": {
        **_SHARED,
        "--test_data": _POSITIONAL,
        "--test_data_file": _POSITIONAL,
        "--inference-batch-size": "--execution.inference_batch_size",
    },
}

#: Name → our words in its place.
_SWITCHES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "train": {
        "--deterministic": ("--execution.deterministic", "true"),
        "--no-deterministic": ("--execution.deterministic", "false"),
        "--enable-checkpointing": ("--execution.enable_checkpointing", "true"),
        "--disable-checkpointing": ("--execution.enable_checkpointing", "false"),
        "--probe-mask": ("--model.probe_mask", "true"),
        "--no-probe-mask": ("--model.probe_mask", "false"),
    },
    "reconstruct": {"--varpro-scaling": ("--rescale_patches", "true")},
}

_TRAINED = "the model's own is used: it is in the archive"
_LOGGED = "set --execution.recon_log_every_n_epochs: predicted patches are logged as pictures"
_COMPARED = "`ptychostream evaluate` compares with a reference, and draws"
#: Name → what to do instead.
_REFUSED: Mapping[str, Mapping[str, str]] = {
    "train": {
        "--log-patch-stats": _LOGGED,
        "--patch-stats-limit": _LOGGED,
        "--do_stitching": "training makes no object; `ptychostream reconstruct` does",
    },
    "reconstruct": {
        **{f"--{item.name}": _TRAINED for item in fields(ModelConfig)},
        "--probe-mask": _TRAINED,
        "--no-probe-mask": _TRAINED,
        "--probe-mask-sigma": _TRAINED,
        "--probe-mask-diameter": _TRAINED,
        "--scale-contract-version": _TRAINED,
        "--measurement-domain": _TRAINED,
        "--log-patch-stats": "report.html shows how well patches fit the patterns",
        "--patch-stats-limit": "report.html shows how well patches fit the patterns",
        "--comparison_plot": _COMPARED,
        "--phase_vmin": _COMPARED,
        "--phase_vmax": _COMPARED,
        "--debug_dump": "--debug shows where an error comes from, --log_file keeps everything",
    },
}
#: Name → its value → our words in its place.
_CHOICES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "--profile": {
        "ci": (
            *("--scale_contract_version", "ci_intensity_v2"),
            *("--measurement_domain", "count_intensity"),
        ),
        "legacy": (
            *("--scale_contract_version", "legacy_v1"),
            *("--measurement_domain", "normalized_amplitude"),
        ),
    },
    "--backend": {"pytorch": ()},
    "--patch-weighting": {"probe": ("--weight", "probe"), "uniform": ("--weight", "uniform")},
    "--console-level": {
        "DEBUG": ("--verbose",),
        "INFO": (),
        "WARNING": ("--quiet",),
        "ERROR": ("--quiet",),
        "CRITICAL": ("--quiet",),
    },
}
#: `--profile` chooses how a network is trained.
_CHOICES_OF = {
    "train": ("--profile", "--console-level"),
    "reconstruct": ("--backend", "--console-level", "--patch-weighting"),
}

#: Names that go away: what replaces each, and whether a value follows.
_DEPRECATED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "train": {
        "--device": ("--accelerator",),
        "--n_images": ("--n_groups",),
        "--disable_mlflow": ("--logger", "none", "--quiet"),
    },
    "reconstruct": {
        "--device": ("--accelerator",),
        "--n_images": ("--n_groups",),
        "--disable_mlflow": ("--quiet",),
    },
}


def expand_aliases(command: Literal["train", "reconstruct"], words: Sequence[str]) -> list[str]:
    """Replace PtychoPINN's names of options by ours; deprecated ones are warned of.

    Examples
    --------
    >>> expand_aliases("train", ["--learning-rate", "1e-4", "--no-deterministic"])
    ['--execution.learning_rate', '1e-4', '--execution.deterministic', 'false']
    """
    expanded: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = _without_prefix(command, name)
        if name in _REFUSED[command]:
            raise ConfigurationError(
                f"{name} is PtychoPINN's, and not an option here: {_REFUSED[command][name]}"
            )
        _check_value(name, value if equals else next(iter(rest), ""))
        if name in _DEPRECATED[command]:
            name, *more = _DEPRECATED[command][name]
            logger.warning(
                "%s is deprecated; use %s", word.partition("=")[0], " ".join((name, *more))
            )
            if more:
                value, equals = more[0], "="
                expanded += more[1:]
        if name in _CHOICES_OF[command]:
            value = value if equals else (rest.pop(0) if rest else "")
            expanded += _chosen(name, value)
            continue
        if name in _SWITCHES[command]:
            expanded += _SWITCHES[command][name]
            continue
        target = _WITH_VALUE[command].get(name, name)
        if target == _POSITIONAL:
            expanded += [value] if equals else []
            continue
        expanded.append(target)
        if equals:
            expanded[-1] += f"={_value(name, value)}"
        elif len(expanded) > 1 and expanded[-2] == "--execution.logger_backend":
            expanded[-1] = _value("--logger", word)
        elif len(expanded) > 1 and expanded[-2] == "--execution.devices" and word == "auto":
            expanded[-1] = str(PyTorchExecutionConfig(devices="auto").devices)  # type: ignore[arg-type]
    return expanded


def options_of(command: Literal["train", "reconstruct"]) -> dict[str, str]:
    """List the options of PtychoPINN that a command knows, and what each is here, in Markdown."""
    found = {
        name: f"`{ours}`" if ours else "the store" for name, ours in _WITH_VALUE[command].items()
    }
    found |= {name: f"`{' '.join(words)}`" for name, words in _SWITCHES[command].items()}
    for name in _CHOICES_OF[command]:
        said = (f"{v}: `{' '.join(words) or 'nothing'}`" for v, words in _CHOICES[name].items())
        found[name] = ", ".join(said)
    found |= {n: f"deprecated: `{' '.join(w)}`" for n, w in _DEPRECATED[command].items()}
    return found | {name: f"refused: {advice}" for name, advice in _REFUSED[command].items()}


def _without_prefix(command: str, name: str) -> str:
    """Turn `--torch-NAME` into the option of the PyTorch port that it is."""
    if not name.startswith("--torch-") or name in _WITH_VALUE[command]:
        return name
    plain = "--" + name.removeprefix("--torch-")
    known = (_WITH_VALUE, _SWITCHES, _REFUSED, _DEPRECATED)
    if plain == "--quiet" or any(plain in names[command] for names in known):
        return plain
    field = plain.removeprefix("--").replace("-", "_")
    is_field = field in {item.name for item in fields(PyTorchExecutionConfig)}
    return f"--execution.{field}" if is_field else name


def _check_value(name: str, value: str) -> None:
    field = name.removeprefix("--").rpartition(".")[2].replace("-", "_")
    if advice := advice_for_value(field, value):
        raise ConfigurationError(
            f"{name}={value!r} is PtychoPINN's, and not a choice here: {advice}"
        )


def _chosen(name: str, value: str) -> Sequence[str]:
    choices = _CHOICES[name]
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}")
    return choices[value]


def _value(name: str, value: str) -> str:
    return "null" if name == "--logger" and value == "none" else value
