"""Labelled series: the [`Sample`] that every source yields, and the folder format described by a dataset.json."""

from dataclasses import dataclass

import numpy as np

from .metadata import ImageSeries

IGNORE_INDEX = 255


@dataclass(frozen=True)
class Sample:
    """One labelled image series and what is asked of it.

    Args:
        series: the images, with pixels.
        task: `semantic_segmentation`, `binary_change_detection` or `semantic_change_detection`.
        classes: names of the classes asked for; labels are positions in this tuple.
        outputs: one entry a map. Semantic tasks: positions of the dates that the map describes. Binary change
            detection: (before, after), the two dates between which change is asked for.
        labels: (maps, height, width) uint8, positions in `classes`, 255 = not labelled; `None` where there are none.
        source: name of the data set, which also names its band statistics.
        name: name of the sample.
    """

    series: ImageSeries
    task: str
    classes: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    labels: np.ndarray | None = None
    source: str | None = None
    name: str = ""
