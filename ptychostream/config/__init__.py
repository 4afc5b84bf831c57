"""What a user may choose: what is computed (three dataclasses), and where and how fast (one).

Each class checks itself on construction, so that code downstream can trust it.
"""

from ptychostream.config.execution import PyTorchExecutionConfig
from ptychostream.config.inference import InferenceConfig
from ptychostream.config.model import ModelConfig
from ptychostream.config.older_schema import from_older_schema
from ptychostream.config.training import TrainingConfig
from ptychostream.config.yaml_files import from_mapping, read_yaml, to_mapping, write_yaml

__all__ = [
    "InferenceConfig",
    "ModelConfig",
    "PyTorchExecutionConfig",
    "TrainingConfig",
    "from_mapping",
    "from_older_schema",
    "read_yaml",
    "to_mapping",
    "write_yaml",
]
