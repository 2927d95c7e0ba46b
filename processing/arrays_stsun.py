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
"""Image series out of arrays and pictures: NumPy (masked) arrays, torch tensors and PIL images."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from .metadata import IGNORE_INDEX, RGB_BANDS, Acquisition, Band, ImageSeries, filled_pixels
from .statistics_stsun import BY_KIND

# The only sensor whose bands are known here; the package has a table of others.
RGB = "rgb"
# Of an 8-bit picture, 255 stands for 1.
PICTURE_SCALE = 1 / 255
# Alpha of these values alone is opaque and clear; a band of data holds others too.
_OPAQUE_OR_CLEAR = (0, 255)
# Modes of PIL images and their channels before alpha. Palettes are looked up first.
_MODES = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}
# Of label maps: numbers as they are stored, which in palettes are the indices.
_LABEL_MODES = ("1", "L", "P", "I", "I;16")

Readings = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Picture:
    """An 8-bit picture.

    Args:
        channels: (channels, height, width) uint8, alpha last if there is one.
        missing: (height, width) bool, what a mask of the array marks, or a colour that stands for nothing.
        has_alpha: whether the last channel is alpha: 0 = missing.
    """

    channels: np.ndarray
    missing: np.ndarray
    has_alpha: bool


@dataclass(frozen=True)
class Described:
    """What is said about arrays.

    Args:
        bands: records of the channels, the same for all dates or one list per date; `None` = nothing is said.
        is_rgb: whether they are red, green and blue.
        gsd_m: ground sampling distance in metres a pixel.
        readings: what a checkpoint knows about files that it was tuned on, by data set.
    """

    bands: Sequence[Any] | None = None
    is_rgb: bool = False
    gsd_m: float | None = None
    readings: Readings | None = None

    def records_of(self, date: int, num_dates: int) -> list[Band] | None:
        """The records that were given for one date, if any were."""
        if self.bands is None or len(self.bands) == 0:
            return None
        if isinstance(self.bands[0], str):
            raise ValueError(
                f"bands names {self.bands[0]!r}; give Band records, or look names up in the table of sensors: "
                "bands=stsun_processing.sensor_bands(sensor, names)."
            )
        if _is_band(self.bands[0]):
            return [_as_band(band) for band in self.bands]
        if len(self.bands) != num_dates:
            raise ValueError(f"bands holds {len(self.bands)} entries for {num_dates} dates; give one per date.")
        return [_as_band(band) for band in self.bands[date]]


def to_series(images: Any, timestamps: Sequence[Any] | None, described: Described) -> list[ImageSeries]:
    """Series with pixels.

    Args:
        images: one series or a list of several. A series is an array (dates, bands, height, width), or a list of one
            array (bands, height, width) per date, in physical units with NaN or a mask for nodata; or a picture (a PIL
            image, or an 8-bit array (height, width, channels)), or a list of one picture per date.
        timestamps: the dates, oldest first, of all series, or one list of them per series; `None` = unknown.
        described: what the channels are.

    Raises:
        ValueError: arrays of other shapes or types, or nothing says what the channels are.
    """
    stacks = _split(images, described)
    nested = timestamps is not None and len(timestamps) > 0 and isinstance(timestamps[0], (list, tuple, np.ndarray))
    if timestamps is None or not nested:
        all_timestamps = [timestamps] * len(stacks)
    elif len(timestamps) != len(stacks):
        raise ValueError(f"timestamps holds {len(timestamps)} lists for {len(stacks)} series; give one per series.")
    else:
        all_timestamps = list(timestamps)
    notes: list[str] = []
    series = [_one_series(stack, dates, described, notes) for stack, dates in zip(stacks, all_timestamps, strict=True)]
    for note in dict.fromkeys(notes):
        # The line that called the processor.
        warnings.warn(note, stacklevel=5)
    return series


def as_batch(images: Any, count: int) -> Any:
    """Images as `count` series of one date each, where a list of so many single images was given."""
    if not isinstance(images, (list, tuple)) or len(images) != count:
        return images
    is_single = all(isinstance(image, Image.Image) or getattr(image, "ndim", 0) in (2, 3) for image in images)
    return [[image] for image in images] if is_single else images


def filled_labels(labels: Any) -> np.ndarray:
    """Labels as an array; 255 (not labelled) where a masked array masks them."""
    if isinstance(labels, (list, tuple)):
        return np.stack([filled_labels(label) for label in labels])
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    if isinstance(labels, Image.Image):
        if labels.mode not in _LABEL_MODES:
            raise ValueError(
                f"A label map of mode {labels.mode!r} holds colours; give class numbers, in one of the modes "
                f"{', '.join(_LABEL_MODES)}."
            )
        return np.asarray(labels).astype(np.int64)
    if isinstance(labels, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(labels), np.int64(IGNORE_INDEX), np.ma.getdata(labels))
    return np.asarray(labels)


def select_readings(readings: Readings, statistics: str | None) -> Readings:
    """The readings that count for a request, whether rasters, arrays or pictures are given.

    Args:
        readings: all that a checkpoint holds.
        statistics: as asked for. A data set's name leaves its own readings alone; `by_kind` says how pixels are
            normalised, not what the files hold, and leaves all, as `None` does.
    """
    if statistics is None or statistics == BY_KIND:
        return readings
    return {name: known for name, known in readings.items() if name == statistics}


def check_readings(value: Any) -> dict[str, list[dict[str, Any]]]:
    """The setting `readings`: for each data set, how the files of its band sets are read.

    Args:
        value: `{data set: [{"bands": [Band.to_dict(), ...], "dtype": ..., "scale": ..., "offset": ..., "nodata": ...,
            "gsd_m": ...}, ...]}`. Scale, offset and nodata hold one number per band, or are `None`: not stated.

    Raises:
        ValueError: it has another form; the message names the data set.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"readings is {value!r}; a list of readings for each data set is expected.")
    checked = {}
    for name, readings in value.items():
        if not isinstance(readings, Sequence) or isinstance(readings, str):
            raise ValueError(f"readings of {name!r} is {readings!r}; a list of readings is expected.")
        checked[name] = [_check_reading(f"readings of {name!r}", reading) for reading in readings]
    return checked


