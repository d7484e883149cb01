"""Studies whose data was recorded before there was a choice of what is limited."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from normlab import compare
from normlab.data import DataConfig, load
from normlab.errors import InputError
from normlab.files import write_json, write_text
from normlab.runs import RunConfig, read_predictions, read_record
from normlab.studies import Request, recorded_data
from normlab.training import train
from normlab.workflow import explain

SMALL: dict[str, Any] = {"arms": "none", "seeds": 1, "n": 1, "epochs": 1, "workers": 1}


def _without_seal(study: Path) -> list[str]:
    """Lines of study.toml as they were written before there were checksums."""
    lines = (study / "study.toml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("#")]
    assert len(kept) == len(lines) - 2
    return kept


def test_a_limited_study_of_before_is_read_as_it_was_and_not_mixed(tmp_path: Path) -> None:
    study = tmp_path / "study"
    compare(out=study, limit_per_class=6, limit_all_splits=True, **SMALL)
    run = study / "runs/none/seed-0"
    recorded = read_record(run)["data"]
    config = {k: v for k, v in recorded["config"].items() if k != "limit_all_splits"}
    assert load(recorded_data(run, config)).fingerprint == recorded["fingerprint"]
    toml = _without_seal(study)
    earlier = [line for line in toml if not line.startswith("limit_all_splits")]
    assert len(earlier) == len(toml) - 1
    write_text(study / "study.toml", "\n".join(earlier))
    with pytest.raises(InputError, match="limited val and test too, which --limit-all-splits"):
        compare(out=study, limit_per_class=6, **SMALL)
    again = compare(out=study, limit_per_class=6, limit_all_splits=True, **SMALL)
    assert again.runs_made == 0


def test_settings_of_the_split_are_recorded_and_repeated(photos: Path, tmp_path: Path) -> None:
    asked = Request.of(
        data=str(photos), group_by=r"/(\d)", limit_per_class=9, limit_all_splits=True
    )
    assert r"--limit-all-splits --group-by '/(\d)'" in asked.command()
    made = compare(data=photos, out=tmp_path / "study", group_by=r"/(\d\d)", **SMALL)
    text = (made.folder / "study.toml").read_text()
    assert r"group_by = '/(\d\d)'" in text or r'group_by = "/(\\d\\d)"' in text
    assert r"--group-by '/(\d\d)'" in "\n".join(made.results.question["commands"])
    described = (made.folder / "data.json").read_text()
    assert r'"group_by": "/(\\d\\d)"' in described
    assert "group_by puts 48 images in 24 groups" in described
    assert '"groups"' in described


def test_a_study_of_groups_is_explained_on_images_without_them(
    photos: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    data = load(DataConfig(str(photos), group_by=r"/(\d\d)\."))
    train(RunConfig(norm="none", n=1, epochs=1), data, run)
    other = write({"Robin": 4, "Wren": 4}, "other")
    for path in sorted(other.rglob("*.png")):
        path.rename(path.with_stem(f"bird-{path.stem}-x"))
    assert explain(run, data=str(other), out=tmp_path / "gallery").page.is_file()


def test_a_split_that_separated_copies_is_not_taken_for_the_new_one(
    photos: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    made = compare(data=photos, out=study, **SMALL)
    # As it was recorded before: the same images, of which some have copies elsewhere.
    train = next(iter(read_predictions(made.folder / "runs/none/seed-0", "test").images))
    shutil.copy(photos / train, photos / "Robin" / "copy.png")
    record = read_record(study / "runs/none/seed-0")
    for name in ("group_by", "limit_all_splits", "resize"):
        del record["data"]["config"][name]
    write_json(study / "runs/none/seed-0/run.json", record)
    with pytest.raises(InputError, match="copies in different splits then, which now stay togeth"):
        explain(study / "runs/none/seed-0")
    toml = _without_seal(study)
    write_text(study / "study.toml", "\n".join(x for x in toml if "limit_all_splits" not in x))
    with pytest.raises(InputError, match="could separate copies of an image, which now stay"):
        compare(data=photos, out=study, **SMALL)


def test_all_reasons_why_an_earlier_study_is_another_are_named(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    root, study = write({"a": 12, "b": 12}), tmp_path / "study"
    rng = np.random.default_rng(0)
    for path in sorted(root.rglob("*.png")):
        Image.fromarray(rng.integers(0, 4000, (12, 12), np.uint16)).save(path)
    shutil.copy(root / "a/000.png", root / "a/copy.png")
    options: dict[str, Any] = {"data": root, "limit_per_class": 9, **SMALL}
    compare(out=study, limit_all_splits=True, **options)
    toml = _without_seal(study)
    write_text(study / "study.toml", "\n".join(
        re.sub(r"^fingerprint = .*", 'fingerprint = "of before"', line)
        for line in toml if not line.startswith("limit_all_splits")
    ))  # fmt: skip
    with pytest.raises(InputError) as caught:
        compare(out=study, limit_all_splits=True, **options)
    message = str(caught.value)
    assert "the settings are the same, but not the images, labels or splits" in message
    assert "limited val and test too" not in message
    assert "could separate copies" in message
    assert "grey values of more than 8 bits were read with another range" in message
    with pytest.raises(InputError) as caught:
        compare(out=study, image_size=8, **options)
    message = str(caught.value)
    assert "(image_size: not given there, 8 asked; limit_all_splits: True there, False" in message
    assert "limited val and test too" in message
    assert "could separate copies" in message
    run = study / "runs/none/seed-0"
    record = read_record(run)
    record["data"]["fingerprint"] = "of before"
    del record["data"]["config"]["group_by"]
    write_json(run / "run.json", record)
    with pytest.raises(InputError, match="stay together; or grey values of more than 8 bits"):
        explain(run)
