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
"""Random changes of a [`Sample`] for training: geometry, bands, dates, brightness, and metadata that goes missing.

Every function takes a sample and a `numpy.random.Generator`, and returns a new sample; arrays of the given one stay as
they are. Geometry is the same for all dates and labels of a sample, and the map coordinates of a pixel never change.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import STSUNError
from ..metadata import MAX_WAVELENGTH_NM, MIN_WAVELENGTH_NM, Band, ImageSeries
from .datasets import Sample, crop_window, labelled_pixel


class AugmentationError(STSUNError, ValueError):
    """A setting out of range. The message says what is allowed."""


@dataclass(frozen=True)
class AugmentedBand(Band):
    """A band whose metadata an augmentation has changed.

    Args:
        measured: the band as the data set describes it, which decides about the statistics of its pixels.
    """

    measured: Band | None = None


def measured_series(series: ImageSeries) -> ImageSeries:
    """The series with its bands as the data set describes them, whatever [`band_jitter`] and [`metadata_dropout`] have
    made of them."""
    bands = [band for acquisition in series.acquisitions for band in acquisition.bands]
    if not any(isinstance(band, AugmentedBand) for band in bands):
        return series
    acquisitions = tuple(
        replace(acquisition, bands=tuple(map(_measured, acquisition.bands))) for acquisition in series.acquisitions
    )
    return replace(series, acquisitions=acquisitions)


def _measured(band: Band) -> Band:
    return band.measured or band if isinstance(band, AugmentedBand) else band


def _changed(band: Band, **fields: Any) -> Band:
    """The band with other metadata, if they are others."""
    if all(getattr(band, name) == value for name, value in fields.items()):
        return band
    kept = {"name": band.name, "kind": band.kind, "polarisation": band.polarisation, "unit": band.unit}
    return AugmentedBand(**kept, **fields, measured=_measured(band))


def random_crop(sample: Sample, rng: np.random.Generator, height: int, width: int) -> Sample:
    """Cuts one window out of all dates and labels.

    The window holds a labelled pixel, drawn uniformly, where the sample has one; else it lies anywhere.

    Args:
        sample: with pixels.
        rng: source of randomness.
        height: rows of the window; a sample that has fewer keeps them all.
        width: columns of the window; likewise.
    """
    if height < 1 or width < 1:
        raise AugmentationError(f"A window measures 1 x 1 pixels or more, got {height} x {width}.")
    pixel = None if sample.labels is None else labelled_pixel(rng, sample.labels)
    row, column, height, width = crop_window(rng, sample.series.size, (height, width), pixel)
    labels = sample.labels
    if labels is not None:
        labels = labels[:, row : row + height, column : column + width]
    return replace(sample, series=sample.series.crop(row, column, height, width), labels=labels)


def random_flip_rotate(sample: Sample, rng: np.random.Generator) -> Sample:
    """One of the eight symmetries of the square, each equally likely: mirrored or not, then 0 to 3 quarter turns.

    A quarter turn swaps height and width. The transform turns along, so it stays an exact, if rotated, georeference.
    """
    if rng.random() < 0.5:
        width = sample.series.size[1]
        sample = _move(sample, lambda array: array[..., ::-1], (-1, 0, width, 0, 1, 0))
    for _ in range(int(rng.integers(4))):
        width = sample.series.size[1]
        # Counter-clockwise: the new first row is the old last column.
        sample = _move(sample, lambda array: np.rot90(array, axes=(-2, -1)), (0, -1, width, 1, 0, 0))
    return sample


def _move(sample: Sample, move: Callable[[np.ndarray], np.ndarray], to_old: tuple[int, ...]) -> Sample:
    """Applies `move` to all arrays; `to_old` is the affine map from new to old pixel coordinates (column, row)."""
    series = sample.series
    transform = series.transform
    if transform is not None:
        linear = np.reshape(transform, (2, 3)) @ np.vstack([np.reshape(to_old, (2, 3)), (0, 0, 1)])
        transform = tuple(linear.ravel().tolist())
    series = replace(
        series,
        transform=transform,
        pixels=tuple(np.ascontiguousarray(move(array)) for array in series.pixels),
        valid=tuple(np.ascontiguousarray(move(mask)) for mask in series.valid),
    )
    labels = None if sample.labels is None else np.ascontiguousarray(move(sample.labels))
    return replace(sample, series=series, labels=labels)


def random_bands(sample: Sample, rng: np.random.Generator, min_bands: int = 1, keep: Collection[str] = ()) -> Sample:
    """Keeps some of the bands, in their order. Dates that have equal bands keep the same ones.

    Args:
        sample: any.
        rng: source of randomness.
        min_bands: fewest bands that a date keeps; dates with fewer keep all. The number is uniform from here to all.
        keep: names of bands that always stay.
    """
    if min_bands < 1:
        raise AugmentationError(f"min_bands must be 1 or more, got {min_bands}.")
    chosen: dict[tuple[Band, ...], list[int]] = {}
    for acquisition in sample.series.acquisitions:
        bands = acquisition.bands
        if bands in chosen:
            continue
        fixed = [index for index, band in enumerate(bands) if band.name in keep]
        free = [index for index, band in enumerate(bands) if band.name not in keep]
        fewest = min(max(min_bands, len(fixed)), len(bands))
        number = int(rng.integers(fewest, len(bands) + 1)) - len(fixed)
        chosen[bands] = sorted(fixed + rng.permutation(free).astype(int).tolist()[:number])
    subsets = {date: chosen[acquisition.bands] for date, acquisition in enumerate(sample.series.acquisitions)}
    return replace(sample, series=sample.series.select(subsets, subsets))


def random_dates(sample: Sample, rng: np.random.Generator, max_dates: int | None = None, min_dates: int = 1) -> Sample:
    """Keeps some of the dates, and the maps and labels that go with them.

    For binary change detection an output stays where both dates that it compares do; that of one output, drawn, always
    do. For semantic tasks an output goes on to describe those of its dates that stay, and goes when none does. One
    output stays at least, and for semantic change detection two if there are two, as one map shows no change; each
    keeps a date with data where it has one.

    Args:
        sample: any.
        rng: source of randomness.
        max_dates: most dates kept, `None` = all; more are kept where the task needs them.
        min_dates: fewest dates kept, of those that there are; more where the task needs them. The number is uniform
            from here to `max_dates`.
    """
    if max_dates is not None and max_dates < 1:
        raise AugmentationError(f"max_dates must be 1 or more, or None, got {max_dates}.")
    num_dates = len(sample.series.acquisitions)
    is_change = sample.task == "binary_change_detection"
    if is_change:
        needed = set(sample.outputs[int(rng.integers(len(sample.outputs)))])
    else:
        fewest = 2 if sample.task == "semantic_change_detection" else 1
        described = rng.permutation(len(sample.outputs))[:fewest]
        needed = {int(rng.choice(_with_data(sample, sample.outputs[output]))) for output in described}
    most = max(min(max_dates or num_dates, num_dates), len(needed))
    others = [date for date in range(num_dates) if date not in needed]
    fewest = max(min(min_dates, most), len(needed))
    number = int(rng.integers(fewest, most + 1)) - len(needed)
    kept = sorted(needed.union(rng.permutation(others).astype(int).tolist()[:number]))
    position = {date: index for index, date in enumerate(kept)}
    outputs = [tuple(position[date] for date in output if date in position) for output in sample.outputs]
    stays = [index for index, output in enumerate(outputs) if len(output) == 2 or (output and not is_change)]
    return replace(
        sample,
        series=sample.series.select(kept),
        outputs=tuple(outputs[index] for index in stays),
        labels=None if sample.labels is None else sample.labels[stays],
    )


def _with_data(sample: Sample, dates: Sequence[int]) -> Sequence[int]:
    """The dates that hold a valid pixel; all where none does, or where pixels were not read."""
    valid = sample.series.valid
    return (valid is not None and [date for date in dates if valid[date].any()]) or dates


def random_reversal(sample: Sample, rng: np.random.Generator) -> Sample:
    """Asks half of the samples of binary change detection the other way round: from the later date to the earlier one.

    What changed is the same in both directions. Images, dates and labels stay as they are; before and after change
    places in `outputs`. Maps of the semantic tasks describe dates by themselves and have no direction.
    """
    if rng.random() < 0.5 or sample.task != "binary_change_detection":
        return sample
    return replace(sample, outputs=tuple(output[::-1] for output in sample.outputs))


def band_jitter(sample: Sample, rng: np.random.Generator, center_nm: float, fwhm: float) -> Sample:
    """Moves the wavelengths in the metadata a little; pixels stay as they are.

    Sensors of the same design differ by a few nanometres, and tables of the same sensor do too. A model that has seen
    jitter does not learn a sensor's numbers by heart. Equal bands move alike on all dates; unknown values stay unknown.

    Args:
        sample: any.
        rng: source of randomness.
        center_nm: standard deviation of the shift of a centre wavelength, in nanometres.
        fwhm: standard deviation of the logarithm of the factor on a width; 0.1 is about 10 %.
    """
    for name, value in (("center_nm", center_nm), ("fwhm", fwhm)):
        if value < 0:
            raise AugmentationError(f"{name} is a standard deviation, 0 or more, got {value}.")
    moved: dict[Band, Band] = {}
    for acquisition in sample.series.acquisitions:
        for band in acquisition.bands:
            if band not in moved:
                shift, factor = rng.normal(0, center_nm), np.exp(rng.normal(0, fwhm))
                moved[band] = _changed(
                    band,
                    center_nm=band.center_nm
                    and float(np.clip(band.center_nm + shift, MIN_WAVELENGTH_NM, MAX_WAVELENGTH_NM)),
                    fwhm_nm=band.fwhm_nm and float(band.fwhm_nm * factor),
                )
    return _with_bands(sample, moved)


def metadata_dropout(sample: Sample, rng: np.random.Generator, p: float) -> Sample:
    """Makes metadata unknown, so that a model learns to do without.

    Wavelengths (with their widths), dates and the ground sampling distance are each forgotten with probability `p`, and
    then for the whole series, since that is how metadata goes missing. Which dates a map describes stays known: outputs
    are positions.

    Args:
        sample: any.
        rng: source of randomness.
        p: probability, 0 to 1.
    """
    _check_probability("p", p)
    no_wavelengths, no_dates, no_gsd = rng.random(3) < p
    if no_wavelengths:
        bands = {band for acquisition in sample.series.acquisitions for band in acquisition.bands}
        sample = _with_bands(sample, {band: _changed(band, center_nm=None, fwhm_nm=None) for band in bands})
    unknown = {}
    if no_dates:
        unknown["datetime"] = None
    if no_gsd:
        unknown["gsd_m"] = None
    acquisitions = tuple(replace(acquisition, **unknown) for acquisition in sample.series.acquisitions)
    return replace(sample, series=replace(sample.series, acquisitions=acquisitions))


def _with_bands(sample: Sample, bands: dict[Band, Band]) -> Sample:
    acquisitions = tuple(
        replace(acquisition, bands=tuple(bands[band] for band in acquisition.bands))
        for acquisition in sample.series.acquisitions
    )
    return replace(sample, series=replace(sample.series, acquisitions=acquisitions))


def random_gain(sample: Sample, rng: np.random.Generator, sigma: float, band_sigma: float = 0.0) -> Sample:
    """Brightens or darkens each date by a factor of its own, as sun, haze and calibration do.

    Only reflective bands change: decibels, kelvin, metres and indices do not scale with light.

    Args:
        sample: with pixels.
        rng: source of randomness.
        sigma: standard deviation of the factor's logarithm; 0.1 is about 10 %.
        band_sigma: the same of another factor for each band, alike on all dates: surfaces of the same class differ in
            colour from place to place.
    """
    for name, value in (("sigma", sigma), ("band_sigma", band_sigma)):
        if value < 0:
            raise AugmentationError(f"{name} is a standard deviation, 0 or more, got {value}.")
    bands = dict.fromkeys(band for acquisition in sample.series.acquisitions for band in acquisition.bands)
    tints = {band: np.exp(rng.normal(0, band_sigma)) for band in bands}
    pixels = []
    for acquisition, array in zip(sample.series.acquisitions, sample.series.pixels, strict=True):
        gain = np.exp(rng.normal(0, sigma))
        factors = [gain * tints[band] if band.kind == "reflective" else 1.0 for band in acquisition.bands]
        pixels.append(array * np.asarray(factors, dtype=np.float32)[:, None, None])
    return replace(sample, series=replace(sample.series, pixels=tuple(pixels)))


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise AugmentationError(f"{name} is a probability, 0 to 1, got {value}.")


@dataclass(frozen=True)
class Augmentation:
    """What happens to a sample in training, in this order; only flips and turns unless asked for.

    Args:
        crop_size: height and width of [`random_crop`] in pixels, which then always happens; `None` = no crop.
        dates: probability of [`random_dates`].
        max_dates: its `max_dates`; longer series than that are cut to it in any case, to dates drawn.
        reversal: probability of [`random_reversal`] (which leaves one sample in two as it is).
        bands: probability of [`random_bands`].
        min_bands: its `min_bands`.
        keep_bands: its `keep`.
        flip_rotate: probability of [`random_flip_rotate`] (which leaves one sample in eight as it is).
        gain: probability of [`random_gain`].
        gain_sigma: its `sigma`.
        gain_band_sigma: its `band_sigma`.
        jitter: probability of [`band_jitter`].
        jitter_center_nm: its `center_nm`, in nanometres.
        jitter_fwhm: its `fwhm`, relative.
        metadata: the `p` of [`metadata_dropout`].

    Raises:
        AugmentationError: a probability outside 0 to 1.
    """

    crop_size: tuple[int, int] | None = None
    dates: float = 0.0
    max_dates: int | None = None
    reversal: float = 0.0
    bands: float = 0.0
    min_bands: int = 1
    keep_bands: tuple[str, ...] = ()
    flip_rotate: float = 1.0
    gain: float = 0.0
    gain_sigma: float = 0.1
    gain_band_sigma: float = 0.0
    jitter: float = 0.0
    jitter_center_nm: float = 5.0
    jitter_fwhm: float = 0.1
    metadata: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dates", "reversal", "bands", "flip_rotate", "gain", "jitter", "metadata"):
            _check_probability(name, getattr(self, name))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A changed copy of `sample`."""
        if self.crop_size is not None:
            sample = random_crop(sample, rng, *self.crop_size)
        if rng.random() < self.dates:
            sample = random_dates(sample, rng, self.max_dates)
        elif self.max_dates is not None and len(sample.series.acquisitions) > self.max_dates:
            sample = random_dates(sample, rng, self.max_dates, self.max_dates)
        if rng.random() < self.reversal:
            sample = random_reversal(sample, rng)
        if rng.random() < self.bands:
            sample = random_bands(sample, rng, self.min_bands, self.keep_bands)
        if rng.random() < self.flip_rotate:
            sample = random_flip_rotate(sample, rng)
        if rng.random() < self.gain:
            sample = random_gain(sample, rng, self.gain_sigma, self.gain_band_sigma)
        if rng.random() < self.jitter:
            sample = band_jitter(sample, rng, self.jitter_center_nm, self.jitter_fwhm)
        return metadata_dropout(sample, rng, self.metadata)
