"""PtychoPINN's workflows under the name that its callers import."""

from ptychostream.ptychopinn.workflows import (
    load_inference_bundle,
    load_inference_bundle_with_backend,
    run_cdi_example,
    run_cdi_example_with_backend,
    save_outputs,
    train_cdi_model,
    train_cdi_model_with_backend,
)

__all__ = [
    "load_inference_bundle",
    "load_inference_bundle_with_backend",
    "run_cdi_example",
    "run_cdi_example_with_backend",
    "save_outputs",
    "train_cdi_model",
    "train_cdi_model_with_backend",
]
