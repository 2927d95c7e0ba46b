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
"""What a checkpoint keeps of a training split: statistics of its bands, and how its files are read."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..metadata import Band, ImageSeries
from .datasets import FolderDataset
from .fields import DatasetError
from .reader import SampleReader
from .samples import ImageRecord, SampleRecord, num_channels

# Values of an image that statistics hold at once (float32, 64 MiB).
_MAX_VALUES = 2**24
# Beyond every quantity in every unit in use; the fills of float formats (-3.4e38, 9.97e36, 1e20) lie above.
_MAX_MEASURED = 1e15
# Kinds whose bands are told apart by wavelength or name, and not by kind and polarisation alone.
_NAMED_KINDS = ("reflective", "thermal", "index", "other")

# What makes two bands one: type, centre, unit, and the name where these do not settle it.
_Physics = tuple[str, float | None, str | None, str | None]


@dataclass
class _Moments:
    """Running mean and sum of squared deviations of a band."""

    band: Band
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Takes float64 values in, by the method of Chan, Golub and LeVeque."""
        if not values.size:
            return
        before = self.count
        self.count += values.size
        shift = values.mean() - self.mean
        self.mean += shift * values.size / self.count
        self.squares += values.var() * values.size + shift**2 * before * values.size / self.count

    def record(self) -> dict[str, Any]:
        """The band, and what is known of its values."""
        band = self.band
        described = {
            "name": band.name,
            "kind": band.kind,
            "polarisation": band.polarisation,
            "center_nm": band.center_nm,
            "unit": band.unit,
        }
        known = {key: value for key, value in described.items() if value is not None}
        return {**known, "mean": float(self.mean), "std": float(np.sqrt(self.squares / self.count))}


def band_statistics(dataset: FolderDataset) -> list[dict[str, Any]]:
    """Mean and standard deviation of each physical band over the valid pixels of all images of a split.

    Bands of equal type, centre and unit are one band, whatever their names, unless an image holds several of them; what
    neither has a known centre nor is radar or elevation goes by its name as well. Each raster counts once, however many
    samples share it; samples are read strip by strip. Labels play no role. Sums are float64, combined by the method of
    Chan, Golub and LeVeque (Updating formulae and a pairwise algorithm for computing sample variances, 1979), which
    loses no digits on large offsets.

    Args:
        dataset: a split; its crops are ignored.

    Returns:
        For each physical band `name` (that of the first image), `kind`, `polarisation`, `center_nm` in nanometres and
        `unit` as in [`Band`] (unknown ones are left out), and `mean` and `std` (of the population) in the units of the
        samples.

    Raises:
        DatasetError: a raster cannot be read, or a band has no valid pixel.
    """
    return statistics_of(dataset.samples, dataset.reader, dataset.split)


def statistics_of(samples: Sequence[SampleRecord], reader: SampleReader, split: str) -> list[dict[str, Any]]:
    """[`band_statistics`] of samples.

    Args:
        samples: with what their rasters state.
        reader: reads their images.
        split: its name, for messages.
    """
    by_name = _ambiguous(samples)
    moments: dict[_Physics, _Moments] = {}
    for bands in _band_lists(samples):
        for band in bands:
            moments.setdefault(_physics(band, by_name), _Moments(band))
    seen: set[Path] = set()
    for record in samples:
        new = [date for date, path in enumerate(record.image_paths) if path not in seen]
        seen.update(record.image_paths)
        if not new:
            continue
        for part in _strips(reader, record):
            for date in new:
                _check_measured(part, date, record.image_paths[date])
                _add_date(part, date, moments, by_name)
    if empty := [entry.band.name for entry in moments.values() if not entry.count]:
        raise DatasetError(
            f"Bands {', '.join(empty)} of data set {reader.description.name!r}, split {split!r}, hold no valid pixel. "
            "Take them out of dataset.json and the rasters, or correct nodata."
        )
    return [entry.record() for entry in moments.values()]


