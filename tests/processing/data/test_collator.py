from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_stsun import STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries, STSUNCollator
from stsun_processing.data.augmentation import band_jitter, measured_series, metadata_dropout, random_bands
from stsun_processing.data.datasets import Sample
from stsun_processing.statistics_stsun import BandStatistics

BLUE, NIR = Band("B02", 492.4, 66), Band("B08", 832.8, 106)
# Another sensor, one of whose bands has the same name.
LANDSAT_BLUE = Band("B02", 482, 60)
VV = Band("VV", kind="sar", polarisation="VV")
STATISTICS = {
    "mine": [
        BandStatistics.of(band, mean, std).to_dict()
        for band, mean, std in ((BLUE, 1000.0, 200.0), (NIR, 3000.0, 500.0), (LANDSAT_BLUE, 90.0, 10.0))
    ]
}


def make_sample(source="mine", bands=((BLUE, NIR), (LANDSAT_BLUE,)), values=((1200.0, 2500.0), (110.0,)), name="a"):
    pixels = tuple(np.tile(np.array(date, dtype=np.float32)[:, None, None], (1, 4, 5)) for date in values)
    series = ImageSeries(tuple(Acquisition(date) for date in bands), pixels=pixels)
    labels = np.random.default_rng(0).integers(0, 2, (1, 4, 5)).astype(np.uint8)
    outputs = (tuple(range(len(bands))),)
    return Sample(series, "semantic_segmentation", ("water", "forest"), outputs, labels, source, name)


@pytest.fixture
def collate():
    return STSUNCollator(STSUNImageProcessor(categories=["water", "forest"], band_statistics=STATISTICS))


def values_of(batch, sample=0):
    """The value of each band of each date, which are constant here."""
    return batch["pixel_values"][sample, :, :, 0, 0].tolist()


def test_samples_are_normalised_with_the_statistics_of_their_source(collate):
    other = make_sample("synthetic", ((BLUE, NIR), (VV,)), ((0.35, 0.2), (-18.0,)))
    batch = collate([make_sample(), other])
    # Two bands of one name are told apart; what nothing is known of goes by kind.
    np.testing.assert_allclose(values_of(batch), [[1.0, -1.0], [2.0, 0.0]], rtol=1e-5)
    np.testing.assert_allclose(values_of(batch, 1), [[1.0, 0.0], [-1.0, 0.0]], atol=1e-6)
    assert batch["labels"].shape == (2, 1, 4, 5)
    assert torch.equal(batch["labels"][0], torch.tensor(make_sample().labels).long())


@pytest.mark.parametrize("seed", range(5))
def test_augmented_metadata_change_what_the_model_is_told_and_not_its_pixels(collate, seed):
    rng = np.random.default_rng(seed)
    plain = make_sample()
    told = band_jitter(plain, rng, center_nm=20.0, fwhm=0.1)
    forgotten = metadata_dropout(told, rng, 1.0)
    expected = collate([plain])
    for sample in (told, forgotten):
        batch = collate([sample])
        assert torch.equal(batch["pixel_values"], expected["pixel_values"])
        assert not torch.equal(batch["wavelengths"], expected["wavelengths"])
        assert measured_series(sample.series).acquisitions[0].bands == (BLUE, NIR)
    assert collate([forgotten])["wavelengths"].isnan().all()
    fewer = random_bands(forgotten, rng)
    assert len(measured_series(fewer.series).acquisitions[1].bands) == 1
    collate([fewer])


def test_labels_that_are_masked_are_not_labelled(collate):
    sample = make_sample()
    hidden = np.zeros(sample.labels.shape, dtype=bool)
    hidden[0, 1, 2:] = True
    masked = replace(sample, labels=np.ma.masked_array(sample.labels, hidden))
    labels = collate([masked])["labels"][0].numpy()
    assert np.array_equal(labels, np.where(hidden, 255, sample.labels))


def test_a_window_without_data_is_no_fault(collate):
    sample = make_sample()
    series = replace(sample.series, pixels=tuple(array * np.nan for array in sample.series.pixels), valid=None)
    batch = collate([sample, replace(sample, series=series)])
    assert not batch["pixel_mask"][1].any()
    assert not batch["pixel_values"][1].any()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (replace(make_sample(), labels=None), "Sample 'a' of 'mine' has no labels"),
        (replace(make_sample(), labels=np.zeros((1, 2, 2))), "Sample 'a' of 'mine': labels have shape"),
        (make_sample(bands=((BLUE, VV), (LANDSAT_BLUE,))), r"Sample 'a' of 'mine': .*lack the bands VV"),
        (make_sample("else"), "Sample 'a' of 'else': .*another unit"),
        (replace(make_sample(), classes=("lake",)), "Sample 'a' of 'mine': Unknown class 'lake'"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(collate, sample, message):
    with pytest.raises(ValueError, match=message):
        collate([make_sample(name="b"), sample])


def test_units_are_checked_where_no_statistics_are_of_the_source(collate):
    sample = make_sample("else")
    batch = STSUNCollator(collate.processor, check_range=False)([sample])
    # Beyond 1e4 standard deviations values count as missing.
    assert batch["pixel_values"].max() > 100
