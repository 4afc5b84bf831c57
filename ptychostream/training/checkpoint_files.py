"""Lightning's checkpoints, written so that none is lost and read so that none is trusted."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from ptychostream.files import whole_file
from ptychostream.persistence.checkpoint import load_checkpoint


class WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint beside the one that it replaces, then renames it.

    Lightning itself writes to the system's folder for temporary files and moves: from another
    file system, that overwrites the old checkpoint bit by bit.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        # In memory first: torch hides the error of a full disk behind one of its own.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_bytes(content.getbuffer())

    @override
    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return load_checkpoint(Path(path))
