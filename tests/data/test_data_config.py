"""What is asked is checked at once, with the option's name in the message."""

from __future__ import annotations

import subprocess
import sys

import pytest

from normlab.data import DataConfig
from normlab.errors import InputError


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": ""}, "source must be"),
        ({"source": 3}, "source must be"),
        ({"image_size": 7}, "image_size must be a whole number of at least 8"),
        ({"image_size": 32.0}, "image_size must be"),
        ({"image_size": True}, "image_size must be"),
        ({"image_size": 10**6}, "image_size must be"),
        ({"limit_per_class": 0}, "limit_per_class must be a whole number of at least 1"),
        ({"val_fraction": 0.0}, "val_fraction must be between 0 and 1"),
        ({"val_fraction": 1.0}, "val_fraction must be between 0 and 1"),
        ({"test_fraction": -0.1}, "test_fraction must be between"),
        ({"test_fraction": float("nan")}, "test_fraction must be between"),
        ({"test_fraction": "a lot"}, "test_fraction must be between"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "nothing to train on"),
        ({"test_fraction": True}, "test_fraction must be between"),
        ({"split_seed": 1.5}, "split_seed must be"),
        ({"skip_bad": 1}, "skip_bad must be"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        DataConfig(**options)  # type: ignore[arg-type]


def test_the_face_is_light() -> None:
    """The command's help and the decoding processes must not wait for torch or scikit-learn."""
    code = (
        "import sys, normlab.data, normlab.data.config\n"
        "assert not {'torch', 'sklearn', 'PIL', 'numpy'} & set(sys.modules), 'face'\n"
        "import normlab.data.cache\n"
        "assert not {'torch', 'sklearn', 'joblib'} & set(sys.modules), 'worker'\n"
        "import normlab.data as d\n"
        "assert all(getattr(d, name) for name in d.__all__) and set(d.__all__) <= set(dir(d))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_no_attributes() -> None:
    import normlab.data

    with pytest.raises(AttributeError, match="DataLoader"):
        _ = normlab.data.DataLoader