def _check_reading(where: str, reading: Any) -> dict[str, Any]:
    if not isinstance(reading, Mapping) or not isinstance(reading.get("bands"), Sequence) or not reading["bands"]:
        raise ValueError(f"{where} hold {reading!r}; a record with at least one band is expected.")
    bands = [Band.from_dict(band).to_dict() for band in reading["bands"]]
    dtype, gsd_m = reading.get("dtype"), reading.get("gsd_m")
    names = [dtype] * len(bands) if dtype is None or isinstance(dtype, str) else dtype
    if (
        not isinstance(names, Sequence)
        or len(names) != len(bands)
        or {type(name) for name in names} - {str, type(None)}
    ):
        raise ValueError(
            f"{where}: dtype is {dtype!r}; the name of a type such as uint16, or one for each of its {len(bands)} "
            "bands, is expected."
        )
    if gsd_m is not None and not _is_number(gsd_m):
        raise ValueError(f"{where}: gsd_m is {gsd_m!r}; a number of metres or null is expected.")
    for key in ("scale", "offset", "nodata"):
        numbers = reading.get(key)
        if numbers is None:
            continue
        is_list = isinstance(numbers, Sequence) and not isinstance(numbers, str) and len(numbers) == len(bands)
        if not is_list or not all(number is None or _is_number(number) for number in numbers):
            raise ValueError(
                f"{where}: {key} is {numbers!r}; {len(bands)} numbers, one per band, or null are expected."
            )
    return {
        "bands": bands,
        "dtype": dtype,
        "scale": reading.get("scale"),
        "offset": reading.get("offset"),
        "nodata": reading.get("nodata"),
        "gsd_m": gsd_m,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Dates


def _split(images: Any, described: Described) -> list[list[Any]]:
    """The dates of each series."""
    if isinstance(images, Image.Image):
        return [[images]]
    if isinstance(images, (np.ndarray, torch.Tensor)):
        array = _as_array(images)
        if array.ndim == 4:
            return [list(array)]
        if _is_picture(array, described.records_of(0, 1)):
            return [[array]]
        raise _shape_error([array.shape])
    members = [_as_member(member) for member in images]
    shapes = [np.shape(member) for member in members if isinstance(member, np.ndarray)]
    if len(shapes) == len(members) and all(len(shape) == 4 for shape in shapes):
        return [list(member) for member in members]
    if all(isinstance(member, list) for member in members):
        return [[_as_array(date) for date in member] for member in members]
    if any(isinstance(member, list) for member in members) or any(len(shape) not in (2, 3) for shape in shapes):
        raise _shape_error(shapes)
    return [members]


def _as_member(member: Any) -> Any:
    """A date, an array of several, or a list of dates."""
    if isinstance(member, (list, tuple)) and member and isinstance(member[0], (np.ndarray, torch.Tensor, Image.Image)):
        return list(member)
    return _as_array(member)


def _as_array(image: Any) -> Any:
    """An array, masked as it was, or a PIL image."""
    if isinstance(image, (np.ndarray, Image.Image)):
        return image
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        # NumPy has no bfloat16.
        return (image.float() if image.is_floating_point() else image).numpy()
    if isinstance(image, (list, tuple)):
        return np.asarray(image)
    raise ValueError(
        f"Images of type {type(image).__name__} were given; give arrays, tensors, PIL images or ImageSeries "
        "(stsun_processing.read_series reads files and xarray objects)."
    )


def _shape_error(shapes: Sequence[tuple[int, ...]]) -> ValueError:
    return ValueError(
        f"An array must be (dates, bands, height, width), or one of a list of (bands, height, width) per date; got "
        f"shapes {list(shapes)}. Only 8-bit pictures are (height, width, channels). A list of (dates, bands, height, "
        "width), or of ImageSeries, is several series."
    )


def _one_series(
    stack: Sequence[Any], timestamps: Sequence[Any] | None, described: Described, notes: list[str]
) -> ImageSeries:
    """A series from its dates; `notes` takes what was taken for granted."""
    dates = [None] * len(stack) if timestamps is None else list(timestamps)
    if len(dates) != len(stack):
        raise ValueError(f"timestamps holds {len(dates)} entries for {len(stack)} dates; give one per date.")
    acquisitions, pixels = [], []
    for index, (image, date) in enumerate(zip(stack, dates, strict=True)):
        records = described.records_of(index, len(stack))
        if _is_picture(image, records):
            array, bands, gsd_m = _read_picture(_as_picture(image), records, described, notes)
        else:
            array, bands = _read_array(image, records, described)
            gsd_m = None
        gsd_m = gsd_m if described.gsd_m is None else described.gsd_m
        acquisitions.append(Acquisition(tuple(bands), date, gsd_m))
        pixels.append(array)
    return ImageSeries(tuple(acquisitions), pixels=tuple(pixels))


def _read_array(
    image: np.ndarray, records: Sequence[Band] | None, described: Described
) -> tuple[np.ndarray, Sequence[Band]]:
    """Pixels of an array in physical units, and their bands."""
    if image.ndim != 3:
        raise _shape_error([image.shape])
    if records is None and not described.is_rgb:
        raise ValueError(
            "Arrays need bands=[Band(...), ...], one record per channel (see stsun_processing.sensor_bands): without "
            "them nothing says what the channels are."
        )
    return filled_pixels(image), RGB_BANDS if records is None else records


def _is_band(record: Any) -> bool:
    return isinstance(record, (Band, Mapping)) or type(record).__name__ == Band.__name__


def _as_band(record: Any) -> Band:
    if isinstance(record, Band):
        return record
    # The code in a checkpoint's folder defines the class anew.
    return Band.from_dict(record.to_dict() if type(record).__name__ == Band.__name__ else record)


# Pictures


def _is_picture(image: Any, bands: Sequence[Band] | None) -> bool:
    """Whether this is an 8-bit picture rather than an array of bands in physical units."""
    if isinstance(image, Image.Image):
        return True
    if image.dtype != np.uint8:
        return False
    if image.ndim != 3:
        return bool(image.ndim == 2)
    if bands is not None and image.shape[0] == len(bands):
        return False
    return bool(image.shape[-1] in (3, 4) or (bands is None and image.shape[0] == 3))


def _as_picture(image: Any) -> Picture:
    if isinstance(image, Image.Image):
        clear = _clear_pixels(image)
        if image.mode == "P":
            image = image.convert("RGB")
        if image.mode not in _MODES:
            raise ValueError(
                f"A picture of mode {image.mode!r} was given; those of 8 bits are taken ({', '.join(_MODES)}, P). Give "
                "other numbers as an array in physical units, with bands=[...]."
            )
        channels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
        return Picture(channels, clear, image.mode in ("LA", "RGBA"))
    channels, masked = np.ma.getdata(image), np.ma.getmaskarray(image)
    if channels.ndim == 2:
        channels, masked = channels[None], masked[None]
    elif channels.shape[-1] in (3, 4):
        channels, masked = channels.transpose(2, 0, 1), masked.transpose(2, 0, 1)
    return Picture(channels, np.any(masked, axis=0), False)


def _clear_pixels(image: Image.Image) -> np.ndarray:
    """Where a picture holds the colour that its file calls transparent, (height, width) bool."""
    clear = np.zeros((image.height, image.width), dtype=bool)
    if "transparency" not in image.info:
        return clear
    if image.mode == "P":
        return np.asarray(image.convert("RGBA"))[..., 3] == 0
    colour = np.atleast_1d(image.info["transparency"])
    # Frames of animations keep what was said of a palette that they no longer have.
    if colour.dtype.kind not in "iu" or _MODES.get(image.mode) != len(colour):
        return clear
    return np.all(np.atleast_3d(np.asarray(image)) == colour, axis=-1)


def _is_data(picture: Picture, described: Described) -> bool:
    """Whether a band that is called alpha was one of data in training, as rasters are read that are given by path."""
    if described.is_rgb or np.isin(picture.channels[-1], _OPAQUE_OR_CLEAR).all():
        return False
    known = [reading for readings in (described.readings or {}).values() for reading in readings]
    counts = {len(reading["bands"]) for reading in known if reading["dtype"] == "uint8"}
    return len(picture.channels) in counts and len(picture.channels) - 1 not in counts


def _read_picture(
    picture: Picture, records: Sequence[Band] | None, described: Described, notes: list[str]
) -> tuple[np.ndarray, Sequence[Band], float | None]:
    """Pixels of a picture in physical units, their bands, and the GSD that a reading knows."""
    channels, missing = picture.channels, picture.missing
    # As many records as channels: the last one is a band, whatever the picture calls it.
    is_data = _is_data(picture, described) if records is None else len(records) == len(channels)
    if picture.has_alpha and not is_data:
        channels, missing = channels[:-1], missing | (channels[-1] == 0)
    reading = None
    if records is None and not described.is_rgb:
        reading = _find_reading(described.readings or {}, len(channels), notes)
    if reading is not None:
        gsd_m = reading["gsd_m"]
        array, bands = _apply_reading(channels, reading)
    else:
        gsd_m = None
        if records is None:
            records = _nominal_bands(len(channels), described.is_rgb, notes)
        array, bands = _scale_picture(channels, records)
    array[:, missing] = np.nan
    return array, bands, gsd_m


def _nominal_bands(num_channels: int, is_rgb: bool, notes: list[str]) -> Sequence[Band]:
    if num_channels != len(RGB_BANDS):
        raise ValueError(
            f"A picture with {num_channels} channel{'s' if num_channels > 1 else ''} was given, and nothing says what "
            "they measured. Describe them with bands=[Band(...), ...], one record per channel."
        )
    if not is_rgb:
        centers = ", ".join(f"{band.center_nm:g}" for band in RGB_BANDS)
        notes.append(
            f"Pictures are taken as nominal red, green and blue (sRGB; {centers} nm), 255 as a reflectance of 1. Say "
            f"so with sensor={RGB!r}, or what else they are with bands=[...]."
        )
    return RGB_BANDS


def _scale_picture(channels: np.ndarray, bands: Sequence[Band]) -> tuple[np.ndarray, list[Band]]:
    if len(bands) != len(channels):
        raise ValueError(
            f"{len(bands)} band records ({', '.join(band.name for band in bands)}) were given for a picture with "
            f"{len(channels)} channels. Give one per channel."
        )
    for band in bands:
        if band.kind != "reflective":
            raise ValueError(
                f"Band {band.name!r} of a picture is of kind {band.kind!r}, in whose unit an 8-bit picture is not. "
                "Give an array (dates, bands, height, width) in physical units."
            )
    array = channels.astype(np.float32) * np.float32(PICTURE_SCALE)
    return array, [replace(band, unit="reflectance") for band in bands]


def _find_reading(readings: Readings, num_channels: int, notes: list[str]) -> Mapping[str, Any] | None:
    """How the only data set of such pictures that a checkpoint was tuned on is read."""
    fitting: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name, known in readings.items():
        for reading in known:
            if reading["dtype"] == "uint8" and len(reading["bands"]) == num_channels:
                fitting.setdefault(json.dumps(reading, sort_keys=True), (name, reading))
    if len(fitting) > 1:
        names = dict.fromkeys(name for name, _ in fitting.values())
        raise ValueError(
            f"This checkpoint was tuned on several kinds of pictures with {num_channels} channels "
            f"({', '.join(names)}). Say which with statistics=..., or what the channels are with bands=[...] or "
            f"sensor={RGB!r}."
        )
    for name, reading in fitting.values():
        band_names = ", ".join(band["name"] for band in reading["bands"])
        notes.append(
            f"Pictures are read as those of {name!r}, which this checkpoint was tuned on ({band_names}). Say what else "
            f"they are with bands=[...] or sensor={RGB!r}."
        )
        return reading
    return None


def _apply_reading(channels: np.ndarray, reading: Mapping[str, Any]) -> tuple[np.ndarray, list[Band]]:
    """Physical values: stored numbers x scale + offset, NaN where they are nodata."""
    array = channels.astype(np.float32)
    for index, stored in enumerate(channels):
        scale, offset, nodata = (
            None if reading[key] is None else reading[key][index] for key in ("scale", "offset", "nodata")
        )
        if scale is not None:
            array[index] *= np.float32(scale)
        if offset is not None:
            array[index] += np.float32(offset)
        if nodata is not None:
            array[index, stored == nodata] = np.nan
    return array, [Band.from_dict(band) for band in reading["bands"]]
