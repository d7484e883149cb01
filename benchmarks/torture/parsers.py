"""Everything that normlab reads and a stranger may have written: examples, and what reads them.

Seals are taken off the examples: who writes a hostile file can also seal it, and behind a seal that
does not fit nothing would be tried.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .data_parsers import data_parsers
from .parser import Parser, unsealed
from .scene import TINY, called, images


def parsers(base: Path, only: Sequence[str] = ()) -> Mapping[str, Parser]:
    """Name to parser, of files below an empty folder; not all are there if only some are asked."""
    of_data = data_parsers(base)
    if only and set(only) <= set(of_data):
        return of_data  # without the studies that others need
    photos = images(base / "photos", classes=2, each=12)
    study, split = base / "study", base / "split.json"
    for asked in (
        ("check-data", str(photos), "--image-size", "8", "--write-split", str(split),
         "--out", str(base / "check")),
        ("compare", "--data", str(photos), "--split", str(split), "--arms", "bn,gn", "--seeds",
         "3", "--tune", "lr=0.02,0.05", "--tune-seeds", "1", "--record-features", "--workers",
         "1", "--out", str(study), *TINY),
        ("compare", "sanity", "--data", str(photos), "--seeds", "1", "--workers", "1", "--out",
         str(base / "sanity"), *TINY),
    ):  # fmt: skip
        status, said = called(*asked)
        if status != 0:
            raise RuntimeError(f"{' '.join(asked)} ended with {status}: {said[-2000:]}")
    return {
        **_of_records(study, base / "sanity"),
        **_of_models(study),
        **_of_data(photos, split),
        **of_data,
    }


def _seed(path: Path) -> bytes:
    content = path.read_bytes()
    return unsealed(content) if path.suffix in (".json", ".toml") else content


def _of_records(study: Path, sanity: Path) -> dict[str, Parser]:
    from normlab.results import read_results, read_run
    from normlab.runs import read_features, read_history, read_predictions, read_record
    from normlab.runs.pictures import read_pictures
    from normlab.runs.same_function import read_same_function
    from normlab.runs.study_file import read_data, read_question
    from normlab.runs.tuning import read_tuning

    run = study / "runs/gn/seed-1"
    check = next(sanity.glob("checks/same-function/*.json"))

    def files(path: Path, read: Callable[[], object]) -> Parser:
        return Parser([_seed(path)], path, read)

    return {
        "study.toml": files(study / "study.toml", lambda: (read_question(study),
                                                           read_results(study))),
        "data.json": files(study / "data.json", lambda: read_data(study)),
        "run.json": files(run / "run.json", lambda: (read_record(run), read_run(run))),
        "history.csv": files(run / "history.csv", lambda: read_history(run)),
        "features.csv": files(run / "features.csv", lambda: read_features(run)),
        "predictions.npz": files(run / "predictions.npz", lambda: read_predictions(run, "test")),
        "tuning.json": files(study / "tuning/lr/tuning.json", lambda: read_tuning(study, "lr")),
        "checks/same-function": files(check, lambda: read_same_function(sanity, check.stem)),
        "hardest.npz": files(study / "hardest.npz", lambda: read_pictures(study)),
    }  # fmt: skip


def _of_models(study: Path) -> dict[str, Parser]:
    from normlab import load_model
    from normlab.models import load_card

    bundle = study.parent / "bundle"
    bundle.mkdir()
    run = study / "runs/gn/seed-1"
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(run / name, bundle / name)
    (bundle / "model.json").write_bytes(_seed(bundle / "model.json"))
    model, weights = bundle / "model.json", bundle / "weights.safetensors"
    return {
        "model.json": Parser([model.read_bytes()], model,
                             lambda: (load_card(bundle), load_model(bundle))),
        "weights.safetensors": Parser([weights.read_bytes()], weights, lambda: load_model(bundle)),
    }  # fmt: skip


def _of_data(photos: Path, split: Path) -> dict[str, Parser]:
    from normlab.data import DataConfig, load
    from normlab.studies import Request, make_plan

    grid = photos.parent / "grid.toml"
    example = (
        b'title = "{arms} layers"\nwhat = "norms"\nseeds = 2\n[run]\nepochs = 2\nlr = 0.1\n'
        b'[grid]\nnorm = ["bn", "gn:groups=4"]\nbatch_size = [8, 16]\n'
    )
    return {
        "split.json": Parser([_seed(split)], split,
                             lambda: load(DataConfig(source=str(photos), image_size=8,
                                                     split=str(split)))),
        "a grid in TOML": Parser([example], grid, lambda: make_plan(Request.of(str(grid), None))),
    }  # fmt: skip
