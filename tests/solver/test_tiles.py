"""Processes that each have a tile of the canvas find what one process with all of it finds.

The processes are threads here, which tell each other the same things; see `test_ranks` for real
ones.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import numpy as np
import pytest
import torch
from scans import likeness, small_scan

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.solver.boxes import Box
from ptychostream.solver.canvas import Canvas
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import DealtPatterns, deal, share_of
from ptychostream.solver.ranks import Ranks
from ptychostream.solver.solver import Solver
from ptychostream.solver.steps import Steps
from ptychostream.solver.tiles import Tiles, split


class Between:
    """What threads tell each other: a value each, and tensors from one to another."""

    def __init__(self, size):
        self.barrier, self.said = threading.Barrier(size, timeout=60), [None] * size
        self.sent = {(a, b): Queue() for a in range(size) for b in range(size)}


class ThreadRanks(Ranks):
    """One of several threads."""

    def __init__(self, number, size, between):
        super().__init__(number, size)
        self._between = between

    def _all(self, value):
        between = self._between
        between.said[self.number] = value
        between.barrier.wait()
        said = list(between.said)
        between.barrier.wait()
        return said

    def add(self, *sums):
        for each in sums:
            each.copy_(sum(self._all(each.clone())))

    def most(self, value):
        return max(self._all(value))

    def total(self, value):
        return sum(self._all(value))

    def any(self, flag):
        return any(self._all(flag))

    def of_first(self, value):
        return self._all(value)[0]

    def swap(self, gives, takes):
        for peer, tensor in gives.items():
            self._between.sent[self.number, peer].put(tensor.clone())
        for peer, tensor in takes.items():
            tensor.copy_(self._between.sent[peer, self.number].get(timeout=60))


def _solve(scan, size, *, start=None, on_pass=None, **options):
    """Solve with some threads; return what each has in the end: solver, object, coverage."""
    counts = np.random.default_rng(0).poisson(scan.rates).astype(np.float32)
    options = SolverOptions(**{"passes": 6, **options})
    between, grid = Between(size), ObjectGrid(*scan.obj.shape)

    def run(number):
        try:
            ranks = ThreadRanks(number, size, between) if size > 1 else Ranks()
            tiles = Tiles(scan.positions, ranks)
            order, bounds = deal(np.arange(len(counts)), 0)
            if size > 1:
                order, bounds = share_of(order, bounds, tiles.is_mine)
            values = np.fft.ifftshift(counts[order], axes=(-2, -1))
            good = np.ones(counts.shape[1:], bool)
            patterns = DealtPatterns(
                values, order, bounds, good, are_counts=True, total=len(counts)
            )
            solver = Solver(patterns, scan.positions, scan.probe, options, tiles)
            if start is not None:
                solver.start_from(None if number else start, grid)
            for state in solver.run(grid=grid):
                if state.shown_to(on_pass):
                    break
            solver.misfit_of_patterns()
            return solver, *solver.result_on(grid)
        except BaseException:
            between.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


@pytest.fixture(scope="module")
def scan():
    """A scan whose positions are a little wrong."""
    scan = small_scan(1e6, side=12)
    rng = np.random.default_rng(1)
    scan.positions = scan.positions + rng.normal(0, 0.4, scan.positions.shape)
    return scan


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (2, {"probe_modes": 2, "batches": (4, 2)}),
        (4, {"smoothness": 0.05, "correct_positions": True, "canvas_budget": 1}),
        (5, {"correct_positions": True, "fit_scan_geometry": True, "minutes": 1e-9}),
    ],
)
def test_tiles_give_the_object_of_one_process(scan, size, options):
    ((one, obj, coverage),) = _solve(scan, 1, **options)
    ((first, found, covered), *others) = _solve(scan, size, **options)
    assert likeness(found, obj) > 0.99999
    assert np.abs(found - obj)[16:-16, 16:-16].max() < 0.005
    assert (covered == coverage).mean() > 0.999
    assert likeness(first.probe_found(), one.probe_found()) > 0.99999
    np.testing.assert_allclose(first.layout.positions, one.layout.positions, atol=0.01)
    np.testing.assert_allclose(first.misfit, one.misfit, rtol=1e-3)
    assert first.final_misfit == pytest.approx(one.final_misfit, rel=1e-3)
    grid = Box.of_grid(ObjectGrid(*scan.obj.shape))
    for solver, part, _ in others:
        # The others have what they own.
        np.testing.assert_array_equal(part, found[(solver.tiles.own & grid).slices_in(grid)])


def test_without_a_prior_that_matters_a_pass_is_exact(scan):
    # Long waves are divided by a small curvature, and rounding with them.
    options = {"passes": 2, "smoothness": 0.0, "refine_probe": False, "phase_waves": 0}
    ((_, obj, _),), ((_, found, _), *_) = (_solve(scan, size, **options) for size in (1, 3))
    np.testing.assert_allclose(found, obj, atol=2e-5)


def test_each_process_gets_its_part_of_a_start_and_gives_its_part_of_a_picture(scan):
    start = np.where(np.arange(scan.obj.shape[0])[:, None] > 14, scan.obj, 0).astype(np.complex64)
    pictures = {1: [], 3: []}

    def runs(size):
        def on_pass(state):
            if state.number == 1:
                pictures[size].append((state.object, state.object, state.coverage))
            return state.number == 2

        return _solve(scan, size, start=start, on_pass=on_pass, passes=9)

    one, three = runs(1), runs(3)
    assert [len(solver.misfit) for solver, _, _ in one + three] == [2] * 4
    ((obj, again, coverage),), ((other, _, covered),) = pictures[1], pictures[3]
    np.testing.assert_array_equal(again, obj)
    np.testing.assert_allclose(other, obj, atol=1e-3)
    np.testing.assert_array_equal(covered, coverage)


def test_a_box_follows_positions_that_leave_it(scan):
    boxes = []

    def moves(sums, *, longest):
        """All positions downwards, after some passes farther than the margin."""
        return torch.tensor([[0.0, 2.5]]).expand(len(sums), 2).double()

    def on_pass(state):
        boxes.append(state._solution.tiles.boxes)

    options = {"passes": 5, "correct_positions": True, "steps": Steps(position_moves=moves)}
    ((one, obj, _),) = _solve(scan, 1, **options)
    ((first, found, _), *_) = _solve(scan, 2, on_pass=on_pass, **options)
    assert boxes[0] != boxes[-1]
    assert likeness(found, obj) > 0.9999
    np.testing.assert_allclose(first.misfit, one.misfit, rtol=1e-3)


class First(Ranks):
    """The first of some processes, which decides."""

    def of_first(self, value):
        return value


@pytest.mark.parametrize("size", [2, 3, 4, 16])
def test_every_pattern_and_every_pixel_belong_to_one_process(size):
    # A raster has many positions with the same x.
    positions = np.stack(np.meshgrid(np.arange(20.0), np.arange(30.0)), -1).reshape(-1, 2) * 20
    order, bounds = deal(np.arange(600), 0)
    holder, regions = split(positions, size)
    shares = [share_of(order, bounds, holder == number) for number in range(size)]
    np.testing.assert_array_equal(
        np.sort(np.concatenate([mine for mine, _ in shares])), np.arange(600)
    )
    lengths = [len(mine) for mine, _ in shares]
    assert max(lengths) - min(lengths) <= 1 + size // 8
    for part in range(len(bounds) - 1):
        whole = order[bounds[part] : bounds[part + 1]]
        of_part = np.concatenate([mine[b[part] : b[part + 1]] for mine, b in shares])
        np.testing.assert_array_equal(np.sort(of_part), np.sort(whole))
    layout = PatchLayout(positions, 32)
    owners = np.zeros(layout.shape, int)
    for region in regions:
        owners[(region & layout.whole).slices_in(layout.whole)] += 1
    assert (owners == 1).all()


def test_what_a_process_holds_falls_as_their_number_rises():
    positions = np.random.default_rng(0).uniform(0, 1000, (5000, 2))
    for size in (1, 2, 4, 16):
        tiles, layout = Tiles(positions, First(0, size)), PatchLayout(positions, 32)
        tiles.place(layout, 8)
        # The largest has patches of 32 px, margin and rim on all sides.
        across, along = 1050 / size**0.5, 1050 * (1 if size == 2 else 1 / size**0.5)
        largest = max(box.size for box in tiles.boxes)
        assert largest < 1.1 * (across + 32 + 16) * (along + 32 + 16)
    canvas = Canvas(layout, tiles)
    assert canvas.object.shape == canvas.root_light.shape == tiles.boxes[0].shape


def test_more_processes_than_patterns_are_refused():
    with pytest.raises(ConfigurationError, match="4 processes for 3 patterns: start at most 3"):
        Tiles(np.zeros((3, 2)), Ranks(0, 4))
