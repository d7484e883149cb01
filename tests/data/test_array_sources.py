"""IDX and CIFAR-10 files: crafted, damaged and malicious ones, and Debian's Fashion-MNIST."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError


def read(root: Path, **options: object) -> DataSet:
    return load(DataConfig(str(root), **options))  # type: ignore[arg-type]


def refusal(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(root)
    return str(caught.value)


def everything(data: DataSet) -> dict[str, np.ndarray]:
    return {
        name: image
        for split in data.splits.values()
        for name, image in zip(split.names.tolist(), split.images(), strict=True)
    }


# ------------------------------------------------------------------ IDX


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def images(count: int, height: int = 9, width: int = 9, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width), dtype=np.uint8)


IDX = {
    "train-images-idx3-ubyte": idx(images(40)),
    "train-labels-idx1-ubyte": idx(np.arange(40) % 4),
    "t10k-images-idx3-ubyte": idx(images(8, seed=1)),
    "t10k-labels-idx1-ubyte": idx(np.arange(8) % 4),
}


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    root = tmp_path / "mnist"
    root.mkdir()
    for name, content in IDX.items():
        (root / name).write_bytes(content)
    return root


def pack(root: Path) -> None:
    for path in list(root.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def dot(root: Path) -> None:
    for path in list(root.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))


@pytest.mark.parametrize("change", [None, pack, dot, lambda root: (dot(root), pack(root))])
def test_idx(mnist: Path, change: Callable[[Path], object] | None) -> None:
    if change:
        change(mnist)
    data = read(mnist)
    assert (data.kind, data.name, data.classes) == ("idx", "mnist", ("0", "1", "2", "3"))
    assert (data.channels, data.image_size) == (1, 9)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 32,
        "val": 8,
        "test": 8,
    }
    assert "no val split, so it was drawn: 15 % of train" in data.notes[0]
    got = everything(data)
    for row, image in enumerate(images(40)):
        np.testing.assert_array_equal(got[f"train/{row:05d}"][..., 0], image)
    np.testing.assert_array_equal(data.splits["test"].images()[..., 0], images(8, seed=1))
    np.testing.assert_array_equal(data.splits["test"].labels, np.arange(8) % 4)


def test_idx_is_resized_by_the_same_rule(mnist: Path) -> None:
    (mnist / "train-images-idx3-ubyte").write_bytes(idx(images(40, 12, 20)))
    (mnist / "t10k-images-idx3-ubyte").write_bytes(idx(images(8, 12, 20)))
    assert read(mnist).image_size == 12
    got = everything(read(mnist, image_size=8))["test/00000"][..., 0]
    whole = Image.fromarray(images(8, 12, 20)[0])
    expected = whole.resize((8, 8), Image.Resampling.BICUBIC, box=(4, 0, 16, 12))
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_idx_without_test_files(mnist: Path) -> None:
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (mnist / name).unlink()
    data = read(mnist)
    assert len(data.notes) == 2
    assert len(data.splits["test"]) == 8


def test_idx_labels_need_not_start_at_zero(mnist: Path) -> None:
    (mnist / "train-labels-idx1-ubyte").write_bytes(idx(3 + np.arange(40) % 4 * 5))
    (mnist / "t10k-labels-idx1-ubyte").write_bytes(idx(3 + np.arange(8) % 4 * 5))
    data = read(mnist)
    assert data.classes == ("3", "8", "13", "18")
    np.testing.assert_array_equal(data.splits["test"].labels, np.arange(8) % 4)


def test_corrected_labels_are_other_data(mnist: Path) -> None:
    """Names and pixels are the same, so the fingerprint has to know the labels."""
    before = read(mnist).fingerprint
    labels = np.arange(40) % 4
    labels[[0, 1]] = labels[[1, 0]]
    (mnist / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    assert read(mnist).fingerprint != before


def test_a_changed_idx_file_is_read_again(mnist: Path) -> None:
    first = read(mnist)
    (mnist / "train-images-idx3-ubyte").write_bytes(idx(images(40, seed=9)))
    assert read(mnist).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train-images-idx3-ubyte", b"", "starts with nothing instead of 00000803"),
        ("train-images-idx3-ubyte", b"\x89PNG....", "starts with 89504e47"),
        ("train-images-idx3-ubyte", idx(np.zeros(40)), "not an IDX file of images"),
        ("train-labels-idx1-ubyte", idx(images(40)), "not an IDX file of labels"),
        ("train-images-idx3-ubyte", IDX["train-images-idx3-ubyte"][:10], "within its header"),
        ("train-images-idx3-ubyte", IDX["train-images-idx3-ubyte"][:-1], "cut short"),
        ("train-images-idx3-ubyte", IDX["train-images-idx3-ubyte"] + b"x", "too long"),
        ("train-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, 40, 2**31, 2**31), "cut short"),
        ("train-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, 40, 0, 9), "no images"),
        ("train-labels-idx1-ubyte", idx(np.arange(39) % 4), "40 images and"),
        ("train-labels-idx1-ubyte", idx(np.zeros(40)), "only one class, 0"),
        ("t10k-labels-idx1-ubyte", idx(np.arange(8)), "classes that train lacks: 4, 5, 6, 7"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(8)), "Class 1 has no images in test"),
        ("t10k-images-idx3-ubyte", idx(images(8, 10, 9)), "10 x 9 pixels"),
        ("t10k-images-idx3-ubyte", None, "lacks t10k-images-idx3-ubyte"),
        ("train-labels-idx1-ubyte", None, "lacks train-labels-idx1-ubyte"),
    ],
)
def test_bad_idx(mnist: Path, name: str, content: bytes | None, says: str) -> None:
    (mnist / name).unlink()
    if content is not None:
        (mnist / name).write_bytes(content)
    message = refusal(mnist)
    assert says in message
    assert str(mnist) in message


@pytest.mark.parametrize("what", ["images-idx3", "labels-idx1"])
def test_bad_gzip(mnist: Path, what: str) -> None:
    pack(mnist)
    path = mnist / f"train-{what}-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert "damaged or cut short" in refusal(mnist)
    path.write_bytes(IDX[f"train-{what}-ubyte"])
    assert "damaged or cut short" in refusal(mnist)
    flipped = bytearray(whole)
    flipped[-6] ^= 0xFF
    path.write_bytes(flipped)
    assert "damaged or cut short" in refusal(mnist)


def test_idx_one_level_too_high(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    mnist.rename(tmp_path / "above" / "raw")
    assert f"one level too high. Give {tmp_path / 'above' / 'raw'}" in refusal(tmp_path / "above")


FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist() -> None:
    data = read(FASHION, limit_per_class=20, limit_all_splits=True)
    assert data.classes == tuple("0123456789")
    assert (data.image_size, data.channels, data.name) == (28, 1, "fashion-mnist")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 200,
        "val": 40,
        "test": 40,
    }
    with gzip.open(FASHION / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    test = data.splits["test"]
    rows = [int(name.split("/")[1]) for name in test.names]
    np.testing.assert_array_equal(test.images()[..., 0], pixels[rows])
    np.testing.assert_array_equal(test.labels, labels[rows])


# ------------------------------------------------------------------ CIFAR-10

COUNT = 30
NAMES = [f"thing{number}" for number in range(10)]
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def planes(seed: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def tags(count: int = COUNT) -> list[int]:
    return [row % 10 for row in range(count)]


def python2(value: object) -> bytes:
    """Protocol 2 as Python 2 wrote the official files: its strings are bytes."""
    if isinstance(value, str):
        raw = value.encode("latin1")
        if len(raw) < 256:
            return b"U" + bytes([len(raw)]) + raw
        return b"T" + struct.pack("<i", len(raw)) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        pairs = b"".join(python2(name) + python2(item) for name, item in value.items())
        return b"}(" + pairs + b"u"
    assert isinstance(value, np.ndarray)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01"
        + b"".join(python2(side) for side in value.shape)
        + b"\x86cnumpy\ndtype\n"
        + python2("u1")
        + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + python2(value.tobytes().decode("latin1"))
        + b"tb"
    )


def official(value: object) -> bytes:
    return b"\x80\x02" + python2(value) + b"."


def batch(seed: int, **changes: object) -> dict[str, object]:
    return {
        "batch_label": f"training batch {seed} of 5",
        "labels": tags(),
        "data": planes(seed),
        "filenames": [f"image_{row}.png" for row in range(COUNT)],
    } | changes


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    for seed, name in enumerate(BATCHES):
        (root / name).write_bytes(official(batch(seed)))
    meta = {"num_cases_per_batch": COUNT, "label_names": NAMES, "num_vis": 3072}
    (root / "batches.meta").write_bytes(official(meta))
    return root


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-10-batches-bin"
    root.mkdir()
    for seed, name in enumerate(BATCHES):
        records = np.column_stack([np.array(tags(), np.uint8), planes(seed)])
        (root / f"{name}.bin").write_bytes(records.tobytes())
    (root / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return root


def check_cifar(data: DataSet) -> None:
    assert data.kind == "cifar"
    assert data.classes == tuple(NAMES)
    assert (data.channels, data.image_size) == (3, 32)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 130,
        "val": 20,
        "test": 30,
    }
    got = everything(data)
    for seed in range(6):
        for row, flat in enumerate(planes(seed)):
            name = f"train/{seed * COUNT + row:05d}" if seed < 5 else f"test/{row:05d}"
            np.testing.assert_array_equal(got[name], flat.reshape(3, 32, 32).transpose(1, 2, 0))
    np.testing.assert_array_equal(data.splits["test"].labels, tags())


def test_the_official_pickle_is_what_python_2_wrote() -> None:
    """The crafted files load as the real ones do, through plain pickle."""
    content = pickle.loads(official({"data": planes(0), "labels": [1]}), encoding="bytes")
    np.testing.assert_array_equal(content[b"data"], planes(0))


def test_cifar_as_python_2_wrote_it(cifar: Path) -> None:
    check_cifar(read(cifar))


def test_cifar_binary_gives_the_same(binary: Path, cifar: Path) -> None:
    check_cifar(read(binary))
    assert read(binary).fingerprint == read(cifar).fingerprint


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_cifar_written_again_by_python_3(cifar: Path, protocol: int) -> None:
    for seed, name in enumerate(BATCHES):
        (cifar / name).write_bytes(pickle.dumps(batch(seed), protocol=protocol))
    (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, protocol=protocol))
    check_cifar(read(cifar))


def test_the_folder_above_what_the_archive_unpacks_to(cifar: Path, tmp_path: Path) -> None:
    check_cifar(read(tmp_path))
    (tmp_path / "more" / "other").mkdir(parents=True)
    moved = cifar.rename(tmp_path / "more" / "other" / "renamed")
    assert f"one level too high. Give {moved}" in refusal(tmp_path / "more" / "other")


def test_missing_batches_are_noted(cifar: Path) -> None:
    (cifar / "data_batch_3").unlink()
    (cifar / "data_batch_5").unlink()
    (cifar / "batches.meta").unlink()
    data = read(cifar)
    assert "Missing and not used: data_batch_3, data_batch_5." in data.notes
    assert data.classes == tuple("0123456789")
    assert any("named by number" in note for note in data.notes)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
def test_needed_batches(cifar: Path, binary: Path, name: str) -> None:
    (cifar / name).unlink()
    assert f"lacks {name}." in refusal(cifar)
    (binary / f"{name}.bin").unlink()
    assert f"lacks {name}.bin." in refusal(binary)


class Evil:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def fake(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls module.name(argument), through each opcode that can name things."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused_and_not_run(
    cifar: Path, tmp_path: Path, protocol: int
) -> None:
    ran = tmp_path / "ran"
    evil = Evil(os.system, f"touch {ran}")
    for content in (evil, batch(0, data=evil), batch(0, labels=[evil]), {"data": [evil]}):
        (cifar / "data_batch_1").write_bytes(pickle.dumps(content, protocol=protocol))
        message = refusal(cifar)
        assert "is refused: it asks to run" in message
        assert "system" in message
        assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [
        fake("builtins", "eval", "1"),
        fake("builtins", "getattr", "x"),
        fake("numpy", "load", "x"),
        fake("numpy.core.multiarray", "fromfile", "x"),
        fake("numpy", "ndarray.tofile", "x"),
        b"(S'touch x'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
        b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.",
    ],
)
def test_nothing_else_can_be_named(cifar: Path, content: bytes) -> None:
    (cifar / "data_batch_1").write_bytes(content)
    assert "is refused" in refusal(cifar)


def test_the_meta_file_is_guarded_too(cifar: Path, tmp_path: Path) -> None:
    evil = Evil(os.system, f"touch {tmp_path / 'ran'}")
    (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": evil}, protocol=2))
    assert "is refused" in refusal(cifar)
    assert not (tmp_path / "ran").exists()


def test_what_stands_in_does_not_outlive_a_file(cifar: Path) -> None:
    """A pickle may set attributes on what it was given; the next file gets things anew."""
    for names in (b"_codecs\nencode", b"numpy\ndtype", b"numpy.core.multiarray\n_reconstruct"):
        poison = b"\x80\x02c" + names + b"\nN}X\x01\x00\x00\x00xK\x01s\x86b."
        (cifar / "data_batch_1").write_bytes(poison)
        assert "does not contain a dictionary" in refusal(cifar)
    (cifar / "data_batch_1").write_bytes(official(batch(0)))
    check_cifar(read(cifar))


def reconstructed(state: bytes) -> bytes:
    return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state


DTYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"


@pytest.mark.parametrize(
    "array",
    [
        reconstructed(b""),
        reconstructed(b"K\x01b"),
        reconstructed(b"(K\x01K\x01K\x01\x86NU\x00\x89tb"),
        reconstructed(b"(K\x01K\x01K\x09\x86" + DTYPE + b"\x89U\x01xtb"),
        reconstructed(b"(K\x01J\xff\xff\xff\xffK\x01\x86" + DTYPE + b"\x89U\x01xtb"),
        reconstructed(b"(K\x01K\x01K\x01\x86" + DTYPE + b"\x88U\x01xtb"),
        reconstructed(b"(K\x01K\x01K\x01\x86cnumpy\ndtype\nU\x02O8\x85R\x89U\x01xtb"),
        b"cnumpy\nndarray\n",
        DTYPE,
    ],
)
def test_arrays_that_are_not_plain_bytes(cifar: Path, array: bytes) -> None:
    (cifar / "data_batch_1").write_bytes(b"\x80\x02}(U\x06labels](K\x01eU\x04data" + array + b"u.")
    assert "data_batch_1" in refusal(cifar)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged or not a Python batch"),
        (official(batch(0))[:5000], "damaged or not a Python batch"),
        (b"plain text", "damaged or not a Python batch"),
        (b"\x80\x02r\xff\xff\xff\xff.", "damaged or not a Python batch"),
        (official([1]), "does not contain a dictionary"),
        (official({"data": planes(0)}), "no list of labels"),
        (official(batch(0, labels=["a"])), "no list of labels"),
        (official(batch(0, labels=[300])), "no list of labels"),
        (official(batch(0, labels=tags(29))), "should contain 29 images"),
        (official(batch(0, data=planes(0)[:, :3000])), "should contain 30 images"),
        (official(batch(0, data="x")), "should contain 30 images"),
        (official(batch(0, labels=[11] * COUNT)), "has label 11, but there are 10 classes"),
        (pickle.dumps(batch(0, data=planes(0).astype(float)), protocol=2), "something other than"),
        (
            pickle.dumps(batch(0, data=np.asfortranarray(planes(0))), protocol=2),
            "something other than",
        ),
    ],
)
def test_bad_python_batches(cifar: Path, content: bytes, says: str) -> None:
    (cifar / "data_batch_1").write_bytes(content)
    message = refusal(cifar)
    assert says in message
    assert "data_batch_1" in message


@pytest.mark.parametrize("names", ["x", ["a"], ["a", "a"], ["a", 1], None])
def test_bad_class_names(cifar: Path, names: object) -> None:
    (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    assert "list of different class names" in refusal(cifar)


def test_bad_binary_batches(binary: Path) -> None:
    path = binary / "data_batch_2.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "not a whole number of records" in refusal(binary)
    path.write_bytes(b"")
    assert "0 bytes" in refusal(binary)
    path.write_bytes(b"\x63" + whole[1:])
    assert "has label 99, but there are 10 classes" in refusal(binary)
    path.write_bytes(whole)
    (binary / "batches.meta.txt").write_bytes(b"\xff\xfe\n")
    assert "not a text file of class names" in refusal(binary)
