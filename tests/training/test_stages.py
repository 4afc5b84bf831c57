import pytest

import ptychostream as ps
from ptychostream.training.optimizer import learning_rate_curve
from ptychostream.training.stages import learning_rate_factor, physics_weight

STAGES = {"stage_1_epochs": 2, "stage_2_epochs": 5, "stage_3_epochs": 3, "nepochs": 12}


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
def test_the_physics_weight_rises_from_stage_one_to_three(shape):
    config = ps.TrainingConfig(**STAGES, physics_weight_schedule=shape)
    weights = [physics_weight(config, epoch) for epoch in range(12)]
    assert weights[:2] == [0, 0]
    assert weights[7:] == [1] * 5
    assert sorted(set(weights)) == weights[1:8]
    middle = weights[4]
    assert middle == pytest.approx(0.5) if shape != "exponential" else middle < 0.1


def test_the_last_epochs_have_a_lower_rate():
    config = ps.TrainingConfig(**STAGES, stage_3_lr_factor=0.2)
    factors = [learning_rate_factor(config, epoch) for epoch in range(12)]
    assert factors == [1.0] * 9 + [0.2] * 3
    # Asked of the step after the last one too.
    assert learning_rate_factor(ps.TrainingConfig(nepochs=2), 2) == 1.0


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("Default", {}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("Exponential", {"lr_min_ratio": 0.001}, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
        ("Exponential", {"lr_min_ratio": 0.0}, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
        (
            "WarmupCosine",
            {"lr_warmup_epochs": 2, "lr_min_ratio": 0.0},
            [0.25, 0.5, 0.75, 1, 1, 0.8536, 0.5, 0.1464],
        ),
        ("WarmupCosine", {"lr_min_ratio": 1.0}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("Default", {"stage_3_epochs": 1}, [1, 1, 1, 1, 1, 1, 0.1, 0.1]),
    ],
)
def test_learning_rates_follow_the_documented_curves(name, options, expected):
    config = ps.TrainingConfig(nepochs=4, **options)
    curve = learning_rate_curve(config, name, 2)
    assert [curve(step) for step in range(8)] == pytest.approx(expected, abs=1e-4)
