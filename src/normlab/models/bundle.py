"""A trained model on disk: ``model.json`` and ``weights.safetensors``, no code and no pickle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from ..errors import InputError
from ..files import read_json, write_bytes, write_json
from .resnet import ResNet, Shortcut

FORMAT = "normlab model 1"
MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"


@dataclass(frozen=True)
class ModelInfo:
    """Everything to rebuild a model and to prepare an image for it, but the weights.

    Attributes:
        n, classes, norm, shortcut, in_channels: arguments of :class:`ResNet`, ``classes`` as
            names in the order of the logits.
        image_size: side in pixels of the images it was trained on.
        mean, std: per channel on the scale 0 to 1; a pixel enters as (value / 255 - mean) / std.
    """

    n: int
    classes: tuple[str, ...]
    norm: str
    shortcut: Shortcut
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def build(self, seed: int | None = None) -> ResNet:
        """A network of this architecture with fresh weights."""
        return ResNet(
            self.n, len(self.classes), self.norm, self.shortcut, self.in_channels, seed=seed
        )


def save_model(folder: Path, info: ModelInfo, weights: dict[str, torch.Tensor]) -> None:
    """Write the bundle. Equal weights give equal bytes."""
    plain = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(weights.items())
    }
    write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(plain))
    write_json(folder / MODEL_FILE, {"format": FORMAT, **asdict(info)})


def load_info(folder: Path) -> ModelInfo:
    """Read ``model.json``.

    Raises:
        InputError: no bundle there, or one of another format.
    """
    path = Path(folder) / MODEL_FILE
    content = read_json(path)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f"{path} is not of the format {FORMAT!r}")
    try:
        content = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return ModelInfo(**content)
    except TypeError as error:
        raise InputError(f"{path} does not describe a model: {error}") from error


def load_model(run: str | Path) -> ResNet:
    """The trained model of a run, in evaluation mode on the CPU.

    Args:
        run: the run's folder, holding ``model.json`` and ``weights.safetensors``. A run whose
            arm is a layer of your own needs that layer to be importable.

    Raises:
        InputError: no bundle there, or weights that do not fit the model.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run's folder; give STUDY/runs/ARM/seed-K")
    info = load_info(folder)
    model = info.build(seed=0)
    path = folder / WEIGHTS_FILE
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"cannot load {path}: {error}") from error
    return model.eval()
