"""A trained model as one ONNX file, proven against the model on real images."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import __version__
from ..destinations import check_file
from ..errors import InputError
from ..files import write_bytes
from ..models import ModelInfo, not_finite

OPSET = 18
"""The default of torch's exporter. Higher opsets (20, 21 and 23 were tried) give the same graph and
the same numbers but are read by fewer programs. It cannot write lower ones."""
TOLERANCE = 1e-4
"""Largest permitted difference of a logit, as a share of the largest logit (or of 1)."""
INPUT, OUTPUT = "pixels", "logits"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_NOISY = ("torch.onnx", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how close it is to the model.

    Attributes:
        path: the ONNX file.
        size: its size in bytes.
        opset: the version of ONNX's operators.
        images: number of images on which file and model were compared.
        difference: largest absolute difference of a logit, over batches of one and of all.
        scale: largest absolute logit, but at least 1; difference / scale is at most
            :data:`TOLERANCE`.
    """

    path: Path
    size: int
    opset: int
    images: int
    difference: float
    scale: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.2f} MB, ONNX opset {self.opset}. On {self.images} "
            f"images its logits differ from the model's by at most {self.difference:.1e} "
            f"(largest logit: {self.scale:.1f})."
        )


def export_onnx(
    model: nn.Module,
    info: ModelInfo,
    path: str | Path,
    sample: npt.NDArray[np.uint8],
    *,
    notes: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write the model as an ONNX graph and prove it with onnxruntime.

    The graph takes raw pixels and does the rest itself, so that nobody needs to know the mean and
    standard deviation of the training images:

    ========= ========= ======================= ==========================================
    name      type      shape                   meaning
    ========= ========= ======================= ==========================================
    pixels    uint8     (batch, channels, S, S) values 0 to 255; RGB where channels is 3
    logits    float32   (batch, classes)        softmax gives probabilities
    ========= ========= ======================= ==========================================

    With x the pixels, it computes model((x / 255 - mean) / std) in evaluation mode; ``batch`` may
    be any number from 1. Its ``metadata_props`` contain, as text: ``classes`` (JSON list, in the
    order of the logits), ``image_size`` (S), ``channels``, ``mean``, ``std`` (JSON lists, scale 0
    to 1), ``norm``, ``input``, and ``notes``. They contain no path of this machine.

    The normalization layers are exported as their definition (``norms/_core.py``): means,
    variances and arithmetic, no fused operators.

    Before the file is written, onnxruntime (CPU) runs it on ``sample``, image by image and all at
    once, and every logit is compared with the model's. If they differ by more than
    :data:`TOLERANCE` times max(1, largest logit), nothing is written and an existing file is kept.

    Args:
        model: the trained model. It is not changed, nor are its mode and device.
        info: its description.
        path: the file.
        sample: real images, uint8 (N, channels, S, S), N at least 1. Give two or more, so that a
            batch is checked too.
        notes: further entries of ``metadata_props``.

    Raises:
        InputError: a package is missing, a sample of another shape or type, a model that cannot
            be written as ONNX, logits that differ or are not finite, or a file that cannot be
            written.
    """
    _check_packages()
    _no_telemetry()
    path = Path(path)
    check_file(path)
    sample = np.ascontiguousarray(sample)
    shape = (info.in_channels, info.image_size, info.image_size)
    if sample.dtype != np.uint8 or sample.ndim != 4 or sample.shape[1:] != shape or not len(sample):
        raise InputError(
            f"The images that check the export must be uint8 of shape (N, "
            f"{', '.join(map(str, shape))}), got {sample.dtype} of shape {sample.shape}."
        )
    whole = _FromPixels(copy.deepcopy(model).cpu(), info).eval()
    with torch.no_grad():
        expected = whole(torch.from_numpy(sample)).numpy()
    if not np.isfinite(expected).all():
        raise InputError(
            "The model's logits are not finite, so its export cannot be checked. "
            f"{not_finite(model)}".rstrip()
        )
    content = _graph(whole, info, sample, notes or {})
    difference = _largest_difference(content, sample, expected)
    scale = max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE * scale:
        raise InputError(
            f"The exported graph does not match the model: its logits differ by up to "
            f"{difference:.3g} (largest logit: {scale:.3g}). Nothing was written to {path}."
        )
    write_bytes(path, content)
    return ExportReport(path, len(content), OPSET, len(sample), difference, scale)


class _FromPixels(nn.Module):
    """The model, preceded by the normalization of pixels as computed for training batches."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.model = model
        for name, values in (("pixel_mean", info.mean), ("pixel_std", info.std)):
            on_pixels = torch.tensor(values, dtype=torch.float64).mul(255).float()
            self.register_buffer(name, on_pixels.view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model((pixels.float() - self.pixel_mean) / self.pixel_std)
        return logits


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Exporting needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed. Run: pip install 'normlab[export]'"
        )


def _no_telemetry() -> None:
    """Keep onnxruntime from sending events, and from writing an identifier of this device.

    It reads the variable when it is imported, which the exporter may do before us.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _graph(
    whole: nn.Module, info: ModelInfo, sample: npt.NDArray[np.uint8], notes: Mapping[str, str]
) -> bytes:
    # A traced batch of 1 would become a constant.
    traced = torch.from_numpy(np.resize(sample, (2, *sample.shape[1:])))
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                whole,
                (traced,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(
            f"A model with the normalization {info.norm!r} cannot be exported to ONNX: {reason}."
        ) from error
    assert program is not None
    graph: Any = program.model_proto
    _strip(graph.graph)
    graph.producer_name, graph.producer_version = "normlab", __version__
    side, channels = info.image_size, info.in_channels
    facts = {
        "classes": json.dumps(list(info.classes), ensure_ascii=False),
        "image_size": str(side),
        "channels": str(channels),
        "mean": json.dumps(list(info.mean)),
        "std": json.dumps(list(info.std)),
        "norm": info.norm,
        "input": f"{INPUT}: uint8 (batch, {channels}, {side}, {side}), values 0 to 255, "
        f"{'RGB' if channels == 3 else 'grey' if channels == 1 else 'planes'}; the graph "
        f"normalizes them itself. {OUTPUT}: softmax over the classes gives probabilities.",
        **notes,
    }
    import_module("onnx.helper").set_model_props(graph, facts)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _strip(graph: Any) -> None:
    """Remove the exporter's traces of each part: half of the file, and paths of this machine."""
    parts = (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _largest_difference(
    content: bytes, sample: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> float:
    runtime = import_module("onnxruntime")
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    single = [session.run([OUTPUT], {INPUT: sample[i : i + 1]})[0] for i in range(len(sample))]
    together = session.run([OUTPUT], {INPUT: sample})[0]
    return float(np.abs(np.stack([np.concatenate(single), together]) - expected).max())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on missing packages and on its own inner workings."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        aside = io.StringIO()
        with warnings.catch_warnings(), redirect_stdout(aside), redirect_stderr(aside):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
