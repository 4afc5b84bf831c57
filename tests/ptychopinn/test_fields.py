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


def test_fields_of_an_inference_that_do_nothing_are_said(tiny_store, tmp_path, caplog):
    named = {"model_path": tmp_path, "test_data_file": tmp_path, "output_dir": tmp_path}
    config = ps.InferenceConfig(debug=True, n_groups=60, backend="pytorch", **named)
    ps.reconstruct(tiny_store, config=config, passes=1, checks_fit=False)
    said = [r.message for r in caplog.records if "does nothing here" in r.message]
    assert [message.split("=")[0].split()[-1] for message in said] == [
        *("model_path", "test_data_file", "output_dir", "debug")
    ]
