"""The test images that most arms get wrong, as cards with their pixels."""

from __future__ import annotations

from typing import Any

from ....errors import InputError
from ....pages.images import data_uri
from ....results import Answers, HardImage, Results
from ....runs.pictures import read_pictures

SHOWN = 24
"""Images in all."""
AGAIN = "The command that made the study writes the file anew."
FIRST = 12
"""Images shown before the rest is folded."""


def cards(
    results: Results, hard: list[HardImage], found: Answers
) -> tuple[list[dict[str, Any]], str]:
    """The hardest images, and what is wrong with the file of their pixels, if anything."""
    try:
        pictures, damaged = read_pictures(results.folder), ""
    except InputError as error:
        pictures, damaged = {}, f"The images are not shown: {str(error).rstrip('.')}. {AGAIN}"
    made = []
    for image in hard:
        pixels = pictures.get(image.name)
        made.append(
            {
                "name": image.name,
                "picture": None if pixels is None else data_uri(pixels),
                "true": found.classes[image.label],
                "wrong": image.wrong,
                "runs": image.runs,
                "taken": [(found.classes[k], times) for k, times in image.taken_for],
                "arms": [
                    {
                        "name": arm,
                        "wrong": of_arm.wrong,
                        "runs": of_arm.runs,
                        "taken": None
                        if of_arm.taken_for is None
                        else found.classes[of_arm.taken_for],
                    }
                    for arm, of_arm in image.arms.items()
                ],
            }
        )
    return made, damaged
