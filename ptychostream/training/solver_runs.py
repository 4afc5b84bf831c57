"""What the solver finds before a network is trained: better probes, and objects as labels."""

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.geometry import ObjectGrid
from ptychostream.models.pinn import PtychoPINN
from ptychostream.progress import ShouldStop
from ptychostream.solver.solver import Solver
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
        guess = _probe_of(model, experiment)
        solver = _solved(
            store,
            experiment,
            guess,
            should_stop,
            refine_probe=True,
            seed=config.subsample_seed or 0,
            memory_budget=execution.memory_budget,
        )
        found = solver.probe.to(guess.device)
        overlap = torch.vdot(found.flatten(), guess.flatten()).abs()
        likeness = overlap / (found.norm() * guess.norm())
        logger.info(
            "probe of experiment %d refined: correlation with the guess %.3f", experiment, likeness
        )
        with torch.no_grad():
            kept = found * (guess.norm() / found.norm())
            model.probe.parts[experiment] = torch.view_as_real(kept)
            # The model applies its mask to the probe again: the power is restored.
            now = model.scaled_probe(torch.tensor([experiment]))[0]
            model.probe.parts[experiment] *= guess.norm() / now.norm()


def solved_objects(
    store: GroupStore,
    model: PtychoPINN,
    execution: PyTorchExecutionConfig,
    *,
    seed: int,
    should_stop: ShouldStop | None = None,
) -> list[NDArray[np.complex64]]:
    """Solve for the object (H, W) of each experiment, lit by the model's probe.

    The grids begin at position (0, 0), as labels are cut.
    """
    objects = []
    for experiment in range(store.num_experiments):
        solver = _solved(
            store,
            experiment,
            _probe_of(model, experiment),
            should_stop,
            # The labels belong to the probe that the network is given.
            refine_probe=False,
            seed=seed,
            memory_budget=execution.memory_budget,
            num_threads=execution.num_workers,
        )
        positions = store.positions[store.rows(experiment)]
        width, height = (int(np.ceil(far)) + store.N // 2 + 1 for far in positions.max(axis=0))
        objects.append(solver.object_on(ObjectGrid(height, width)))
        logger.info(
            "experiment %d of %d solved for labels: misfit %.3g",
            experiment + 1,
            store.num_experiments,
            solver.misfit[-1] if solver.misfit else float("nan"),
        )
    return objects


def _probe_of(model: PtychoPINN, experiment: int) -> torch.Tensor:
    with torch.no_grad():
        return model.scaled_probe(torch.tensor([experiment]))[0].clone()


def _solved(
    store: GroupStore,
    experiment: int,
    probe: torch.Tensor,
    should_stop: ShouldStop | None,
    **options: Any,
) -> Solver:
    """Run the solver over one experiment to its end; `options` as for `solver_options`."""
    chosen = solver_options(store, (experiment,), **options)
    solver = make_solver(store, (experiment,), chosen, SolverStart(probe=probe.cpu().numpy()))
    for _ in solver.run(should_stop=should_stop):
        pass
    return solver
