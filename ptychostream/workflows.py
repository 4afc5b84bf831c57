"""PtychoPINN's workflows under the name that its callers import."""

from ptychostream.ptychopinn.workflows import (
    load_inference_bundle,
    run_cdi_example,
    save_outputs,
    train_cdi_model,
)

__all__ = ["load_inference_bundle", "run_cdi_example", "save_outputs", "train_cdi_model"]