def _strips(reader: SampleReader, record: SampleRecord) -> Iterable[ImageSeries]:
    """All images of a sample, in strips of rows that fit in memory."""
    rows = max(1, _MAX_VALUES // (record.width * num_channels(record)))
    for top in range(0, record.height, rows):
        yield reader.read_images(record, (top, 0, min(rows, record.height - top), record.width))


def _check_measured(part: ImageSeries, date: int, path: Path) -> None:
    """Refuses fill values that nobody declared: one of them would outweigh all that was measured."""
    for band, array in zip(part.acquisitions[date].bands, part.pixels[date], strict=True):
        absurd = part.valid[date] & (np.abs(array) > _MAX_MEASURED)
        if absurd.any():
            raise DatasetError(
                f"Band {band.name!r} of {path} holds {array[absurd][0]:g} in {np.count_nonzero(absurd)} pixels, which "
                "no sensor measures. State it as nodata in dataset.json, or correct the file."
            )


def _add_date(part: ImageSeries, date: int, moments: dict[_Physics, _Moments], by_name: Collection[_Physics]) -> None:
    for band, array in zip(part.acquisitions[date].bands, part.pixels[date], strict=True):
        values = array[part.valid[date] & np.isfinite(array)]
        moments[_physics(band, by_name)].add(values.astype(np.float64))


def _band_lists(samples: Iterable[SampleRecord]) -> dict[tuple[Band, ...], None]:
    """The distinct bands of images, in the order in which they are met."""
    return {acquisition.bands: None for record in samples for acquisition in record.series.acquisitions}


def _ambiguous(samples: Iterable[SampleRecord]) -> set[_Physics]:
    """Physics that several bands of one image share, so that only their names tell them apart."""
    ambiguous: set[_Physics] = set()
    for bands in _band_lists(samples):
        counts = Counter(_physics(band, ()) for band in bands)
        ambiguous.update(physics for physics, count in counts.items() if count > 1)
    return ambiguous


def _physics(band: Band, by_name: Collection[_Physics]) -> _Physics:
    name = band.name if band.center_nm is None and band.kind in _NAMED_KINDS else None
    physics = (band.type, band.center_nm, band.unit, name)
    return (*physics[:3], band.name) if physics in by_name else physics


def readings(dataset: FolderDataset) -> list[dict[str, Any]]:
    """How files like those of a split are read, where they do not say it themselves.

    Args:
        dataset: a split.

    Returns:
        For each distinct band set of its images `bands` (see [`Band.to_dict`]), `dtype` of the stored numbers (a list
        where bands differ), `scale`, `offset` and `nodata` (one entry per band, `None` where dataset.json states none;
        `None` in place of a list without any), and `gsd_m` in metres where the images have no georeference and share
        it, else `None`.
    """
    found: list[dict[str, Any]] = []
    distances: list[set[float | None]] = []
    for record in dataset.samples:
        series = record.series
        located = series.crs is not None and series.transform is not None
        for image, acquisition in zip(record.images, series.acquisitions, strict=True):
            reading = _reading(image, acquisition.bands)
            if reading not in found:
                found.append(reading)
                distances.append(set())
            if not located:
                distances[found.index(reading)].add(acquisition.gsd_m)
    return [
        {**reading, "gsd_m": next(iter(stated)) if len(stated) == 1 else None}
        for reading, stated in zip(found, distances, strict=True)
    ]


def _reading(image: ImageRecord, bands: Sequence[Band]) -> dict[str, Any]:
    """The reading of one image, without its distance."""
    return {
        "bands": [band.to_dict() for band in bands],
        "dtype": image.dtypes[0] if len(set(image.dtypes)) == 1 else list(image.dtypes),
        "scale": _listed(entry.scale for entry in image.bands),
        "offset": _listed(entry.offset for entry in image.bands),
        "nodata": _listed(entry.nodata for entry in image.bands),
    }


def _listed(numbers: Iterable[float | None]) -> list[float | None] | None:
    listed = list(numbers)
    return listed if any(number is not None for number in listed) else None
