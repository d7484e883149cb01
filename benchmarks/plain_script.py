"""The experiment as people write it for themselves: what normlab's time is compared with.

python benchmarks/plain_script.py FOLDER [--image-size 32] [--epochs 20] [--arms torch_bn,bn,none]

FOLDER has train, val and test with a folder for each class. Nothing of normlab is used. Files are
opened with Pillow in every epoch, by two loader processes; the layers are those of a textbook;
tensors are contiguous; PyTorch has all threads that it wants; one network is trained after the
other, and what the table and the curves need is computed as it goes. The recipe is normlab's: SGD
with momentum 0.9, cosine with a linear warm-up, weight decay on convolutions and the linear layer.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

EPS = 1e-5

# -------------------------------------------------------------------------- layers


class Scaled(nn.Module):
    """Weight and bias of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))


class BatchNorm(Scaled):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("running_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("running_var", torch.ones(1, channels, 1, 1))

    def standardized(self, x: Tensor) -> Tensor:
        if self.training:
            mean = x.mean((0, 2, 3), keepdim=True)
            var = x.var((0, 2, 3), unbiased=False, keepdim=True)
            count = x.numel() / x.shape[1]
            with torch.no_grad():
                self.running_mean = 0.9 * self.running_mean + 0.1 * mean
                self.running_var = 0.9 * self.running_var + 0.1 * var * count / (count - 1)
        else:
            mean, var = self.running_mean, self.running_var
        return (x - mean) / torch.sqrt(var + EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * self.standardized(x) + self.bias


class InstanceNorm(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        var = x.var((2, 3), unbiased=False, keepdim=True)
        return self.weight * (x - mean) / torch.sqrt(var + EPS) + self.bias


class BatchInstanceNorm(BatchNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        var = x.var((2, 3), unbiased=False, keepdim=True)
        of_image = (x - mean) / torch.sqrt(var + EPS)
        gate = self.gate.clamp(0, 1)
        mixed = gate * self.standardized(x) + (1 - gate) * of_image
        return self.weight * mixed + self.bias


class LayerNorm(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3), keepdim=True)
        var = x.var((1, 2, 3), unbiased=False, keepdim=True)
        return self.weight * (x - mean) / torch.sqrt(var + EPS) + self.bias


class GroupNorm(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(n, 8, c // 8, h, w)
        mean = x.mean((2, 3, 4), keepdim=True)
        var = x.var((2, 3, 4), unbiased=False, keepdim=True)
        x = ((x - mean) / torch.sqrt(var + EPS)).view(n, c, h, w)
        return self.weight * x + self.bias


LAYERS: dict[str, Any] = {
    "torch_bn": nn.BatchNorm2d,
    "bn": BatchNorm,
    "in": InstanceNorm,
    "bin": BatchInstanceNorm,
    "ln": LayerNorm,
    "gn": GroupNorm,
    "none": lambda _: nn.Identity(),
}

# -------------------------------------------------------------------------- network


class Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int, layer: Any, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=bias)
        self.norm1 = layer(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=bias)
        self.norm2 = layer(channels)
        self.stride, self.more = stride, channels - before

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.stride > 1 or self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x)


class Network(nn.Module):
    def __init__(self, n: int, classes: int, arm: str) -> None:
        super().__init__()
        layer, bias = LAYERS[arm], arm == "none"
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=bias)
        self.norm = layer(16)
        blocks, before = [], 16
        for channels in (16, 32, 64):
            for number in range(n):
                stride = 2 if channels > 16 and number == 0 else 1
                blocks.append(Block(before, channels, stride, layer, bias))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((2, 3)))


# -------------------------------------------------------------------------- data


class Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, folder: Path, size: int) -> None:
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.files = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((folder / name).iterdir())
        ]
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        image = Image.open(path).convert("RGB").resize((self.size, self.size))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, label


# -------------------------------------------------------------------------- training


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[Any]) -> tuple[float, float, float]:
    """Loss, accuracy and macro F1."""
    model.eval()
    losses, answers, labels = [], [], []
    for x, y in loader:
        logits = model(x)
        losses.append(F.cross_entropy(logits, y, reduction="sum").item())
        answers.append(logits.argmax(1))
        labels.append(y)
    answer, label = torch.cat(answers).numpy(), torch.cat(labels).numpy()
    macro = float(f1_score(label, answer, average="macro", zero_division=0))
    return sum(losses) / len(label), float((answer == label).mean()), macro


def train(arm: str, seed: int, loaders: dict[str, DataLoader[Any]], given: Any, out: Path) -> None:
    """One network: a CSV of its curves, its best weights, and a line of its results."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    classes = len(loaders["train"].dataset.classes)  # type: ignore[attr-defined]
    model = Network(given.n, classes, arm)
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    decayed = set(map(id, weights))
    others = [p for p in model.parameters() if id(p) not in decayed]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 5e-4}, {"params": others}], given.lr, momentum=0.9
    )
    steps = given.epochs * len(loaders["train"])
    warm_up = max(1, round(0.1 * steps))

    def rate(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best, kept = -1.0, model.state_dict()
    with (out / f"{arm}-{seed}.csv").open("w", newline="") as file:
        history = csv.writer(file)
        history.writerow(["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
                          "val_macro_f1"])  # fmt: skip
        for epoch in range(1, given.epochs + 1):
            model.train()
            loss_sum, right, count = 0.0, 0, 0
            for x, y in loaders["train"]:
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                loss_sum += loss.item() * len(y)
                right += int((logits.argmax(1) == y).sum())
                count += len(y)
            loss_of, accuracy, macro = evaluate(model, loaders["val"])
            history.writerow([epoch, loss_sum / count, right / count, loss_of, accuracy, macro])
            if accuracy > best:
                best, kept = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    torch.save(kept, out / f"{arm}-{seed}.pt")
    found = {name: evaluate(model, loader) for name, loader in loaders.items()}
    shown = "  ".join(f"{name} {100 * one[1]:.1f} %" for name, one in found.items())
    print(f"{arm} seed {seed}: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--n", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--arms", default=",".join(LAYERS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("plain"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    loaders = {
        split: DataLoader(
            Images(given.folder / split, given.image_size),
            given.batch_size,
            shuffle=split == "train",
            num_workers=2,
        )
        for split in ("train", "val", "test")
    }
    for arm in given.arms.split(","):
        for seed in range(given.seeds):
            train(arm, seed, loaders, given, given.out)


if __name__ == "__main__":
    main()
