"""Words by certainty: facts and likely copies, groups that no single pair chains, decisions that a
person made once, and splits that are clean."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.checks import find_copies, quick_check, read_image_set
from normlab.checks.copies import groups
from normlab.checks.copies.clean import CleanSplit, clean_split
from normlab.checks.copies.counts import SURE_PRECISION
from normlab.checks.copies.decisions import decide, decisions_about, decisions_of, read_decisions
from normlab.checks.copies.exact import NEGLIGIBLE
from normlab.checks.copies.groups import Copies, copied_finding
from normlab.checks.copies.photographs import photographs
from normlab.checks.image_set import ImageSet
from normlab.data import DataConfig, load
from normlab.data.splitfile import SplitFile
from normlab.errors import InputError
from normlab.pages.findings import Finding, Level
from normlab.workflow import check_data
from normlab.workflow.checking import with_clean_split

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenes import COPIES, ListedPairs, is_plain, scene

SIDE = 8
Pairs = dict[tuple[str, str], float]


def image(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save(root: Path, name: str, seed: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image(seed).save(path)


@dataclass
class Planted:
    """A set of noise in which a test says which pairs the search lists, by name."""

    root: Path
    pairs: Pairs

    def near(self, image_set: ImageSet, **_: object) -> ListedPairs:
        """Stands for the search: each pair once, by the first file of its pixels."""
        names = image_set.names.tolist()
        digest = dict(zip(names, image_set.digests.tolist(), strict=True))
        first = {digest[name]: row for row, name in reversed(list(enumerate(names)))}
        return ListedPairs.of(
            {
                (first[digest[one]], first[digest[two]]): p
                for (one, two), p in self.pairs.items()
                if one in digest and two in digest
            }
        )

    def images(self, **options: object) -> ImageSet:
        return read_image_set(DataConfig(str(self.root), **options))  # type: ignore[arg-type]

    def copies(self, **options: object) -> Copies:
        return find_copies(self.images(**options))


Plant = Callable[..., Planted]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes a set of so many images by split and class, and a search that lists given pairs."""
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))

    def make(counts: dict[str, int], pairs: Pairs) -> Planted:
        root = tmp_path / "set"
        for number, (folder, count) in enumerate(counts.items()):
            for index in range(count):
                save(root, f"{folder}/{index:03d}.png", 1000 * number + index)
        planted = Planted(root, pairs)
        monkeypatch.setattr(groups, "near_copies", planted.near)
        return planted

    return make


def name(folder: str, index: int) -> str:
    return f"{folder}/{index:03d}.png"


SPLITS = {f"{split}/{kind}": n for split, n in (("train", 60), ("val", 20), ("test", 40))
          for kind in ("ant", "bee")}  # fmt: skip


def across(count: int, probability: float) -> Pairs:
    """So many test images, each with a pair in train."""
    return {
        (name("train/ant", index), name("test/ant", index)): probability for index in range(count)
    }


# ------------------------------------------------------------------ groups


def grouped(count: int, *pairs: tuple[int, int]) -> list[set[int]]:
    number = photographs(count, np.array(pairs, np.int64).reshape(-1, 2))
    found = [set(np.flatnonzero(number == n).tolist()) for n in np.unique(number)]
    return sorted((group for group in found if len(group) > 1), key=min)


def test_a_chain_or_a_star_of_single_pairs_is_no_photograph() -> None:
    """37 pairs of trousers, each linked to the next, or all to one, by one wrong pair each."""
    chain = grouped(37, *((n, n + 1) for n in range(36)))
    assert max(map(len, chain)) <= 3
    star = grouped(37, *((0, n) for n in range(1, 37)))
    assert max(map(len, star)) <= 4


def test_pairs_that_support_each_other_make_one_photograph() -> None:
    # All pairs of eight but for a few that the search missed, and two photographs apart from it.
    eight = [pair for pair in combinations(range(8), 2) if sum(pair) % 5]
    assert grouped(12, *eight, (8, 9), (9, 10)) == [set(range(8)), {8, 9, 10}]
    # One wrong pair between two photographs joins nothing; a second one between others does.
    two = [*combinations(range(4), 2), *combinations(range(4, 8), 2)]
    assert grouped(8, *two, (3, 4)) == [{0, 1, 2, 3}, {4, 5, 6, 7}]
    assert grouped(8, *two, (3, 4), (2, 5)) == [set(range(8))]
    # An original and three copies of it that were only found to be its own.
    assert grouped(4, (0, 1), (0, 2), (0, 3)) == [{0, 1, 2, 3}]


