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
"""A place of the synthetic world on some dates.

[`make_scene`] draws a place, [`SyntheticScene.observe`] takes images of it, [`SyntheticScene.labels`] says what is
there. The world is a function of a seed and of coordinates in metres: a larger scene of the same seed continues a
smaller one, and up to `MAPPING_GSD_M` a finer one shows the same place in more detail.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..metadata import (
    IGNORE_INDEX,
    TASKS,
    Acquisition,
    Band,
    ImageSeries,
    MetadataError,
    default_outputs,
    parse_datetime,
)
from .materials import (
    CLASSES,
    COHORT_DAYS,
    ENDMEMBER_INDEX,
    ENDMEMBERS,
    MATERIALS,
    MAX_WAVELENGTH_NM,
    MIN_WAVELENGTH_NM,
    SNOW,
    FloatArray,
    SyntheticError,
    abundances,
    over_response,
)
from .noise import NoiseField, random_bits, uniform, uniform_number
from .shapes import SUCCESSORS, Ground, ground_on_date, lay_out

# Share of the centre wavelength that stands for an unknown width: what multispectral bands typically have.
TYPICAL_RELATIVE_FWHM = 0.05
# Above this pixel size shapes grow with the pixel, as maps of a coarse scale generalise what is too small to draw.
MAPPING_GSD_M = 30.0
# Weights of a pixel and its two neighbours along each axis: the sensor's point spread.
POINT_SPREAD = (0.2, 0.6, 0.2)
# What one unit of `noise` (given in reflectance) means for bands of another kind: kelvin, decibel, metres.
NOISE_UNIT = {"reflective": 1.0, "thermal": 100.0, "sar": 200.0, "elevation": 200.0}
# Backscatter in decibel, typical of C band, in the order of CLASSES. HH resembles VV but for stems above water.
_BACKSCATTER_DB = {
    "VV": np.array([-20.0, -9.5, -8.5, -12.5, -11.0, -14.5, -4.5, -15.5]),
    "VH": np.array([-28.0, -16.5, -13.5, -19.5, -17.0, -23.0, -12.0, -22.5]),
    "HH": np.array([-20.5, -7.5, -8.5, -12.5, -11.5, -14.0, -3.5, -15.0]),
}
_BACKSCATTER_DB["HV"] = _BACKSCATTER_DB["VH"]
# Kelvin above the air at noon in summer, in the order of CLASSES.
_WARMTH_K = np.array([-7.0, -3.0, -4.0, 0.0, 1.5, 8.0, 9.0, -8.0])
_CLOUD_TOP_K = 262.0


def check_band(band: Band) -> None:
    """Refuses a band that the synthetic world does not have."""
    if band.kind not in NOISE_UNIT:
        raise MetadataError(
            f"Band {band.name!r} is of kind {band.kind!r}, which the synthetic world does not have. It has "
            f"{', '.join(NOISE_UNIT)}; leave the band out."
        )
    if band.kind == "reflective" and (
        band.center_nm is None or not MIN_WAVELENGTH_NM <= band.center_nm <= MAX_WAVELENGTH_NM
    ):
        raise MetadataError(
            f"Band {band.name!r} has center_nm={band.center_nm}; a reflective band of the synthetic world needs one of "
            f"{MIN_WAVELENGTH_NM:g} to {MAX_WAVELENGTH_NM:g} nanometres."
        )


@lru_cache(maxsize=64)
def _band_spectra(bands: tuple[Band, ...]) -> NDArray[np.float32]:
    """Endmembers as reflective bands see them, shape (bands, endmembers)."""
    center = np.array([band.center_nm for band in bands])
    fwhm = np.array([band.fwhm_nm or TYPICAL_RELATIVE_FWHM * band.center_nm for band in bands])
    return over_response(center, fwhm).astype(np.float32)


def _spread(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Applies `POINT_SPREAD` to (bands, height + 2, width + 2); returns (bands, height, width)."""
    side, middle, _ = POINT_SPREAD
    image = middle * image[:, 1:-1] + side * (image[:, :-2] + image[:, 2:])
    return middle * image[..., 1:-1] + side * (image[..., :-2] + image[..., 2:])


