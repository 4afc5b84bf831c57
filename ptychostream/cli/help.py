"""What the help of a command shows: its usual options, and examples."""

from argparse import SUPPRESS

from jsonargparse import ArgumentParser

#: Options of the configuration that most runs of a command choose.
USUAL = {
    "train": frozenset(
        {
            "batch_size",
            "nepochs",
            "n_groups",
            "neighbor_count",
            "probe_trainable",
            "scheduler",
            "subsample_seed",
            "validation_fraction",
            "model.architecture",
            "model.gridsize",
            "execution.devices",
            "execution.learning_rate",
            "execution.logger_backend",
            "execution.memory_budget",
            "execution.precision",
        }
    ),
    "reconstruct": frozenset(
        {
            "execution.devices",
            "execution.inference_batch_size",
            "execution.memory_budget",
            "execution.precision",
        }
    ),
}

#: Groups that a command's own options are in.
_OWN = ("positional arguments", "options")


def hide_rare_options(parser: ArgumentParser) -> None:
    """Leave options out of a parser's help that few runs need; they still work."""
    usual = USUAL.get(parser.prog.split()[-1])
    if usual is None:
        return
    rare = [
        action
        for group in parser._action_groups
        if group.title not in _OWN
        for action in group._group_actions
        if action.dest not in usual
    ]
    for action in rare:
        action.help = SUPPRESS
    parser.epilog = f"{len(rare)} more options: --help_all\n\n{parser.epilog}"


EXAMPLES = {
    "simulate": (
        "ptychostream simulate scan.npz --num_positions 900 --nphotons 1e5",
        "ptychostream simulate train.zarr --objects [lines,polyhedra] --repeats 3 --overlap 0.7",
    ),
    "build": (
        "ptychostream build scan.npz s3://bucket/scan.zarr",
        "ptychostream build scan.npz scan.zarr",
        "ptychostream build monday.h5 tuesday.h5 week.zarr --dry_run",
        "ptychostream build scan.npz scan.zarr --resume --memory_budget '512 MiB'",
    ),
    "append": (
        "ptychostream append block7.npz scan.zarr",
        "ptychostream append tuesday.npz week.zarr --experiment new",
        "ptychostream append scan.zarr --finish",
    ),
    "compact": ("ptychostream compact scan.zarr",),
    "info": ("ptychostream info scan.zarr",),
    "check": (
        "ptychostream check scan.npz",
        "ptychostream check scan.npz --orientation flip_x --json found.json",
    ),
    "verify": ("ptychostream verify scan.zarr",),
    "export": ("ptychostream export scan.zarr scan.npz",),
    "train": (
        "ptychostream train scan.zarr -o run --model.architecture unrolled --model.gridsize 2 "
        "--nepochs 3",
        "ptychostream train scan.zarr -o again --config run/config.yaml --log_file again.log",
    ),
    "reconstruct": (
        "ptychostream reconstruct scan.npz -o result",
        "ptychostream reconstruct scan.zarr -o result --passes 40 --probe_modes 3",
        "ptychostream reconstruct scan.zarr --model_path run -o result",
        "ptychostream reconstruct growing.zarr --model_path run -o result --follow",
    ),
    "evaluate": ("ptychostream evaluate result/object.npz --reference scan.npz",),
    "convert": (
        "ptychostream convert tensorflow/wts.h5.zip run/wts.h5.zip",
        "ptychostream convert run/wts.h5.zip keras.weights.h5",
    ),
    "doctor": ("ptychostream doctor",),
    "completion": (
        "ptychostream completion bash > ~/.local/share/bash-completion/completions/ptychostream",
    ),
}
