"""The configuration of a run: all that decides its numbers, apart from the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import InputError
from ..foreign import factory_of
from ..launch import HOW
from ..options import check_names, checked, fields_of, option

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["constant", "step", "cosine"]
Precision = Literal["float32", "bfloat16"]
Budget = Literal["epochs", "updates"]
Balance = Literal["none", "loss", "sampling"]
LrScaling = Literal["none", "linear", "sqrt"]
Device = Literal["cpu", "cuda"]
KernelChoice = Literal["torch", "compiled"]
Statistics = Literal["synchronized", "per-process"]
Start = Literal["distilled", "distilled_all", "matched", "copied", "fresh"]
MOST_EPOCHS, MOST_SEED = 10_000, 2**32 - 1
OUR_NETWORK = "resnet6n2"
"""The name of the residual network of 6n+2 layers."""
AS_IS = "as_is"
"""The arm that leaves a network as its factory makes it, or as the weights that it starts from have
it."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run. Frozen, and goes to JSON and back. What names the run is its
    :func:`~normlab.runs.identity`.

    >>> RunConfig(norm="gn:groups=4", epochs=20).lr
    0.02

    Raises:
        InputError: an impossible value, naming the field, the value and what is possible.

    >>> config = RunConfig(batch_size=8, accumulate=4)
    >>> config.images_per_update
    32
    >>> RunConfig.from_dict(config.to_dict()) == config
    True
    >>> RunConfig(epochs=0)
    Traceback (most recent call last):
    normlab.errors.InputError: epochs must be >= 1, got 0.
    """

    norm: str = option("bn", "Normalization, with options after a colon (gn:groups=4).")
    seed: int = option(
        0, "Determines initial weights, order and augmentation.", f">= 0 and <= {MOST_SEED}"
    )
    n: int = option(
        2,
        "Depth of the network: blocks in each of its three stages, 6n+2 layers in all.",
        ">= 1 and <= 1000",
    )
    shortcut: Literal["A", "B"] = option("A", "Shortcut where shapes change; A has no weights.")
    model: str = option(
        OUR_NETWORK,
        "The network. package.module:factory is a function or class of yours that returns any "
        "torch.nn.Module, called with classes (or num_classes) and in_channels (or in_chans); "
        "timm:NAME and torchvision:NAME are networks of these packages. Options follow after "
        "colons (option=value). Each arm puts its layer in the place of every normalization layer "
        "of images, and the arm as_is leaves the network alone.",
    )
    weights: str | None = option(
        None,
        "Start from trained weights: the folder of a trained model, or a file with a state dict "
        "(.safetensors, or .pth, which is read as tensors alone). {seed} stands for the seed of "
        "the run. A classifier of another size is replaced. The weights are those of the network "
        "as_is; other arms convert it.",
    )
    start: Start = option(
        "distilled",
        "With weights, what the layers of an arm start from where none computes the same. matched: "
        "weight and bias per channel reproduce the mean and spread of the old layer's output on "
        "512 training images. distilled: then they are trained on these, without labels, to give "
        "the network's old answers. distilled_all: so are all other parameters. copied: the old "
        "layer's own weight, bias and statistics. fresh: nothing.",
    )
    weights_least: float = option(
        0.9,
        "The smallest share of the network's parameters, without a classifier that is replaced, "
        "that the file of weights must have.",
        "in [0, 1]",
    )
    freeze_to: str | None = option(
        None,
        "Keep all parameters up to and including this module, by its path in the network and in "
        "the order of registration, as they are at the start. Their normalization layers stay in "
        "evaluation mode.",
    )
    head_lr: float | None = option(
        None,
        "Highest learning rate of the classifier. [default: lr]",
        "> 0 and <= 1e9",
    )
    epochs: int = option(8, "Passes over the training images.", f">= 1 and <= {MOST_EPOCHS}")
    batch_size: int = option(
        32, "Images per forward pass (the batch that statistics see).", ">= 1 and <= 1000000"
    )
    accumulate: int = option(
        1,
        "Batches whose gradients make one update; statistics remain per batch.",
        ">= 1 and <= 1000000",
    )
    budget: Budget = option(
        "epochs",
        "What an epoch is. updates: as many updates as one pass in batches of reference_batch, "
        "so that arms with different batch sizes make equally many.",
    )
    reference_batch: int = option(
        32, "Batch that budget and lr_scaling refer to.", ">= 1 and <= 1000000"
    )
    lr: float = option(0.02, "Highest learning rate.", "> 0 and <= 1e9")
    lr_scaling: LrScaling = option(
        "none",
        "Multiply the learning rate by images per update / reference_batch (linear), or by the "
        "square root of that (sqrt).",
    )
    optimizer: Optimizer = option("sgd", "Optimizer.")
    momentum: float = option(0.9, "Momentum of SGD (beta 1 of AdamW).", "in [0, 1)")
    nesterov: bool = option(False, "Nesterov momentum.")
    weight_decay: float = option(5e-4, "Weight decay.", ">= 0")
    decay_all: bool = option(False, "Decay normalization parameters and biases too.")
    schedule: Schedule = option("cosine", "Learning-rate schedule after warm-up.")
    warmup: float = option(0.1, "Share of the run with linear warm-up.", "in [0, 1)")
    step_at: tuple[float, ...] = option(
        (0.5, 0.75), "Schedule step: when the rate drops, as shares of the run.", "in (0, 1)"
    )
    step_factor: float = option(0.1, "Schedule step: factor at each drop.", "in (0, 1)")
    patience: int | None = option(
        None,
        "Stop after this many epochs without a rise in validation accuracy.",
        ">= 1 and <= 1000000",
    )
    label_smoothing: float = option(0.0, "Label smoothing in the training loss.", "in [0, 1)")
    balance: Balance = option(
        "none",
        "For classes of unequal size. loss: images count inversely to the size of their class in "
        "the training loss. sampling: draw with replacement, so that classes are equally likely. "
        "Every evaluation stays unweighted.",
    )
    clip_norm: float | None = option(None, "Clip the norm of the gradient to this.", "> 0")
    precision: Precision = option("float32", "bfloat16 trains under autocast.")
    crop_pad: int = option(
        0, "Augmentation: pad by this many pixels and crop back at random.", ">= 0 and <= 1024"
    )
    flip: bool = option(False, "Augmentation: mirror half of the images left to right.")
    record_features: bool = option(
        False, "Record percentiles of the penultimate features over validation, per epoch."
    )
    device: Device = option("cpu", "Where it runs.")
    kernels: KernelChoice = option(
        "torch",
        "How layers of normlab are computed. torch: operations of PyTorch. compiled: kernels in C "
        "where a method has one, which the system's compiler builds at first use; faster, on the "
        "CPU. auto, for a call: as the study has it that the call continues, else compiled where "
        "that can be used.",
    )
    threads: int = option(
        1, "CPU threads of the run; another number gives other bits.", ">= 1 and <= 1024"
    )
    processes: int = option(
        1,
        "Processes that divide each batch of the run; another number gives other bits. threads "
        "are those of each.",
        ">= 1 and <= 4096",
    )
    statistics: Statistics = option(
        "synchronized",
        "Whose statistics batch normalization takes in a run of several processes. synchronized: "
        "those of the whole batch, as in one process. per-process: those of each process's part.",
    )

    def __post_init__(self) -> None:
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)
        self._check_network()
        if self.nesterov and (self.momentum == 0 or self.optimizer != "sgd"):
            raise InputError("nesterov needs the optimizer sgd and a momentum above 0.")
        if self.kernels == "compiled" and not self.can_be_compiled:
            raise InputError(
                f"kernels compiled needs the device cpu, got {self.device}. Use kernels torch."
            )
        if self.processes > self.batch_size:
            raise InputError(
                f"batch_size is {self.batch_size}, too few images for {self.processes} processes: "
                "each needs one of a batch. Start fewer processes, or raise batch_size."
            )
        if self.statistics == "per-process" and self.processes == 1:
            raise InputError(
                "statistics per-process needs several processes. Start the run with torchrun: "
                f"{HOW} --statistics per-process"
            )

    def _check_network(self) -> None:
        ours = self.model == OUR_NETWORK
        for name in ("n", "shortcut"):
            if not ours and getattr(self, name) != FIELDS[name].default:
                raise InputError(f"{name} is of the model {OUR_NETWORK} alone, not {self.model}.")
        if self.norm == AS_IS and ours and self.weights is None:
            raise InputError(
                f"{AS_IS} leaves a network as it is, but {OUR_NETWORK} is made for an arm. Name "
                "another network with --model, or start from a trained one with --weights."
            )
        for name in ("start", "weights_least"):
            if self.weights is None and getattr(self, name) != FIELDS[name].default:
                raise InputError(f"{name} needs weights to start from. Give them with --weights.")

    @property
    def weights_file(self) -> str | None:
        """The folder or file of the weights of this seed."""
        return None if self.weights is None else self.weights.replace("{seed}", str(self.seed))

    @property
    def named(self) -> tuple[str, str]:
        """What may be a person's own code: the layer and the network's factory, "" where that is
        not one's own."""
        return self.norm, factory_of(self.model)

    @property
    def network(self) -> str:
        """The network in a few words."""
        if self.model != OUR_NETWORK:
            return self.model
        return f"{6 * self.n + 2} layers, shortcut {self.shortcut}"

    @property
    def images_per_statistics(self) -> int:
        """The batch that statistics see, the largest where parts of it differ."""
        if self.statistics == "per-process":
            return math.ceil(self.batch_size / self.processes)
        return self.batch_size

    @property
    def can_be_compiled(self) -> bool:
        """Whether the kernels know the device. They know both precisions."""
        return self.device == "cpu"

    @property
    def images_per_update(self) -> int:
        """The batch of the gradient: ``batch_size * accumulate``."""
        return self.batch_size * self.accumulate

    def updates_per_epoch(self, images: int) -> int:
        """Updates of the optimizer in an epoch over this many training images.

        With the budget ``epochs`` an epoch is one pass, and its last update may use fewer images;
        with ``updates`` it is ceil(images / reference_batch) updates.

        >>> RunConfig(batch_size=32).updates_per_epoch(100)
        4
        """
        if self.budget == "updates":
            return math.ceil(images / self.reference_batch)
        return math.ceil(math.ceil(images / self.batch_size) / self.accumulate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or TOML (None stays None)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The reverse of :meth:`to_dict`; omitted fields take their defaults.

        Raises:
            InputError: an unknown field or an impossible value.
        """
        check_fields(values)
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


FIELDS = fields_of(RunConfig)
"""Name to dataclass field, with its description in ``metadata["help"]``."""


def check_fields(values: Mapping[str, Any]) -> None:
    """Refuse names that are not fields of :class:`RunConfig`.

    Raises:
        InputError: with the name that was probably meant.
    """
    check_names(values, FIELDS, "a field of a run")
