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
"""Random numbers and smooth random functions that depend on a seed and on the place alone."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


def random_bits(key: NDArray[np.uint64], *numbers: ArrayLike) -> NDArray[np.uint64]:
    """Random 64-bit numbers that depend on `key` and the integers `numbers` only (the finaliser of SplitMix64)."""
    for number in numbers:
        key = key ^ np.asarray(number, dtype=np.int64).view(np.uint64)
        key += np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(30)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(27)
        key *= np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


def uniform(key: NDArray[np.uint64], *numbers: ArrayLike) -> NDArray[np.float32]:
    """Random numbers in [0, 1) that depend on `key` and the integers `numbers` only."""
    return (random_bits(key, *numbers) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def uniform_number(key: NDArray[np.uint64], *numbers: int) -> float:
    """One random number in [0, 1) out of a key of shape (1,)."""
    return float(uniform(key, *numbers)[0])


def _spline(position: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Cubic B-spline weights, shape (knots, positions), of the knots (whole numbers) around sorted positions."""
    knots = np.arange(math.floor(position[0]) - 1, math.floor(position[-1]) + 3)
    distance = np.abs(position - knots[:, None])
    outer, inner = np.maximum(2.0 - distance, 0.0), np.maximum(1.0 - distance, 0.0)
    return (outer * outer * outer - 4.0 * inner * inner * inner) / 6.0, knots


class NoiseField(NamedTuple):
    """Smooth random functions of the place, sampled at pixel centres `x` (east) and `y` (south), in metres."""

    key: NDArray[np.uint64]
    x: NDArray[np.floating]
    y: NDArray[np.floating]

    def __call__(self, salt: int, *wavelengths_m: float, east: float = 0.0, south: float = 0.0) -> NDArray[np.floating]:
        """A sum of waves, each as strong as it is long, of mean 0 and variance 1, shape (height, width)."""
        total = np.zeros((len(self.y), len(self.x)))
        pixel = self.x[1] - self.x[0]
        for number, wavelength in enumerate(wavelengths_m):
            spacing = max(0.5 * wavelength, pixel)
            rows, knots_y = _spline((self.y + south) / spacing)
            columns, knots_x = _spline((self.x + east) / spacing)
            lattice = uniform(random_bits(self.key, salt, number), knots_y[:, None], knots_x) - 0.5
            total += wavelength / wavelengths_m[0] * (rows.T @ lattice @ columns)
        # A uniform number has variance 1/12; splines over two axes keep the share (151/315)^2 of it on average.
        return total * (math.sqrt(12.0) * 315.0 / 151.0 / math.hypot(*(w / wavelengths_m[0] for w in wavelengths_m)))