def test_groups_do_not_depend_on_the_order_of_the_images() -> None:
    rng = np.random.default_rng(0)
    pairs = np.unique(np.sort(rng.integers(40, size=(70, 2))), axis=0)
    pairs = rng.permutation(pairs[pairs[:, 0] != pairs[:, 1]])
    first = photographs(40, pairs)
    order = rng.permutation(40)
    again = photographs(40, order[pairs])[order]
    assert ((first[:, None] == first) == (again[:, None] == again)).all()
    assert len(np.unique(first)) < 40


def test_a_person_joins_and_divides() -> None:
    pairs = np.array([[0, 1], [1, 2], [0, 2]])
    divided = photographs(5, pairs, confirmed=np.array([[3, 4]]), rejected=np.array([[0, 2]]))
    assert divided[3] == divided[4]
    assert divided[0] == divided[1] != divided[2]


# ------------------------------------------------------------------ counts


def test_expected_counts_have_the_bounds_of_many_draws(plant: Plant) -> None:
    """The count of independent copies lies between the bounds in 95 % of draws."""
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.3, 0.94, 30)
    pairs = {(name("train/ant", n), name("test/ant", n)): float(p) for n, p in enumerate(chances)}
    _, test = plant(SPLITS, pairs).copies().shared
    assert test.expected == pytest.approx(chances.sum(), abs=1e-4)
    assert (test.exact, test.confirmed, test.likely) == (0, 0, 30)
    draws = (rng.random((20_000, 30)) < chances).sum(1)
    worse = (rng.random((20_000, 30)) < chances * SURE_PRECISION).sum(1)
    assert abs(test.upper - np.quantile(draws, 0.975)) <= 1
    assert abs(test.lower - np.quantile(worse, 0.025)) <= 1


def test_files_that_stand_or_fall_together_widen_the_bounds(plant: Plant) -> None:
    """Twenty files with the same pixels are copies all of them or none."""
    planted = plant(SPLITS, {(name("train/ant", 0), name("test/ant", 0)): 0.8})
    for index in range(1, 20):
        shutil.copy(planted.root / name("test/ant", 0), planted.root / name("test/ant", index))
    _, test = planted.copies().shared
    assert test.expected == pytest.approx(16, abs=1e-3)
    assert (test.lower, test.upper) == (0, 20)
    assert test.level is Level.LOOK


@pytest.mark.parametrize(
    ("count", "probability", "level"),
    [
        (0, 0.0, Level.FINE),
        (1, 0.97, Level.LOOK),  # a share of 1.25 % that may as well be none
        (8, 0.8, Level.INVALID),
        (3, 0.35, Level.LOOK),
        (40, 0.02, Level.LOOK),  # many weak pairs are no proof
    ],
)
def test_likely_copies_invalidate_numbers_only_by_their_lower_bound(
    plant: Plant, count: int, probability: float, level: Level
) -> None:
    _, test = plant(SPLITS, across(count, probability)).copies().shared
    assert test.level is level
    assert (test.lower > NEGLIGIBLE * test.total) == (level is Level.INVALID)
    finding = copied_finding(test)
    assert finding.level is level
    if level is Level.INVALID:
        assert f"About {round(test.expected)} of 80 test images" in finding.sentence
        assert f"{test.lower} to {test.upper}" in finding.sentence
        assert "likely" in finding.sentence


def test_exact_copies_are_facts_beside_likely_ones(plant: Plant) -> None:
    planted = plant(SPLITS, across(20, 0.9))
    for index in (30, 31, 32):
        shutil.copy(planted.root / name("train/bee", index), planted.root / name("test/bee", index))
    _, test = planted.copies().shared
    assert test.exact == 3
    assert test.expected == pytest.approx(3 + 18, abs=1e-3)
    assert test.lower >= 3
    sentence = copied_finding(test).sentence
    assert sentence.startswith("About 21 of 80 test images (26 %, ")
    assert sentence.endswith("; 3 are exact.")


def test_a_file_counts_through_its_photograph(plant: Plant) -> None:
    """Its own pairs are within test; the photograph is in train through another test image."""
    pairs = {
        (name("train/ant", 0), name("test/ant", 0)): 0.99,
        (name("test/ant", 0), name("test/ant", 1)): 0.99,
    }
    _, test = plant(SPLITS, pairs).copies().shared
    assert test.likely == 2


# ------------------------------------------------------------------ decisions


