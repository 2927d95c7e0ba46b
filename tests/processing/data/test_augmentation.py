import math
from dataclasses import replace

import numpy as np
import pytest

from stsun_processing.data.augmentation import (
    Augmentation,
    AugmentationError,
    band_jitter,
    metadata_dropout,
    random_bands,
    random_crop,
    random_dates,
    random_flip_rotate,
    random_gain,
    random_reversal,
)
from stsun_processing.data.datasets import Sample
from stsun_processing.metadata import Acquisition, Band, ImageSeries

SENTINEL = tuple(Band(f"B{n}", center_nm=400.0 + 100 * n, fwhm_nm=20.0 + n) for n in range(6))
RADAR = (Band("VV", kind="sar"), Band("VH", kind="sar"))
TRANSFORM = (10.0, 0.5, 500_000.0, 0.25, -10.0, 4_000_000.0)


def coordinates(transform, height, width):
    """Map coordinates of the pixels' centres, from the corner of the made sample."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    a, b, c, d, e, f = transform
    return a * columns + b * rows + c - 500_000, d * columns + e * rows + f - 4_000_000


def make_sample(task="semantic_change_detection", height=9, width=14, num_dates=4, outputs=None, labelled=1.0):
    """Every value, mask and label of a pixel is a known function of its map coordinates and of nothing else."""
    x, y = coordinates(TRANSFORM, height, width)
    bands = [RADAR if date == 1 else SENTINEL for date in range(num_dates)]
    pixels = tuple(
        np.stack([x + 7 * date + 13 * band * y for band in range(len(bands[date]))]) for date in range(num_dates)
    )
    series = ImageSeries(
        acquisitions=tuple(
            Acquisition(bands[date], datetime=f"2021-0{date + 1}-15", gsd_m=10) for date in range(num_dates)
        ),
        crs="EPSG:32633",
        transform=TRANSFORM,
        pixels=pixels,
        valid=tuple(mask_of(x, y, date) for date in range(num_dates)),
    )
    outputs = outputs or tuple((date,) for date in range(num_dates))
    labels = np.stack([label_of(x, y, output) for output in range(len(outputs))])
    labels[:, np.random.default_rng(0).random((height, width)) >= labelled] = 255
    return Sample(series, task, ("a", "b", "c"), outputs, labels, source="made", name="sample")


def label_of(x, y, output):
    return ((np.floor(x * 3 + y * 7) + output) % 3).astype(np.uint8)


def mask_of(x, y, date):
    return np.floor(x + y + date) % 4 != 0


def check_geometry(sample):
    """Follows each pixel back through the transform: its values, mask and labels must be those of the place."""
    height, width = sample.series.size
    x, y = coordinates(sample.series.transform, height, width)
    for date, (pixels, valid) in enumerate(zip(sample.series.pixels, sample.series.valid, strict=True)):
        for band, array in enumerate(pixels):
            np.testing.assert_allclose(array, x + 7 * date + 13 * band * y, atol=1e-2)
        np.testing.assert_array_equal(valid, mask_of(x, y, date))
    for output, labels in enumerate(sample.labels):
        known = labels != 255
        np.testing.assert_array_equal(labels[known], label_of(x, y, output)[known])


def test_the_made_sample_is_what_the_checks_expect():
    sample = make_sample()
    check_geometry(sample)
    with pytest.raises(AssertionError):
        check_geometry(replace(sample, labels=sample.labels[:, ::-1]))


def test_flips_and_turns_move_pixels_masks_and_labels_as_one():
    sample = make_sample()
    seen = set()
    for seed in range(60):
        turned = random_flip_rotate(sample, np.random.default_rng(seed))
        check_geometry(turned)
        assert sorted(turned.series.size) == [9, 14]
        seen.add((turned.series.size, turned.series.transform[:2]))
    assert len(seen) == 8


def test_a_sample_without_georeference_or_labels_turns_too():
    sample = make_sample()
    sample = replace(sample, series=replace(sample.series, transform=None), labels=None)
    turned = random_flip_rotate(sample, np.random.default_rng(3))
    assert turned.series.transform is None
    assert turned.labels is None
    np.testing.assert_array_equal(np.sort(turned.series.pixels[0].ravel()), np.sort(sample.series.pixels[0].ravel()))


def test_crop_is_a_window_with_a_labelled_pixel():
    sample = make_sample(labelled=0.03)
    assert 0 < (sample.labels[0] != 255).sum() < 10
    places = set()
    for seed in range(40):
        crop = random_crop(sample, np.random.default_rng(seed), 4, 5)
        assert crop.series.size == (4, 5)
        check_geometry(crop)
        assert (crop.labels != 255).any()
        places.add(crop.series.transform)
    assert len(places) > 5


def test_crop_reaches_every_corner_and_keeps_small_samples_whole():
    sample = replace(make_sample(), labels=None)
    corners = {random_crop(sample, np.random.default_rng(seed), 8, 13).series.transform[2] for seed in range(40)}
    assert len(corners) == 4
    whole = random_crop(sample, np.random.default_rng(0), 100, 5)
    assert whole.series.size == (9, 5)
    with pytest.raises(AugmentationError, match="0 x 5"):
        random_crop(sample, np.random.default_rng(0), 0, 5)


def test_bands_drop_with_their_pixels_and_alike_on_dates_with_equal_bands():
    sample = make_sample()
    counts = set()
    for seed in range(60):
        fewer = random_bands(sample, np.random.default_rng(seed), min_bands=2, keep=("B3",))
        optical = [acquisition.bands for acquisition in fewer.series.acquisitions]
        assert optical[0] == optical[2] == optical[3]
        assert "B3" in [band.name for band in optical[0]]
        assert len(optical[1]) == 2
        counts.add(len(optical[0]))
        for date, acquisition in enumerate(fewer.series.acquisitions):
            source = sample.series.acquisitions[date].bands
            positions = [source.index(band) for band in acquisition.bands]
            assert positions == sorted(positions)
            np.testing.assert_array_equal(fewer.series.pixels[date], sample.series.pixels[date][positions])
    assert counts == {2, 3, 4, 5, 6}
    with pytest.raises(AugmentationError, match="min_bands"):
        random_bands(sample, np.random.default_rng(0), min_bands=0)


def test_every_band_is_dropped_sometimes():
    kept = [random_bands(make_sample(), np.random.default_rng(seed)).series.acquisitions[0].bands for seed in range(60)]
    assert all(any(band not in bands for bands in kept) for band in SENTINEL)
    assert all(any(band in bands for bands in kept) for band in SENTINEL)


def source_dates(sample, fewer):
    """Positions in `sample` of the dates of `fewer`, found by their date."""
    days = [acquisition.datetime for acquisition in sample.series.acquisitions]
    return [days.index(acquisition.datetime) for acquisition in fewer.series.acquisitions]


def test_a_map_of_the_whole_series_describes_whatever_dates_stay():
    sample = make_sample("semantic_segmentation", outputs=((0, 1, 2, 3),))
    subsets = set()
    for seed in range(200):
        fewer = random_dates(sample, np.random.default_rng(seed), max_dates=3)
        dates = source_dates(sample, fewer)
        assert fewer.outputs == (tuple(range(len(dates))),)
        np.testing.assert_array_equal(fewer.labels, sample.labels)
        for position, date in enumerate(dates):
            np.testing.assert_array_equal(fewer.series.pixels[position], sample.series.pixels[date])
        subsets.add(tuple(dates))
    assert len(subsets) == 4 + 6 + 4


def test_a_date_without_data_is_never_left_alone():
    sample = make_sample("semantic_segmentation", outputs=((0, 1, 2, 3),))
    sample.series.valid[0][:] = False
    subsets = {
        tuple(source_dates(sample, random_dates(sample, np.random.default_rng(seed), max_dates=2)))
        for seed in range(200)
    }
    assert (0,) not in subsets
    assert {(1,), (2,), (3,), (0, 1), (0, 2), (0, 3)} < subsets


@pytest.mark.parametrize("outputs", [((0,), (1,), (2,), (3,)), ((0, 1), (2, 3)), ((1,), (2, 3))])
def test_maps_follow_their_dates(outputs):
    sample = make_sample("semantic_change_detection", outputs=outputs)
    for seed in range(80):
        fewer = random_dates(sample, np.random.default_rng(seed))
        dates = source_dates(sample, fewer)
        expected = [
            (tuple(dates.index(date) for date in output if date in dates), labels)
            for output, labels in zip(outputs, sample.labels, strict=True)
            if set(output) & set(dates)
        ]
        assert fewer.outputs == tuple(output for output, _ in expected)
        np.testing.assert_array_equal(fewer.labels, np.stack([labels for _, labels in expected]))
        assert len(fewer.outputs) >= 2


def test_binary_change_keeps_the_dates_compared():
    sample = make_sample("binary_change_detection", outputs=((0, 3),))
    kept = set()
    for seed in range(40):
        fewer = random_dates(sample, np.random.default_rng(seed), max_dates=3)
        dates = source_dates(sample, fewer)
        assert [dates[position] for position in fewer.outputs[0]] == [0, 3]
        kept.add(tuple(dates))
    assert kept == {(0, 3), (0, 1, 3), (0, 2, 3)}
    assert source_dates(sample, random_dates(sample, np.random.default_rng(0), max_dates=1)) == [0, 3]
    with pytest.raises(AugmentationError, match="max_dates"):
        random_dates(sample, np.random.default_rng(0), max_dates=0)


def test_longer_series_are_cut_to_the_most_dates_and_no_further():
    sample = make_sample("semantic_segmentation", num_dates=6)
    cut = Augmentation(max_dates=4)
    lengths = [len(cut(sample, np.random.default_rng(seed)).series.acquisitions) for seed in range(20)]
    assert lengths == [4] * 20
    short = make_sample("semantic_segmentation", num_dates=3)
    assert len(cut(short, np.random.default_rng(0)).series.acquisitions) == 3
    kept = [len(random_dates(sample, np.random.default_rng(s), 5, 3).series.acquisitions) for s in range(40)]
    assert set(kept) == {3, 4, 5}


def test_of_several_changes_those_stay_whose_two_dates_do():
    pairs = ((0, 1), (1, 2), (2, 3))
    sample = make_sample("binary_change_detection", outputs=pairs)
    seen = set()
    for seed in range(200):
        fewer = random_dates(sample, np.random.default_rng(seed))
        dates = source_dates(sample, fewer)
        kept = [(dates[before], dates[after]) for before, after in fewer.outputs]
        assert kept == [pair for pair in pairs if set(pair) <= set(dates)]
        assert kept
        np.testing.assert_array_equal(fewer.labels, sample.labels[[pairs.index(pair) for pair in kept]])
        seen.add(tuple(dates))
    assert seen == {(0, 1), (1, 2), (2, 3), (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3)}


def test_reversal_swaps_before_and_after_of_binary_change_only():
    sample = make_sample("binary_change_detection", outputs=((0, 1), (1, 3)))
    outcomes = []
    for seed in range(200):
        turned = random_reversal(sample, np.random.default_rng(seed))
        outcomes.append(turned.outputs == ((1, 0), (3, 1)))
        assert outcomes[-1] or turned.outputs == sample.outputs
        assert turned.labels is sample.labels
        assert turned.series is sample.series
    assert 0.35 < np.mean(outcomes) < 0.65
    for task in ("semantic_segmentation", "semantic_change_detection"):
        semantic = make_sample(task)
        assert all(random_reversal(semantic, np.random.default_rng(seed)) is semantic for seed in range(10))


def test_a_reversed_change_still_keeps_its_dates():
    sample = make_sample("binary_change_detection", outputs=((3, 0),))
    for seed in range(20):
        fewer = random_dates(sample, np.random.default_rng(seed))
        assert [source_dates(sample, fewer)[position] for position in fewer.outputs[0]] == [3, 0]


def test_jitter_moves_numbers_only_and_equal_bands_alike():
    sample = make_sample()
    shifts, factors = [], []
    for seed in range(100):
        moved = band_jitter(sample, np.random.default_rng(seed), center_nm=5, fwhm=0.1)
        assert moved.series.acquisitions[0].bands == moved.series.acquisitions[2].bands
        assert moved.series.acquisitions[1].bands == RADAR
        assert all(a is b for a, b in zip(moved.series.pixels, sample.series.pixels, strict=True))
        for before, after in zip(SENTINEL, moved.series.acquisitions[0].bands, strict=True):
            shifts.append(after.center_nm - before.center_nm)
            factors.append(math.log(after.fwhm_nm / before.fwhm_nm))
    assert np.std(shifts) == pytest.approx(5, rel=0.15)
    assert np.std(factors) == pytest.approx(0.1, rel=0.15)
    assert abs(np.mean(shifts)) < 1
    acquisitions = (Acquisition((Band("x", kind="other"),)),) * 4
    unknown = replace(sample, series=replace(sample.series, acquisitions=acquisitions, pixels=None))
    assert band_jitter(unknown, np.random.default_rng(0), 5, 0.1) == unknown


def test_metadata_goes_missing_as_often_as_asked_and_pixels_stay():
    sample = make_sample()
    missing = []
    for seed in range(400):
        less = metadata_dropout(sample, np.random.default_rng(seed), 0.3)
        bands = less.series.acquisitions[0].bands
        missing.append([bands[0].center_nm is None, np.isnan(less.series.days).all(), less.series.gsd_m is None])
        assert (bands[0].fwhm_nm is None) == (bands[0].center_nm is None)
        assert [band.name for band in bands] == [band.name for band in SENTINEL]
        assert less.series.transform == sample.series.transform
        assert np.isnan(less.series.days).any() == np.isnan(less.series.days).all()
        np.testing.assert_array_equal(less.series.pixels[0], sample.series.pixels[0])
    np.testing.assert_allclose(np.mean(missing, axis=0), 0.3, atol=0.07)
    assert metadata_dropout(sample, np.random.default_rng(0), 0.0).series.to_dict() == sample.series.to_dict()
    with pytest.raises(AugmentationError, match="p is a probability"):
        metadata_dropout(sample, np.random.default_rng(0), 1.5)


def test_gain_is_one_factor_a_date_and_spares_radar():
    sample = make_sample()
    sample.series.pixels[0][0, 0, 0] = np.nan
    gains = []
    for seed in range(300):
        brighter = random_gain(sample, np.random.default_rng(seed), 0.2)
        factors = [new / old for new, old in zip(brighter.series.pixels, sample.series.pixels, strict=True)]
        assert np.isnan(factors[0][0, 0, 0])
        np.testing.assert_array_equal(factors[1], 1)
        for date in (0, 2, 3):
            np.testing.assert_allclose(factors[date][1:], factors[date][1, 0, 0], rtol=1e-5)
        gains.append([np.log(np.nanmean(factors[date])) for date in (0, 2)])
        np.testing.assert_array_equal(brighter.series.valid[0], sample.series.valid[0])
    assert np.std(gains) == pytest.approx(0.2, rel=0.15)
    assert abs(np.corrcoef(np.transpose(gains))[0, 1]) < 0.2


def test_a_band_keeps_its_tint_on_all_dates():
    sample = make_sample()
    tints = []
    for seed in range(300):
        tinted = random_gain(sample, np.random.default_rng(seed), 0.0, 0.2)
        of_band: dict[object, set[float]] = {}
        for acquisition, new, old in zip(
            sample.series.acquisitions, tinted.series.pixels, sample.series.pixels, strict=True
        ):
            for band, factor in zip(acquisition.bands, np.nanmedian(new / old, axis=(1, 2)), strict=True):
                of_band.setdefault(band, set()).add(round(float(factor), 4))
        assert all(len(factors) == 1 for factors in of_band.values())
        tints.append([factors.pop() for band, factors in of_band.items() if band.kind == "reflective"])
        assert all(factors == {1.0} for band, factors in of_band.items() if band.kind != "reflective")
    assert np.std(np.log(tints)) == pytest.approx(0.2, rel=0.15)
    assert abs(np.corrcoef(np.log(tints)[:, 0], np.log(tints)[:, 1])[0, 1]) < 0.2
    with pytest.raises(AugmentationError, match="band_sigma"):
        random_gain(sample, np.random.default_rng(0), 0.1, -0.1)


def test_only_flips_and_turns_by_default():
    sample = make_sample()
    for seed in range(20):
        changed = Augmentation()(sample, np.random.default_rng(seed))
        check_geometry(changed)
        assert changed.series.acquisitions == sample.series.acquisitions
        assert changed.outputs == sample.outputs
    still = Augmentation(flip_rotate=0)(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(still.labels, sample.labels)
    assert still.series.transform == sample.series.transform


def test_all_together_is_seeded_and_leaves_the_given_sample_alone():
    everything = Augmentation(
        dates=1, max_dates=3, bands=1, crop_size=(6, 6), gain=1, jitter=1, metadata=0.5, keep_bands=("B2",)
    )
    sample, untouched = make_sample(), make_sample()
    one, two = (everything(sample, np.random.default_rng(5)) for _ in range(2))
    assert one.series == two.series
    for first, second in zip(one.series.pixels, two.series.pixels, strict=True):
        np.testing.assert_array_equal(first, second)
    assert one.series.size == (6, 6)
    assert one.labels.shape == (len(one.outputs), 6, 6)
    for before, after in zip(untouched.series.pixels, sample.series.pixels, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(sample.labels, untouched.labels)
    results = {everything(sample, np.random.default_rng(seed)).series.to_json() for seed in range(5)}
    assert len(results) == 5


def test_probabilities_out_of_range_are_refused():
    with pytest.raises(AugmentationError, match="bands is a probability"):
        Augmentation(bands=2)
