"""What is read is what was written, or it is said; and reading is bounded."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from normlab.bounded import parse_arrays, parse_json, parse_toml, read_file
from normlab.errors import InputError
from normlab.files import read_arrays, read_json, write_arrays, write_json
from normlab.seals import DamagedError, check_files, check_seal, digests_of, sealed_toml

RECORD = {"status": "complete", "metrics": {"loss": 0.123456789, "names": ["Žluna", "b"]}}


def _flips(path: Path) -> list[bytes]:
    """The file with one bit flipped, for every bit."""
    whole = path.read_bytes()
    return [
        whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
        for at in range(len(whole))
        for bit in range(8)
    ]


@pytest.mark.parametrize("record", [RECORD, {}])
def test_every_flipped_bit_of_a_record_is_found(tmp_path: Path, record: dict[str, object]) -> None:
    path = tmp_path / "run.json"
    write_json(path, record)
    assert read_json(path) == record
    for content in _flips(path):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_json(path)


def test_a_record_with_other_line_endings_is_the_same_record(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, RECORD)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_json(path) == RECORD


def test_a_record_without_a_seal_is_read_and_one_with_half_a_seal_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"status": "complete"}')
    assert read_json(path) == {"status": "complete"}
    path.write_text('{"status": "complete", "sha256": "abc"}')
    with pytest.raises(DamagedError, match="checksum is damaged"):
        read_json(path)


def test_every_flipped_bit_of_toml_is_found(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(sealed_toml('format = "x"\n\n[arms]\nbn = {}'))
    check_seal(path.read_bytes(), path)
    for content in _flips(path):
        with pytest.raises(DamagedError):
            check_seal(content, path)


def test_flipped_bits_of_arrays_are_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "hardest.npz"
    arrays = {"name": np.array(["a", "bc"]), "pixels": np.arange(24, dtype=np.uint8)}
    write_arrays(path, arrays)
    for content in _flips(path)[::11]:
        path.write_bytes(content)
        try:
            read = read_arrays(path, 1 << 16)
        except InputError:
            continue
        assert sorted(read) == sorted(arrays)
        assert all(np.array_equal(read[name], arrays[name]) for name in arrays)


def test_files_are_compared_with_what_their_record_lists(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n")
    (tmp_path / "weights.safetensors").write_bytes(b"\n\r\n")
    known = digests_of(tmp_path, ("history.csv", "weights.safetensors", "absent.npz"))
    assert sorted(known) == ["history.csv", "weights.safetensors"]
    check_files(tmp_path, known)
    (tmp_path / "history.csv").write_bytes(b"epoch,loss\r\n1,0.5\r\n")
    check_files(tmp_path, known)
    (tmp_path / "weights.safetensors").write_bytes(b"\n\n")
    with pytest.raises(DamagedError, match=r"weights\.safetensors is damaged.* Do this\.$"):
        check_files(tmp_path, known, "Do this.")
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"weights\.safetensors is missing\."):
        check_files(tmp_path, known)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, kind in (("pipe", "a pipe"), ("link", "a pipe"), (".", "a folder")):
        with pytest.raises(InputError, match=f"is {kind}, not a file"):
            read_file(tmp_path / name, 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(InputError, match="larger than"):
        read_file(tmp_path / "large", 10)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "levels"),
        (b'{"a": [' + b'{"b": [' * 60 + b"]}" * 60 + b"]}", "levels"),
        (b'{"loss": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"a": "\\ud800"}', "not Unicode"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "digits"),
        (b"\xff", "not Unicode"),
        (b"", "Expecting value"),
    ],
)
def test_json_is_bounded(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_json(content, "run.json")


def test_brackets_within_text_are_no_levels() -> None:
    assert parse_json(b'["' + b"[" * 1000 + b'\\"["]', "run.json") == ["[" * 1000 + '"[']


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a." * 100_000 + b"a = 1", "parts"),
        (b"[" + b'"a" . ' * 100_000 + b"a]", "parts"),
        (b"a = " + b"[" * 100_000, "nested too deep|levels"),
        (b"a = " + b"[" * 60 + b"]" * 60, "levels"),
        (b"a = " + b"9" * 100_000, "digits"),
        (b"\xff", "not Unicode"),
    ],
)
def test_toml_is_bounded(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_toml(content, "study.toml")


def _npz(header: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        text = header.ljust(117).encode() + b"\n"
        magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        archive.writestr("a.npy", magic + text + data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_npz("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }", bytes(1 << 21)),
         "unpack to more than 1 MiB"),
        (_npz("{'descr': '<f8', 'fortran_order': False, 'shape': (1 << 40,), }", b""), "."),
        (_npz("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }", b""),
         "states"),
        (_npz("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
         "Python objects"),
        (b"PK\x03\x04", "zip"),
    ],
)  # fmt: skip
def test_archives_are_checked_before_they_are_unpacked(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_arrays(content, "predictions.npz", 1 << 20)
