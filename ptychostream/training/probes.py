"""Find better probes than the store's guesses before a network is trained."""

import logging

import torch

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.models.pinn import PtychoPINN
from ptychostream.progress import ShouldStop
from ptychostream.solver.start import SolverStart, make_solver, solver_options

logger = logging.getLogger(__name__)


def refine_probes(
    model: PtychoPINN,
    store: GroupStore,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    should_stop: ShouldStop | None = None,
) -> None:
    """Replace a model's probes by those that the solver finds, with the object, from the patterns.

    A gradient alone finds a distant probe only slowly. `should_stop` is asked before each update.
    """
    for experiment in range(store.num_experiments):
        with torch.no_grad():
            guess = model.scaled_probe(torch.tensor([experiment]))[0].clone()
        options = solver_options(
            store,
            experiment,
            refine_probe=True,
            seed=config.subsample_seed or 0,
            memory_budget=execution.memory_budget,
        )
        solver = make_solver(store, experiment, options, SolverStart(probe=guess.cpu().numpy()))
        for _ in solver.run(should_stop=should_stop):
            pass
        found = solver.probe.to(guess.device)
        overlap = torch.vdot(found.flatten(), guess.flatten()).abs()
        likeness = overlap / (found.norm() * guess.norm())
        logger.info(
            "probe of experiment %d refined: correlation with the guess %.3f", experiment, likeness
        )
        with torch.no_grad():
            kept = found * (guess.norm() / found.norm())
            model.probe.parts[experiment] = torch.view_as_real(kept)
            # A mask of the probe has acted on the guess, and acts on what was found of it again.
            now = model.scaled_probe(torch.tensor([experiment]))[0]
            model.probe.parts[experiment] *= guess.norm() / now.norm()
