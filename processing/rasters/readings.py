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
"""What a checkpoint knows of files like those it was tuned on, for files that say nothing of it themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..metadata import Band
from .identify import CENTER_TOLERANCE_NM
from .records import BandStatements, RasterError, Scaling, Stated

Readings = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Reading:
    """One set of bands of a training data set.

    Args:
        name: the data set.
        bands: the bands, in the order of the channels.
        dtype: type of the stored numbers.
        scaling: per band what its dataset.json stated; `None` = nothing.
        nodata: likewise.
        gsd_m: ground sampling distance in metres; `None` = unknown, or the files state it.
    """

    name: str
    bands: tuple[Band, ...]
    dtype: str
    scaling: tuple[Scaling | None, ...]
    nodata: tuple[float | None, ...]
    gsd_m: float | None

    @property
    def source(self) -> str:
        """What the report calls it."""
        return f"checkpoint, as data set {self.name!r} was read"

    def statements(self, position: int) -> BandStatements:
        """What it says of the numbers of one band."""
        scaling, nodata = self.scaling[position], self.nodata[position]
        return BandStatements(
            scaling=() if scaling is None else (Stated(scaling, self.source),),
            nodata=() if nodata is None else (Stated(nodata, self.source),),
        )

    def fits(self, bands: Sequence[Band | None], dtypes: Sequence[str]) -> bool:
        """Whether files with these bands (`None` = unknown) and types of numbers may be read in this way."""
        if len(bands) != len(self.bands) or any(dtype != self.dtype for dtype in dtypes):
            return False
        pairs = zip(bands, self.bands, strict=True)
        return all(known is None or _same_band(known, band) for known, band in pairs)


def _same_band(one: Band, two: Band) -> bool:
    if one.type != two.type or (one.center_nm is None) != (two.center_nm is None):
        return False
    if one.center_nm is None or two.center_nm is None:
        return True
    return abs(one.center_nm - two.center_nm) <= CENTER_TOLERANCE_NM


def parse_readings(readings: Readings) -> list[Reading]:
    """The setting `readings` of an image processor as records.

    Args:
        readings: by data set, dictionaries with `bands`, `dtype`, `scale`, `offset`, `nodata` and `gsd_m`.

    Raises:
        RasterError: a list has another length than the bands.
    """
    return [_parse(name, fields) for name, listed in readings.items() for fields in listed]


def _parse(name: str, fields: Mapping[str, Any]) -> Reading:
    bands = tuple(Band.from_dict(band) for band in fields["bands"])
    unknown: list[None] = [None] * len(bands)
    lists = {key: fields.get(key) or unknown for key in ("scale", "offset", "nodata")}
    for key, values in lists.items():
        if len(values) != len(bands):
            raise RasterError(
                f"The checkpoint's readings of {name!r} hold {len(values)} values of {key} for {len(bands)} bands; one "
                "per band is expected. Correct preprocessor_config.json."
            )
    scaling = []
    for scale, offset in zip(lists["scale"], lists["offset"], strict=True):
        stated = scale is not None or offset is not None
        scaling.append(Scaling(1.0 if scale is None else scale, offset or 0.0) if stated else None)
    return Reading(name, bands, fields["dtype"], tuple(scaling), tuple(lists["nodata"]), fields.get("gsd_m"))


def choose(
    readings: Sequence[Reading], path: str, bands: Sequence[Band | None], dtypes: Sequence[str]
) -> Reading | None:
    """The reading that fits the bands of one date, as far as they are known; `None` if none does.

    Args:
        readings: all that the checkpoint holds.
        path: the first file of the date, for messages.
        bands: what its files say; `None` = nothing.
        dtypes: types of its stored numbers.

    Raises:
        RasterError: several fit, and do not mean the same.
    """
    fitting = [reading for reading in readings if reading.fits(bands, dtypes)]
    if not fitting:
        return None
    is_open = any(band is None for band in bands)
    meanings = {
        (reading.bands if is_open else None, reading.scaling, reading.nodata, reading.gsd_m) for reading in fitting
    }
    if len(meanings) > 1:
        names = ", ".join(dict.fromkeys(reading.name for reading in fitting))
        what = "what the bands are" if is_open else "how its numbers are scaled"
        raise RasterError(
            f"{path} does not say {what}; the checkpoint was tuned on several data sets that it may be like: {names}. "
            "Name one with statistics=... (--statistics), or give bands=..., scale=... (--bands, --scale)."
        )
    return fitting[0]
