"""How the processor time of a study grows with images, pixels, depth, batch and arms.

OMP_NUM_THREADS=1 python benchmarks/growth.py [--data FOLDER] [--out growth.png]

One thing is varied at a time, the others stay as they are. Every study is made by the command line
in a process of its own, with one worker, from a filled cache (see ``overhead.py``). The slope is
that of a straight line through the logarithms, by least squares: 1 is growth in proportion, 0 none.
What training takes (steps and evaluation) has its own slope beside that of the whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from overhead import TRAINING, repeat

from normlab.report.vega import picture

ARMS = ("bn", "none", "ln", "gn", "in", "bin", "torch_bn", "gn:groups=4")
"""The first is alone where arms are not varied. A deep network without normalization diverges, so
that its run would end early."""
BASE = {"images": 40, "pixels": 32, "n": 2, "batch": 32, "arms": 1}
"""Images are those of a class; pixels those of a side."""
VARIED = {
    "images": (10, 20, 40, 80),
    "pixels": (16, 32, 64, 128),
    "n": (1, 2, 4, 8),
    "batch": (4, 8, 16, 32, 64),
    "arms": (1, 2, 4, 8),
}
TITLES = {
    "images": "training images of a class",
    "pixels": "pixels of a side",
    "n": "n (6n+2 layers)",
    "batch": "images of a batch",
    "arms": "arms",
}


def words(data: str, epochs: int, setting: dict[str, int]) -> list[str]:
    """The command of a study."""
    return [
        "compare", "--data", data, "--limit-per-class", str(setting["images"]),
        "--limit-all-splits", "--image-size", str(setting["pixels"]), "--n", str(setting["n"]),
        "--batch-size", str(setting["batch"]), "--arms", ",".join(ARMS[: setting["arms"]]),
        "--epochs", str(epochs), "--seeds", "1", "--workers", "1",
        "--reference", ARMS[0],
    ]  # fmt: skip


def slope(values: list[float], seconds: list[float]) -> float:
    """Of the logarithm of seconds over that of values."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def panel(name: str, rows: list[dict[str, Any]], slopes: dict[str, float]) -> dict[str, Any]:
    """A chart on log axes, with both slopes in its title."""
    log = {"type": "log"}
    said = ", ".join(f"{part} {value:.2f}".replace("-", "−") for part, value in slopes.items())
    points = [row["value"] for row in rows]
    return {
        "title": {"text": TITLES[name], "subtitle": f"slope: {said}"},
        "data": {"values": rows},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {
                "field": "value", "type": "quantitative", "title": None,
                "scale": {**log, "base": 2, "nice": False},
                "axis": {"values": sorted(set(points)), "grid": False},
            },
            "y": {
                "field": "seconds", "type": "quantitative",
                "title": "seconds of a processor", "scale": {**log, "nice": True},
                "axis": {"values": [0.1, 1, 10, 100, 1000], "titleFontWeight": "normal"},
            },
            "color": {"field": "part", "type": "nominal", "title": None,
                      "legend": {"orient": "top"},
                      "scale": {"range": ["#57606a", "#0969da"]}},
        },
        "width": 190,
        "height": 170,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    repeat([*words(given.data, 1, {**BASE, "images": 2}), "--dry-run"])  # what all share
    panels = []
    print("| varied | values | all but training, seconds | training, seconds | slope of training "
          "| of the whole |\n| --- | --- | --- | --- | ---: | ---: |")  # fmt: skip
    for name, values in VARIED.items():
        rest, training, whole = [], [], []
        for value in values:
            asked = words(given.data, given.epochs, {**BASE, name: value})
            repeat([*asked, "--dry-run"])  # fills the cache
            parts = repeat(asked)["parts"]
            training.append(sum(parts[part] for part in TRAINING))
            whole.append(sum(parts.values()))
            rest.append(whole[-1] - training[-1])
        numbers = [float(value) for value in values]
        slopes = {"training": slope(numbers, training), "whole": slope(numbers, whole)}
        cells = [", ".join(f"{one:.1f}" for one in column) for column in (rest, training)]
        print(f"| {TITLES[name]} | {', '.join(map(str, values))} | {' | '.join(cells)} "
              f"| {slopes['training']:.2f} | {slopes['whole']:.2f} |", flush=True)  # fmt: skip
        rows = [
            {"value": value, "seconds": one, "part": part}
            for part, column in (("training", training), ("whole", whole))
            for value, one in zip(values, column, strict=True)
        ]
        panels.append(panel(name, rows, slopes))
    if given.out:
        chart = {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "background": "#ffffff",
            "concat": panels,
            "columns": 2,
            "resolve": {"scale": {"y": "shared"}},
            "config": {"font": "Helvetica, Arial, sans-serif", "view": {"stroke": None},
                       "title": {"anchor": "start", "fontWeight": "normal", "fontSize": 13}},
        }  # fmt: skip
        given.out.write_bytes(picture(chart)[1])
        print(f"\n{given.out}")


if __name__ == "__main__":
    main()
