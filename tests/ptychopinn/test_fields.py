"""What the backend does not have is refused."""

import pytest

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.training.checks import check_supported

#: Any value but the default is an error of the PyTorch backend.
REFUSED = {
    "positions_provided": (ps.TrainingConfig, False),
    "persistent_workers": (ps.PyTorchExecutionConfig, True),
}


@pytest.mark.parametrize(("name", "refused"), REFUSED.items())
def test_what_the_backend_does_not_have_is_refused_by_name(name, refused):
    kind, value = refused
    parts = {ps.TrainingConfig: {}, ps.PyTorchExecutionConfig: {}}
    parts[kind][name] = value
    with pytest.raises(ConfigurationError, match=name):
        check_supported(
            ps.TrainingConfig(**parts[ps.TrainingConfig]),
            ps.PyTorchExecutionConfig(**parts[ps.PyTorchExecutionConfig]),
        )
