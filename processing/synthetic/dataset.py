# Copyright 2026 The STSUN Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Samples of the synthetic world, without end."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from ..data.datasets import Sample
from ..metadata import CHANGE_CLASSES, TASKS, Acquisition, Band, default_outputs
from ..rasters.sensors import find_sensor, sensor_bands
from .materials import CLASSES, SyntheticError
from .scene import check_band, check_count, check_names, check_noise, check_seed, known_classes, make_scene

DEFAULT_SENSORS = ("sentinel-2", "landsat-8-oli-tirs", "planetscope-superdove", "worldview-3")


class _SensorRecord(NamedTuple):
    name: str | None
    bands: tuple[Band, ...]
    gsd_m: float | None


class SyntheticDataset(Dataset):
    """Samples of the synthetic world, each fixed by the seed and its index.

    Semantic segmentation asks for one map of a series whose land cover stays while the seasons pass; change tasks ask
    for each pair of neighbouring dates, or each date, of a series over years.

    Args:
        length: number of samples.
        sensors: names of the sensor table (see `find_sensor`), or tuples of [`Band`]; one is drawn a sample.
        tasks: drawn from with equal chances.
        classes: what semantic maps tell apart, out of `CLASSES` or of the finer `MATERIALS`; pixels of others are not
            labelled.
        sizes: least and greatest height and width in pixels, drawn apart.
        num_dates: least and greatest number of dates; change tasks have two or more.
        gsd_m: least and greatest size of a pixel in metres, drawn evenly on a logarithmic scale; `None` = that of the
            finest band of the sensors drawn.
        noise: see [`SyntheticScene.observe`].
        clouds: greatest share of clouds; each date's is drawn between 0 and this.
        change_fraction: least and greatest `change_fraction` of [`make_scene`], for the change tasks.
        random_bands: probability of other bands than the sensor has: with equal chances some of its own, or 2 to 12
            anywhere from 420 to 2300 nm and 8 to 350 nm wide (evenly on a logarithmic scale). They teach a model to
            read wavelengths, and so to work on sensors that it never met.
        mixed_sensors: probability that each date has a sensor of its own.
        seed: 0 or more.

    Raises:
        MetadataError: an unknown sensor, or one with a band that the synthetic world does not have.
        SyntheticError: another argument is out of range.
    """

    name = "synthetic"

    def __init__(
        self,
        length: int,
        *,
        sensors: Sequence[str | Sequence[Band]] = DEFAULT_SENSORS,
        tasks: Sequence[str] = TASKS,
        classes: Sequence[str] = CLASSES,
        sizes: tuple[int, int] = (32, 64),
        num_dates: tuple[int, int] = (1, 3),
        gsd_m: tuple[float, float] | None = (5.0, 30.0),
        noise: float = 0.005,
        clouds: float = 0.0,
        change_fraction: tuple[float, float] = (0.1, 0.4),
        random_bands: float = 0.0,
        mixed_sensors: float = 0.0,
        seed: int = 0,
    ):
        check_count("length", length)
        check_names("task", tasks, TASKS)
        known_classes(classes)
        for what, value in (("sizes", sizes), ("num_dates", num_dates)):
            _check_range(what, value, 1.0)
            for count in value:
                check_count(what, count)
        if gsd_m is not None:
            _check_range("gsd_m", gsd_m, 0.001)
        _check_range("change_fraction", change_fraction, 0.0, 1.0)
        for what, value in (("clouds", clouds), ("random_bands", random_bands), ("mixed_sensors", mixed_sensors)):
            if not 0.0 <= value <= 1.0:
                raise SyntheticError(f"{what} must lie between 0 and 1, got {value!r}.")
        check_noise(noise)
        if isinstance(sensors, str) or not sensors:
            raise SyntheticError(f"sensors must be a sequence of at least one sensor, got {sensors!r}.")
        self.length = length
        self.tasks = tuple(tasks)
        self.classes = tuple(classes)
        self.sizes, self.num_dates, self.gsd_m = tuple(sizes), tuple(num_dates), gsd_m
        self.noise, self.clouds, self.change_fraction = noise, clouds, tuple(change_fraction)
        self.random_bands, self.mixed_sensors = random_bands, mixed_sensors
        self.seed = check_seed(seed)
        self._sensors = tuple(_look_up(sensor, gsd_m is None) for sensor in sensors)

    def __len__(self) -> int:
        return self.length

    def class_names(self, task: str) -> tuple[str, ...]:
        """The classes that samples of a task ask for."""
        return CHANGE_CLASSES if task == "binary_change_detection" else self.classes

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"Sample {index} was asked for; this data set has samples 0 to {self.length - 1}.")
        rng = np.random.default_rng((self.seed, int(index)))
        task = self.tasks[rng.integers(len(self.tasks))]
        dates = self._draw_dates(rng, task)
        records = self._draw_records(rng, len(dates))
        if self.gsd_m is None:
            gsd_m = min(record.gsd_m for record in records)
        else:
            gsd_m = float(np.exp(rng.uniform(*np.log(self.gsd_m))))
        height, width = (int(size) for size in rng.integers(self.sizes[0], self.sizes[1] + 1, 2))
        scene = make_scene(
            int(rng.integers(2**62)),
            height,
            width,
            gsd_m=gsd_m,
            dates=dates,
            change_fraction=0.0 if task == "semantic_segmentation" else float(rng.uniform(*self.change_fraction)),
        )
        series = scene.observe(
            [Acquisition(record.bands, when, gsd_m, record.name) for record, when in zip(records, dates, strict=True)],
            noise=self.noise,
            clouds=rng.uniform(0.0, self.clouds, len(dates)),
        )
        outputs = default_outputs(task, len(dates))
        labels = scene.labels(task, outputs, self.classes)
        return Sample(series, task, self.class_names(task), outputs, labels, self.name, f"{self.seed}-{index}")

    def _draw_dates(self, rng: np.random.Generator, task: str) -> list[datetime]:
        """Days of one year where the land cover stays, months to years apart where it changes."""
        least, most = self.num_dates
        if task == "semantic_segmentation":
            days = np.sort(rng.integers(0, 365, rng.integers(least, most + 1)))
        else:
            num_dates = rng.integers(max(2, least), max(2, most) + 1)
            days = rng.integers(0, 365) + np.cumsum(rng.integers(120, 900, num_dates))
        start = datetime(int(rng.integers(2014, 2024)), 1, 1, 10, 30)
        return [start + timedelta(days=int(day)) for day in days]

    def _draw_records(self, rng: np.random.Generator, num_dates: int) -> list[_SensorRecord]:
        """The sensor of each date."""
        drawn = num_dates if rng.random() < self.mixed_sensors else 1
        records = []
        for _ in range(drawn):
            record = self._sensors[rng.integers(len(self._sensors))]
            if rng.random() < self.random_bands:
                record = _with_random_bands(rng, record)
            records.append(record)
        return records * (num_dates // drawn)


def _check_range(what: str, values: Sequence[float], least: float, most: float = math.inf) -> None:
    if len(values) != 2 or not least <= values[0] <= values[1] <= most or values[1] == math.inf:
        raise SyntheticError(
            f"{what} must be (least, greatest) with {least:g} <= least <= greatest <= {most:g}, got {values!r}."
        )


def _look_up(sensor: str | Sequence[Band], needs_gsd: bool) -> _SensorRecord:
    if isinstance(sensor, str):
        found = find_sensor(sensor)
        gsd_m = min((record.gsd_m for record in found.bands if record.gsd_m is not None), default=None)
        record = _SensorRecord(found.name, sensor_bands(found), gsd_m)
    else:
        record = _SensorRecord(None, Acquisition(tuple(sensor)).bands, None)
    for band in record.bands:
        check_band(band)
    if needs_gsd and record.gsd_m is None:
        raise SyntheticError(f"The GSD of sensor {sensor!r} is unknown. Give a range, gsd_m=(least, greatest).")
    return record


def _with_random_bands(rng: np.random.Generator, record: _SensorRecord) -> _SensorRecord:
    """The sensor with some of its bands, or a nameless one with bands that none has."""
    if rng.random() < 0.5:
        count = len(record.bands)
        kept = np.sort(rng.choice(count, rng.integers(1, count + 1), replace=False))
        return record._replace(bands=tuple(record.bands[position] for position in kept))
    centers = np.sort(rng.uniform(420.0, 2300.0, rng.integers(2, 13))).round(1)
    widths = np.exp(rng.uniform(*np.log((8.0, 350.0)), len(centers))).round(1)
    pairs = enumerate(zip(centers, widths, strict=True), start=1)
    bands = tuple(Band(f"R{number:02d}", float(center), float(width)) for number, (center, width) in pairs)
    return record._replace(name=None, bands=bands)