def decided(path: Path, rows: list[tuple[str, str, str]], header: str = "") -> Path:
    lines = [",".join(row) for row in rows]
    path.write_text("\n".join([header or "first,second,decision", *lines]) + "\n")
    return path


def say(planted: Planted, path: Path) -> None:
    whole = planted.images()
    decide(whole, decisions_about(whole, read_decisions(path), path))


def test_decisions_hold_for_counts_groups_and_splits_and_are_kept(
    plant: Plant, tmp_path: Path
) -> None:
    pairs = {
        (name("train/ant", 0), name("test/ant", 0)): 0.99,
        (name("train/ant", 1), name("test/ant", 1)): 0.6,
        (name("train/ant", 2), name("test/ant", 2)): 0.97,
    }
    planted = plant(SPLITS, pairs)
    before = planted.copies()
    assert before.shared[1].likely == 3
    say(
        planted,
        decided(
            tmp_path / "mine.csv",
            [
                (name("train/ant", 0), name("test/ant", 0), "different"),
                (name("test/ant", 1), name("train/ant", 1), "copy"),
                # The search did not list this one, whose labels differ: a person may still know.
                (name("train/bee", 7), name("test/ant", 9), "copy"),
            ],
        ),
    )
    # Another image set of the source: what was decided is remembered.
    copies = planted.copies()
    test = copies.shared[1]
    assert (test.confirmed, test.likely) == (2, 1)
    assert test.level is Level.INVALID
    sentence = copied_finding(test).sentence
    assert "2 are confirmed by hand" in sentence
    names = copies.image_set.names.tolist()

    def same(one: str, two: str) -> bool:
        return bool(copies.group[names.index(one)] == copies.group[names.index(two)])

    assert not same(name("train/ant", 0), name("test/ant", 0))
    assert same(name("train/ant", 1), name("test/ant", 1))
    assert same(name("train/bee", 7), name("test/ant", 9))
    split = clean_split(copies)
    assert split.split[names.index(name("test/ant", 0))] == 2
    one, two = (split.split[names.index(n)] for n in (name("train/bee", 7), name("test/ant", 9)))
    assert one == two
    # compare --clean-split: the rejected pair moves nothing, the others are in one split.
    made = with_clean_split(DataConfig(str(planted.root))).split
    assert made is not None
    file = SplitFile.read(Path(made))
    place = {n: part for part, found in file.images.items() for n in found.values()}
    assert place[name("test/ant", 0)] == "test"
    assert place[name("train/ant", 0)] == "train"
    assert place[name("train/bee", 7)] == place[name("test/ant", 9)]
    # The quick check of a study says the same.
    said = [finding.sentence for finding in quick_check(planted.images())]
    assert sentence in said
    assert any("3 decisions in mine.csv hold" in one for one in said)


