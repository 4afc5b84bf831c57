"""The help that fits on a screen or two: of the configuration's many options, the usual ones."""

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