def _coarsen(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means over blocks of `factor` x `factor` pixels, on the fine grid."""
    height, width = image.shape[1:]
    blocks = np.pad(image, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    shape = (len(image), blocks.shape[1] // factor, factor, blocks.shape[2] // factor, factor)
    means = blocks.reshape(shape).mean((2, 4))
    return means.repeat(factor, 1).repeat(factor, 2)[:, :height, :width]


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """A place of the synthetic world on some dates; made by [`make_scene`].

    Args:
        seed: the world that it lies in.
        gsd_m: size of a pixel in metres.
        dates: the dates, oldest first.
        land_cover: (dates, height, width) uint8, positions in `CLASSES` at the centres of the pixels.
        crs: `EPSG:code` of a UTM zone.
        transform: affine map from pixel to map coordinates, as in [`ImageSeries`].
    """

    seed: int
    gsd_m: float
    dates: tuple[datetime, ...]
    land_cover: NDArray[np.uint8] = field(repr=False)
    crs: str
    transform: tuple[float, ...]
    _field: NoiseField = field(repr=False)
    _grounds: tuple[Ground, ...] = field(repr=False)
    _elevation_m: NDArray[np.float32] = field(repr=False)
    _season_shift_days: float = field(repr=False)

    def labels(
        self,
        task: str,
        outputs: Sequence[Sequence[int]] | None = None,
        classes: Sequence[str] = CLASSES,
    ) -> NDArray[np.uint8]:
        """The exact maps that a task asks for; see [`Sample`].

        Args:
            task: one of `TASKS`.
            outputs: positions of the dates that each map describes. A semantic map shows the land cover on the last of
                its dates, a change map whether the land covers of its two dates differ. `None` = one map of all dates,
                each pair of neighbouring dates, or one map a date, by task.
            classes: names out of `CLASSES`, or out of the finer `MATERIALS`, that semantic maps tell apart; pixels of
                others are not labelled.

        Returns:
            (maps, height, width) uint8: positions in `classes`, or in `CHANGE_CLASSES` for change maps; 255 = not
            labelled.

        Raises:
            SyntheticError: an unknown task or class, a date that the scene does not have, or a change map without two
                dates.
        """
        check_names("task", (task,), TASKS)
        known = known_classes(classes)
        outputs = default_outputs(task, len(self.dates)) if outputs is None else tuple(map(tuple, outputs))
        for output in outputs:
            if not output or not all(0 <= position < len(self.dates) for position in output):
                raise SyntheticError(
                    f"outputs holds {output!r}; each entry names at least one of the {len(self.dates)} dates by its "
                    "position from 0."
                )
            if task == "binary_change_detection" and (len(output) != 2 or output[0] >= output[1]):
                raise SyntheticError(f"outputs holds {output!r}; a change map takes two dates, (before, after).")
        if not outputs:
            raise SyntheticError(
                f"{task} needs at least one output; a scene of one date has no pair of dates to compare."
            )
        if task == "binary_change_detection":
            maps = [self.land_cover[before] != self.land_cover[after] for before, after in outputs]
            return np.stack(maps).astype(np.uint8)
        position = np.full(len(known), IGNORE_INDEX, dtype=np.uint8)
        position[[known.index(name) for name in classes]] = np.arange(len(classes))
        if known == CLASSES:
            return position[np.stack([self.land_cover[max(output)] for output in outputs])]
        return position[np.stack([self._grounds[max(output)].material[1:-1, 1:-1] for output in outputs])]

    def observe(
        self,
        acquisitions: Sequence[Acquisition],
        *,
        noise: float = 0.005,
        clouds: float | Sequence[float] | FloatArray = 0.0,
        seed: int | None = None,
    ) -> ImageSeries:
        """Takes one image a date.

        A reflective band holds the surface's spectrum integrated over a Gaussian response of its centre and width (5 %
        of the centre where the width is unknown), thermal bands a temperature in kelvin, radar bands backscatter in
        decibel (VV where the polarisation is unknown), elevation bands metres. Where the metadata is unknown it stays
        unknown in the result. Images of a coarser GSD than the scene's are averaged and laid on its grid.

        Args:
            acquisitions: one a date of the scene, of any sensor. A `datetime` that is known must be the scene's.
            noise: standard deviation of white noise, in reflectance; 0.005 stands for 0.5 kelvin, 1 decibel (speckle
                after filtering) or 1 metre in bands of other kinds.
            clouds: share of the pixels under clouds of half opacity or more, 0 to 1, for all dates or one a date.
                Clouds cast shadows; radar and elevation do not see them.
            seed: for noise and clouds; `None` = that of the scene.

        Returns:
            The series with pixels, all of them valid, also under clouds.

        Raises:
            MetadataError: not one acquisition a date, another date than the scene's, a GSD finer than the scene's, or a
                band that the world does not have.
            SyntheticError: `noise`, `clouds` or `seed` is out of range.
        """
        acquisitions = tuple(acquisitions)
        if len(acquisitions) != len(self.dates):
            raise MetadataError(
                f"{len(acquisitions)} acquisitions were given for a scene of {len(self.dates)} dates. Give one a date."
            )
        for acquisition, when in zip(acquisitions, self.dates, strict=True):
            if acquisition.datetime not in (None, when):
                raise MetadataError(
                    f"An acquisition of {acquisition.datetime.isoformat()} was asked of a scene on {when.isoformat()}. "
                    "Make the scene with the dates of its acquisitions."
                )
            if acquisition.gsd_m is not None and acquisition.gsd_m < 0.999 * self.gsd_m:
                raise MetadataError(
                    f"An acquisition has gsd_m={acquisition.gsd_m:g}, but the scene's pixels measure {self.gsd_m:g} m. "
                    "Make the scene at the finest GSD."
                )
            for band in acquisition.bands:
                check_band(band)
        shares = (clouds,) * len(acquisitions) if np.ndim(clouds) == 0 else tuple(clouds)
        if len(shares) != len(acquisitions) or not all(0.0 <= share <= 1.0 for share in shares):
            raise SyntheticError(f"clouds must be a share from 0 to 1, or one a date, got {clouds!r}.")
        check_noise(noise)
        seed = self.seed if seed is None else check_seed(seed)
        pixels = tuple(
            self._image(index, acquisition, noise, share, seed)
            for index, (acquisition, share) in enumerate(zip(acquisitions, shares, strict=True))
        )
        return ImageSeries(acquisitions, crs=self.crs, transform=self.transform, pixels=pixels)

    def _image(
        self, index: int, acquisition: Acquisition, noise: float, clouds: float, seed: int
    ) -> NDArray[np.float32]:
        kinds = [band.kind for band in acquisition.bands]
        image = np.empty((len(kinds), *self.land_cover.shape[1:]), dtype=np.float32)
        for kind, measure in (
            ("reflective", self._reflectance),
            ("thermal", self._temperature),
            ("sar", self._backscatter),
            ("elevation", self._elevation),
        ):
            channels = [channel for channel, other in enumerate(kinds) if other == kind]
            if channels:
                bands = tuple(acquisition.bands[channel] for channel in channels)
                image[channels] = _spread(measure(index, bands))
        if clouds > 0.0:
            self._add_clouds(image, index, acquisition.bands, clouds, seed)
        factor = round(acquisition.gsd_m / self.gsd_m) if acquisition.gsd_m else 1
        if factor > 1:
            image = _coarsen(image, factor)
        if noise > 0.0:
            deviation = np.array([noise * NOISE_UNIT[kind] for kind in kinds], dtype=np.float32)
            random = np.random.default_rng((seed, index)).standard_normal(image.shape, dtype=np.float32)
            image += random * deviation[:, None, None]
        return image

    def _day_of_year(self, index: int) -> float:
        when = self.dates[index]
        return (when - datetime(when.year, 1, 1)) / timedelta(days=1) + 1.0

    def _reflectance(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        ground = self._grounds[index]
        days = self._day_of_year(index) - self._season_shift_days - COHORT_DAYS
        table = abundances(days).astype(np.float32)
        abundance = table.reshape(-1, len(ENDMEMBERS))[
            (ground.material.astype(np.intp) * len(days) + ground.cohort).ravel()
        ]
        abundance *= 1.0 - ground.admixture.reshape(-1, 1)
        abundance[np.arange(len(abundance)), ground.admixed.ravel()] += ground.admixture.ravel()
        values = (_band_spectra(bands) @ abundance.T).reshape(len(bands), *ground.land_cover.shape)
        return values * ground.brightness

    def _temperature(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        summer = 0.5 - 0.5 * math.cos(2.0 * math.pi * (self._day_of_year(index) - 25.0) / 365.25)
        kelvin = 271.0 + 24.0 * summer + (0.3 + 0.7 * summer) * _WARMTH_K
        kelvin[SNOW] = min(kelvin[SNOW], 272.0)
        ground = self._grounds[index]
        values = (kelvin.astype(np.float32)[ground.land_cover] + 2.0 * (ground.patch - 0.5))[None]
        return values.repeat(len(bands), 0)

    def _backscatter(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        table = np.stack([_BACKSCATTER_DB[band.polarisation or "VV"] for band in bands]).astype(np.float32)
        ground = self._grounds[index]
        return table[:, ground.land_cover] + 3.0 * (ground.patch - 0.5)

    def _elevation(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        return self._elevation_m[None].repeat(len(bands), 0)

    def _add_clouds(
        self, image: NDArray[np.float32], index: int, bands: tuple[Band, ...], clouds: float, seed: int
    ) -> None:
        """Puts clouds and their shadows into an image, in place."""
        sky = self._field._replace(key=random_bits(self._field.key, seed, index))
        wavelengths_m = (500.0, 210.0, 90.0, 40.0)
        density = sky(90, *wavelengths_m)[1:-1, 1:-1]
        # The sun stands in the south-east.
        shading = sky(90, *wavelengths_m, east=140.0, south=90.0)[1:-1, 1:-1]
        threshold = np.quantile(density, 1.0 - clouds)
        opacity, shadow = (
            np.clip(0.5 + 1.6 * (layer - threshold), 0.0, 1.0).astype(np.float32) for layer in (density, shading)
        )
        for channel, band in enumerate(bands):
            if band.kind == "reflective":
                image[channel] *= (1.0 - 0.55 * shadow) * (1.0 - opacity)
                image[channel] += _band_spectra((band,))[0, ENDMEMBER_INDEX["cloud"]] * opacity
            elif band.kind == "thermal":
                image[channel] += (_CLOUD_TOP_K - image[channel]) * opacity


def check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Refuses names that are unknown or given twice, and none at all."""
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        problem = (
            f"unknown {what} {unknown[0]!r}" if unknown else f"needs at least one {what}, each once, got {names!r}"
        )
        raise SyntheticError(f"{problem[0].upper()}{problem[1:]}; known are {', '.join(known)}.")


