import numpy as np
import pytest

from stsun_processing.data.converters import ConversionError
from stsun_processing.data.converters.common import binary_ids


def test_masks_of_other_values_are_refused():
    mask = np.array([[0, 255], [1, 0]], np.uint8)
    assert binary_ids(mask[None], "a.png").tolist() == [[0, 1], [1, 0]]
    assert binary_ids(np.stack([mask] * 3), "a.png").tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ConversionError, match=r"a\.png holds 7; 0 and 255"):
        binary_ids(mask[None] // 36, "a.png")
    with pytest.raises(ConversionError, match="3 bands that differ"):
        binary_ids(np.stack([mask, mask, mask * 0]), "a.png")
    assert binary_ids(np.array([[[3, 250], [130, 120]]], np.uint8), "a.JPG").tolist() == [[0, 1], [1, 0]]