def test_decisions_survive_renaming_and_a_new_file_replaces_them(
    plant: Plant, tmp_path: Path
) -> None:
    planted = plant(SPLITS, across(2, 0.9))
    whole = planted.images()
    content = dict(zip(whole.names.tolist(), whole.contents.tolist(), strict=True))
    one, two = name("train/ant", 0), name("test/ant", 0)
    hashes = [f"x{content[n]:016x}" for n in (one, two)]
    header = "first,second,first_content,second_content,decision"
    path = decided(tmp_path / "d.csv", [("old", "names", *hashes, "different")], header)  # type: ignore[list-item]
    (planted.root / two).rename(planted.root / name("test/ant", 700))
    say(planted, path)
    assert planted.copies().shared[1].likely == 1
    say(planted, decided(tmp_path / "none.csv", []))
    assert len(decisions_of(planted.images())) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "it has no column 'first'"),
        ("first,second,decision\na,b,maybe\n", "line 2: decision must be copy or different"),
        ("first,second,decision\n,b,copy\n", "line 2: first and second must name two images"),
        ("first,second,decision\na,b,copy\nb,a,different\n", "decides twice about b and a"),
        ("first,second,first_content,decision\na,b,12,copy\n", "an x and 16 hexadecimal digits"),
        ("first,second,decision\nno,where,copy\n", "no pair of images of"),
        ("\xff\xfe", "is not UTF-8"),
        ("first,second,decision\n" + "a" * 20_000 + ",b,copy\n", "field larger than"),
    ],
)
def test_a_bad_file_of_decisions_is_refused_before_the_long_part(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    planted = plant({"train/ant": 4, "train/bee": 4}, {})

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("normlab.workflow.checking.full_check", begun)
    path = tmp_path / "d.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        check_data(planted.root, decisions=path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_about_other_images_and_exact_copies_are_counted(plant: Plant, tmp_path: Path) -> None:
    planted = plant(SPLITS, across(1, 0.9))
    shutil.copy(planted.root / name("train/bee", 1), planted.root / name("train/bee", 2))
    say(
        planted,
        decided(
            tmp_path / "d.csv",
            [
                (name("train/ant", 0), name("test/ant", 0), "copy"),
                ("gone.png", name("test/ant", 3), "copy"),
                (name("train/bee", 1), name("train/bee", 2), "different"),
                (name("train/bee", 4), name("train/bee", 5), ""),
            ],
        ),
    )
    whole = planted.images()
    path = tmp_path / "d.csv"
    made = decisions_about(whole, read_decisions(path), path)
    assert (len(made), made.foreign, made.exact) == (1, 1, 1)
    (finding,) = made.findings()
    assert "1 more row names images that are not in this set" in finding.sentence
    assert "1 more row is about exact copies" in finding.sentence
    assert find_copies(whole).exact.group[0] >= 0
    assert len(np.unique(planted.copies().exact.group)) == len(whole) - 1


# ------------------------------------------------------------------ a clean split


def found_in(image_set: ImageSet) -> list[Finding]:
    """What a check of copies across splits says."""
    copies = find_copies(image_set)
    shared = [*copies.exact.findings(), *map(copied_finding, copies.shared)]
    return [
        finding
        for finding in shared
        if finding.level is not Level.FINE
        and finding.check in ("exact-duplicates", "near-duplicates")
    ]


def written(made: CleanSplit, root: Path, path: Path) -> ImageSet:
    made.file().write(path)
    return read_image_set(DataConfig(str(root), split=str(path)))


@pytest.mark.parametrize("test", ["auto", "keep", "redraw"])
def test_a_check_of_the_written_split_finds_nothing(
    plant: Plant, tmp_path: Path, test: str
) -> None:
    """Exact copies under two labels, near copies of each of them, chains that are no photograph,
    likely pairs, and files that are equal to a test image byte for byte."""
    pairs = {
        # The first file of this image is an ant; its near copy is a bee, as its second file is.
        (name("train/ant", 0), name("test/bee", 0)): 0.99,
        **{(name("train/ant", 10 + n), name("train/ant", 11 + n)): 0.97 for n in range(5)},
        (name("train/ant", 15), name("test/ant", 15)): 0.97,
        (name("train/bee", 20), name("val/bee", 10)): 0.7,
        (name("val/bee", 3), name("test/bee", 4)): 0.96,
    }
    planted = plant(SPLITS, pairs)
    root = planted.root
    shutil.copy(root / name("train/ant", 0), root / "val/bee/other label.png")
    shutil.copy(root / name("train/ant", 5), root / "test/ant/again.png")
    shutil.copy(root / name("test/bee", 9), root / "train/bee/again.png")
    shutil.copy(root / name("test/bee", 9), root / "test/bee/again.png")
    before = planted.copies()
    assert found_in(before.image_set)
    made = clean_split(before, test=test)  # type: ignore[arg-type]
    again = written(made, root, tmp_path / "split.json")
    assert found_in(again) == []
    if test == "keep":
        assert (made.split[before.image_set.split == 2] == 2).all()
        assert set(again.names[again.split == 2]) == set(
            before.image_set.names[before.image_set.split == 2]
        )
        return
    # The same groups, whatever the split.
    after = find_copies(again)
    place = {n: row for row, n in enumerate(again.names.tolist())}
    rows = np.array([place[n] for n in before.image_set.names.tolist()])
    assert (
        (before.group[:, None] == before.group) == (after.group[rows][:, None] == after.group[rows])
    ).all()
    # A clean split of it changes nothing.
    assert test == "redraw" or len(clean_split(after).moved) == 0


@pytest.mark.parametrize("kind", ["scenes", "digits"])
def test_a_check_of_a_split_that_the_search_made_finds_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real searches, before and after: copies under both labels, exact and near."""
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    ways = ["cropped", "flipped or quarter-turned", "brightened"]

    def original(index: int, label: int) -> Image.Image:
        if kind == "scenes":
            seed = index
            while is_plain(seed, label):
                seed += 1000
            return scene(seed, label, 48)
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels = found.images[np.flatnonzero(found.target == 2 + label)[index]]
        return Image.fromarray((pixels * 15).astype(np.uint8))

    rng = np.random.default_rng(0)
    for label, folder in enumerate(("one", "two")):
        for index in range(24):
            split = "train" if index < 14 else "val" if index < 18 else "test"
            (root / split / folder).mkdir(parents=True, exist_ok=True)
            original(index, label).save(root / split / folder / f"{index:02d}.png")
    for index, way in enumerate(ways):
        copy = COPIES[way](original(index, 0), rng)
        copy.save(root / f"test/one/near {index}.png")
        # The original under both labels, and a near copy under the second one.
        shutil.copy(root / f"train/one/{index:02d}.png", root / f"val/two/both {index}.png")
        copy.save(root / f"test/two/near {index}.bmp")
    shutil.copy(root / "train/two/05.png", root / "test/two/exact.png")
    before = find_copies(read_image_set(DataConfig(str(root))))
    assert found_in(before.image_set)
    again = written(clean_split(before), root, tmp_path / "split.json")
    assert found_in(again) == []


def test_moves_are_told_beside_what_had_to_move(plant: Plant) -> None:
    planted = plant(SPLITS, across(12, 0.99))
    copies = planted.copies()
    made = clean_split(copies)
    said = " ".join(made.sentences())
    assert len(made.moved) >= 12
    assert (
        f"24 images in 12 groups of copies were in more than one split; {len(made.moved)} of them "
        "were moved, where at least 12 had to be." in said
    )
    redrawn = clean_split(copies, test="redraw")
    # 120 images a class, half in train, a third in test, a sixth in val: most move by chance.
    by_chance = round(240 * (1 - 1 / 4 - 1 / 9 - 1 / 36))
    assert f"in a draw that ignores copies it would be about {by_chance}" in " ".join(
        redrawn.sentences()
    )
    assert abs(len(redrawn.moved) - by_chance) < 30


def test_a_split_of_a_split_keeps_what_was_left_out(plant: Plant, tmp_path: Path) -> None:
    planted = plant(SPLITS, across(3, 0.99))
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    copies = planted.copies()
    clean_split(copies, test="keep").file().write(first)
    check_data(planted.root, split=first, write_split=second, out=tmp_path / "out", workers=1)
    assert set(SplitFile.read(second).left_out) == set(SplitFile.read(first).left_out)
    load(DataConfig(str(planted.root), split=str(second)))


def test_a_smaller_size_does_not_replace_what_is_remembered(plant: Plant) -> None:
    """Small images hide copies: a later check at 8 px must not erase what one at 12 px knew."""
    planted = plant(SPLITS, across(4, 0.99))
    find_copies(planted.images(image_size=12))
    planted.pairs.clear()
    find_copies(planted.images(image_size=8))
    said = [f.sentence for f in quick_check(planted.images()) if f.check == "near-duplicates"]
    assert any("About 4 of 80 test images" in sentence for sentence in said)


# ------------------------------------------------------------------ tables and records


def test_records_stay_small_and_tables_grow_with_the_files(plant: Plant, tmp_path: Path) -> None:
    """Many pairs, many equal files, many unreadable ones: data.json points to the tables."""
    classes = {
        f"{split}/{kind}": 200 for split in ("train", "val", "test") for kind in ("ant", "bee")
    }
    planted = plant(classes, {})
    rng = np.random.default_rng(0)
    names = [name(folder, n) for folder in classes for n in range(200)]
    chosen = rng.integers(len(names), size=(9000, 2))
    planted.pairs.update(
        {(names[a], names[b]): float(p) for (a, b), p in
         zip(chosen, rng.uniform(0.1, 0.9, len(chosen)), strict=True) if a < b}
    )  # fmt: skip
    for index in range(400):
        shutil.copy(
            planted.root / name("train/ant", 0), planted.root / f"val/bee/equal {index}.png"
        )
        (planted.root / f"train/bee/broken {index}.png").write_bytes(b"no image")
    made = check_data(planted.root, out=tmp_path / "out", workers=1)
    assert made.record.stat().st_size < 1e6
    with (tmp_path / "out/pairs.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    exact = [row for row in rows if row["kind"] != "near"]
    assert len(exact) == 400
    assert {row["first"] for row in exact} == {name("train/ant", 0)}
    assert len(rows) - 400 >= len(planted.pairs)
    # Each pair of the image with 401 files is listed with all of them: no more than 401 rows.
    of_it = sum(name("train/ant", 0) in pair for pair in planted.pairs)
    assert len(rows) == 400 + len(planted.pairs) + 400 * of_it
    with (tmp_path / "out/unreadable.csv").open(newline="") as opened:
        assert sum(1 for _ in csv.DictReader(opened)) == 400
    assert "pairs.csv" in made.page.read_text(encoding="utf-8")