def known_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The vocabulary that classes are names of: land covers, or else materials."""
    known = tuple(MATERIALS) if any(name in MATERIALS for name in classes) else CLASSES
    check_names("class", classes, known)
    return known


def check_seed(seed: int) -> int:
    """The seed, if it is one."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise SyntheticError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}.")
    return int(seed)


def check_count(what: str, count: int) -> None:
    """Refuses what is no whole number of 1 or more."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise SyntheticError(f"{what} must be a whole number, 1 or more, got {count!r}.")


def check_noise(noise: float) -> None:
    """Refuses a standard deviation below 0, or one that is not finite."""
    if not 0.0 <= noise < math.inf:
        raise SyntheticError(f"noise must be finite and 0 or more, got {noise!r}.")


def make_scene(
    seed: int,
    height: int,
    width: int,
    *,
    gsd_m: float = 10.0,
    dates: Sequence[str | date | datetime] = ("2021-07-01",),
    change_fraction: float = 0.2,
) -> SyntheticScene:
    """Draws a place of the synthetic world and its changes.

    Fields, woods, heaths and towns with streets and houses lie in districts about half a kilometre wide; lakes with
    wetlands around them, rivers, and mountains with snow lie across. Labels are exact: the land cover at the centre of
    each pixel, while images mix in the neighbours (`POINT_SPREAD`).

    Args:
        seed: the world, 0 or more.
        height: rows of pixels.
        width: columns of pixels.
        gsd_m: size of a pixel in metres. Up to `MAPPING_GSD_M` a scene starts at the same corner of the same place and
            shows it in more or less detail; beyond, shapes grow with the pixel. Up to `DETAIL_GSD_M` gardens, trees and
            field margins are labelled by themselves.
        dates: the dates, oldest first (see `parse_datetime`).
        change_fraction: probability, 0 to 1, that a parcel becomes another class between two dates that differ; lakes
            and snow lines move in proportion. 0 = the land cover stays, and only the season changes.

    Returns:
        The scene, the same for the same arguments.

    Raises:
        MetadataError: a date is unknown or out of order.
        SyntheticError: another argument is out of range.
    """
    seed = check_seed(seed)
    check_count("height", height)
    check_count("width", width)
    if not 0.0 < gsd_m < math.inf:
        raise SyntheticError(f"gsd_m must be finite and above 0, got {gsd_m!r}.")
    if not 0.0 <= change_fraction <= 1.0:
        raise SyntheticError(f"change_fraction must lie between 0 and 1, got {change_fraction!r}.")
    days = tuple(parse_datetime(when) for when in dates)
    if not days or None in days or list(days) != sorted(days):
        raise MetadataError(f"A scene needs at least one date, all known, oldest first, got {list(dates)!r}.")

    key = random_bits(np.zeros(1, dtype=np.uint64), seed)
    pixel = min(gsd_m, MAPPING_GSD_M)
    # One pixel more on each side, for the sensor's point spread.
    x, y = ((np.arange(-1, size + 1) + 0.5) * pixel for size in (width, height))
    waves = NoiseField(key, x, y)
    place = lay_out(waves)
    cover, lake_rise, snow_rise = place.cover, 0.0, 0.0
    grounds = []
    for index, when in enumerate(days):
        if index and when > days[index - 1]:
            changes = uniform(place.parcels.key, 30 + cover, index) < change_fraction
            successor = (SUCCESSORS.shape[1] * uniform(place.parcels.key, 40, index)).astype(np.intp)
            cover = np.where(changes, SUCCESSORS[cover, successor], cover)
            lake_rise += change_fraction * 3.4 * (uniform_number(key, 50, index) - 0.5)
            snow_rise += change_fraction * 3.4 * (uniform_number(key, 51, index) - 0.5)
        grounds.append(
            ground_on_date(key, place, cover, lake_rise, snow_rise, 0.92 + 0.16 * uniform_number(key, 60, index))
        )
    land_cover = np.stack([ground.land_cover[1:-1, 1:-1] for ground in grounds])
    land_cover.flags.writeable = False
    west, north = (
        300_000.0 + 1000.0 * int(400 * uniform_number(key, 70)),
        4_700_000.0 + 1000.0 * int(900 * uniform_number(key, 71)),
    )
    return SyntheticScene(
        seed=seed,
        gsd_m=float(gsd_m),
        dates=days,
        land_cover=land_cover,
        crs=f"EPSG:{32630 + int(8 * uniform_number(key, 72))}",
        transform=(float(gsd_m), 0.0, west, 0.0, -float(gsd_m), north),
        _field=waves,
        _grounds=tuple(grounds),
        _elevation_m=place.elevation_m.astype(np.float32),
        _season_shift_days=20.0 * uniform_number(key, 61) - 10.0,
    )
