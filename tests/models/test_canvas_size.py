"""Training does not wait for the device in its steps."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ptychostream as ps
from ptychostream.models.canvas_size import CanvasSize, measure_canvas_size
from ptychostream.physics import support_half_width
from ptychostream.training.module import PinnModule

#: What hands values to the host.
WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
}


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        assert function not in WAITING, f"{function} makes the host wait for the device"
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("architecture", ["cnn", "unrolled", "fno", "ffno"])
@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("options", [{}, {"mae_weight": 0.5, "probe_trainable": True}])
def test_no_step_looks_at_a_value_on_the_device(
    tmp_path, monkeypatch, architecture, gridsize, options
):
    size = 64 if architecture == "cnn" else 16
    scan = ps.simulate_scan(num_positions=36, N=size, step=2.5, nphotons=1e5)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    small = {"cnn": {"n_filters_scale": 1}, "unrolled": {}}.get(architecture, {"fno_modes": 4})
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=size, gridsize=gridsize, architecture=architecture, **small),
        nepochs=1,
        batch_size=8,
        validation_fraction=0.3,
        output_dir=tmp_path,
        **options,
    )
    steps = []

    def guarded(step):
        def run(self, batch, number):
            with NoWaiting():
                loss = step(self, batch, number)
                if loss is not None:
                    weights = [p for p in self.parameters() if p.requires_grad]
                    torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            steps.append(number)
            return loss

        return run

    for name in ("training_step", "validation_step"):
        monkeypatch.setattr(PinnModule, name, guarded(getattr(PinnModule, name)))
    ps.train(config, store)
    assert len(steps) >= 2


def test_the_guard_sees_what_it_is_there_for():
    with NoWaiting(), pytest.raises(AssertionError, match="makes the host wait"):
        torch.ones(2).sum().item()


def test_the_size_of_a_batch_holds_its_members_and_its_light():
    light, relative = torch.zeros(1, 16, 16), torch.tensor([[[[2.2, -3.1]]]])
    light[:, 5:9, 6:8] = 1
    assert measure_canvas_size(relative, light) == CanvasSize(reach=4, support=3)


def test_light_without_a_finite_pixel_lights_the_whole_patch():
    assert support_half_width(torch.full((1, 8, 8), torch.nan)) == 4
    assert support_half_width(torch.zeros(8, 8)) == 4


@pytest.mark.parametrize("architecture", ["unrolled", "fno"])
def test_a_larger_canvas_changes_next_to_nothing(tiny_store, architecture):
    torch.manual_seed(0)
    small = {"fno_modes": 4} if architecture == "fno" else {}
    config = ps.ModelConfig(N=16, gridsize=2, architecture=architecture, **small)
    model = ps.PtychoPINN(config, tiny_store.probe).eval()
    loader = ps.make_loader(tiny_store, tiny_store.groups(2, 6), batch_size=8)
    batch = next(iter(loader))
    with torch.no_grad():
        asked = model(batch)
        known = model(batch, CanvasSize(loader.reach(4) + 2, model.probe.support_half_width(4)))
    torch.testing.assert_close(known.intensity, asked.intensity, rtol=1e-4, atol=1e-4)


def test_reach_bounds_every_group_without_its_held_out_neighbours(tiny_store):
    groups = tiny_store.groups(2, 8, held_out=1)
    loader = ps.make_loader(tiny_store, groups)
    farthest = 0.0
    for batch in loader:
        relative = batch["coords_relative"][:, :4]
        centred = relative - relative.mean(dim=1, keepdim=True)
        farthest = max(farthest, float(centred.abs().max()))
    assert farthest <= loader.reach(4) < farthest + 1
