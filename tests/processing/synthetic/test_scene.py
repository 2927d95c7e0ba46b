"""Scenes of the synthetic world against physics that they do not share code with, and the promises of their labels."""

from datetime import datetime

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import jaccard_score

from stsun_processing.metadata import Acquisition, Band, MetadataError
from stsun_processing.synthetic import CLASSES, MATERIALS, SyntheticError, make_scene, reflectance
from stsun_processing.synthetic.shapes import DETAIL_GSD_M

GREEN, RED, NIR, SWIR = Band("green", 560, 36), Band("red", 665, 31), Band("nir", 833, 106), Band("swir", 1610, 91)
OPTICAL = (Band("blue", 492, 66), GREEN, RED, NIR, SWIR)
# Ten bands between 490 and 2200 nm, near those of Sentinel-2.
TEN_BANDS = (
    *OPTICAL[:3],
    *(Band(f"B{nm}", nm, width) for nm, width in ((704, 15), (740, 15), (783, 20))),
    NIR,
    *(Band(f"B{nm}", nm, width) for nm, width in ((865, 21), (1610, 91), (2190, 175))),
)
SUMMER, WINTER = 195, 20
DATES = ("2020-06-20", "2021-07-05", "2023-05-25")
CHANGE, SEMANTIC_CHANGE = "binary_change_detection", "semantic_change_detection"


def observe(scene, bands=OPTICAL, gsd_m=None, **kwargs):
    return scene.observe([Acquisition(bands, when, gsd_m) for when in scene.dates], **kwargs)


def test_every_class_has_its_share_and_a_scene_has_several():
    # Measured over 600 scenes of 48 x 48 pixels at 10 m: between 8 % (water) and 20 % (forest).
    counts = np.stack([np.bincount(make_scene(s, 48, 48).land_cover.ravel(), minlength=8) for s in range(150)])
    shares = counts.sum(0) / counts.sum()
    assert shares.min() > 0.04
    assert shares.max() < 0.30
    assert (counts > 0).sum(1).mean() > 4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (9, 1), (200, 30), (33, 17)])
def test_any_size_has_labels_and_finite_pixels(height, width):
    scene = make_scene(3, height, width, dates=DATES)
    series = observe(scene, clouds=0.3)
    assert scene.land_cover.shape == (3, height, width)
    assert scene.land_cover.dtype == np.uint8
    for pixels in series.pixels:
        assert pixels.shape == (5, height, width)
        assert pixels.dtype == np.float32
        assert np.isfinite(pixels).all()


def test_the_same_arguments_give_the_same_scene_and_another_seed_another():
    first, second, other = (make_scene(seed, 40, 50, dates=DATES) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.land_cover, second.land_cover)
    for a, b in zip(observe(first, clouds=0.4).pixels, observe(second, clouds=0.4).pixels, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.land_cover != other.land_cover).mean() > 0.3


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_scene_continues_a_smaller_one_and_a_finer_one_shows_the_same_place(seed):
    small, large = make_scene(seed, 40, 30, dates=DATES), make_scene(seed, 90, 100, dates=DATES)
    np.testing.assert_array_equal(small.land_cover, large.land_cover[:, :40, :30])
    coarse, fine = make_scene(seed, 40, 40, gsd_m=15), make_scene(seed, 120, 120, gsd_m=5)
    assert (coarse.land_cover == fine.land_cover[:, 1::3, 1::3]).mean() > 0.9


def test_pixel_size_matters():
    def edges(gsd_m):
        scenes = [make_scene(seed, 64, 64, gsd_m=gsd_m).land_cover[0] for seed in range(20)]
        return np.mean([(land[1:] != land[:-1]).mean() for land in scenes])

    assert edges(5.0) < edges(10.0) < edges(30.0)
    assert edges(30.0) == edges(300.0)


def test_fine_pixels_tell_gardens_from_houses():
    def share_of_green_in_town(gsd_m, size):
        towns = [make_scene(seed, size, size, gsd_m=gsd_m).land_cover[0] for seed in range(40)]
        towns = np.concatenate([land.ravel() for land in towns if (land == CLASSES.index("urban")).mean() > 0.3])
        return (towns == CLASSES.index("grassland")).mean()

    assert share_of_green_in_town(DETAIL_GSD_M / 2, 96) > 0.15 + share_of_green_in_town(DETAIL_GSD_M * 1.5, 32)


def test_change_is_exactly_the_difference_of_the_land_covers():
    scene = make_scene(1, 60, 50, dates=DATES, change_fraction=0.3)
    maps = scene.labels(SEMANTIC_CHANGE)
    np.testing.assert_array_equal(maps, scene.land_cover)
    pairs = [(0, 1), (1, 2), (0, 2)]
    change = scene.labels(CHANGE, pairs)
    assert change.dtype == np.uint8
    for label, (before, after) in zip(change, pairs, strict=True):
        np.testing.assert_array_equal(label == 1, maps[before] != maps[after])
        assert 0 < label.mean() < 1
    np.testing.assert_array_equal(scene.labels(CHANGE), change[:2])
    np.testing.assert_array_equal(scene.labels("semantic_segmentation"), maps[2:])
    np.testing.assert_array_equal(scene.labels("semantic_segmentation", [(0, 1), (2,)]), maps[1:])


def test_change_follows_its_fraction():
    def share(fraction):
        scenes = [make_scene(s, 48, 48, dates=DATES[:2], change_fraction=fraction) for s in range(60)]
        return np.mean([scene.labels(CHANGE).mean() for scene in scenes])

    assert share(0.0) == 0.0
    assert 0.05 < share(0.1) < 0.15
    assert 0.3 < share(0.4) < 0.5
    assert make_scene(1, 48, 48, dates=DATES[:1] * 2, change_fraction=1.0).labels(CHANGE).max() == 0


def test_a_subset_of_the_classes_leaves_the_rest_unlabelled():
    scene = make_scene(1, 48, 48)
    labels = scene.labels("semantic_segmentation", classes=("forest", "water"))
    for position, name in enumerate(("forest", "water")):
        np.testing.assert_array_equal(labels == position, scene.land_cover == CLASSES.index(name))
    assert set(np.unique(labels)) == {0, 1, 255}


@pytest.mark.parametrize(
    ("task", "outputs", "words"),
    [
        ("panoptic", None, "panoptic.*semantic_segmentation"),
        (CHANGE, None, "one date"),
        (CHANGE, [(0,)], "before, after"),
        (SEMANTIC_CHANGE, [(1,)], "1 dates"),
        (SEMANTIC_CHANGE, [()], "at least one"),
    ],
)
def test_impossible_labels_are_refused(task, outputs, words):
    with pytest.raises(SyntheticError, match=words):
        make_scene(0, 4, 4).labels(task, outputs)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (SyntheticError, {"height": 0}),
        (SyntheticError, {"width": 2.5}),
        (SyntheticError, {"seed": -1}),
        (SyntheticError, {"gsd_m": float("nan")}),
        (SyntheticError, {"change_fraction": 1.1}),
        (MetadataError, {"dates": ()}),
        (MetadataError, {"dates": (None,)}),
        (MetadataError, {"dates": DATES[::-1]}),
        (MetadataError, {"dates": ("yesterday",)}),
    ],
)
def test_impossible_scenes_are_refused(error, arguments):
    with pytest.raises(error):
        make_scene(**({"seed": 0, "height": 4, "width": 4} | arguments))


def test_labels_do_not_depend_on_who_looks():
    scene = make_scene(9, 40, 40, dates=DATES)
    before = scene.labels(SEMANTIC_CHANGE)
    for bands, noise, clouds in ((OPTICAL, 0.0, 0.0), ((Band("VV", kind="sar"),), 0.1, 1.0)):
        observe(scene, bands, noise=noise, clouds=clouds, seed=4)
        np.testing.assert_array_equal(scene.labels(SEMANTIC_CHANGE), before)
    with pytest.raises(ValueError, match="read-only"):
        scene.land_cover[0, 0, 0] = 1


def test_images_show_change_where_the_labels_say_so():
    # One day of three years: what stays differs by the light of the date only, and not at all for radar.
    scene = make_scene(1, 80, 80, dates=("2021-07-01", "2022-07-01", "2023-07-01"))
    images = observe(scene, (Band("VV", kind="sar"), NIR), noise=0.0).pixels
    for (before, after), label in zip(((0, 1), (1, 2)), scene.labels(CHANGE), strict=True):
        near_change = np.lib.stride_tricks.sliding_window_view(label, (3, 3)).max((2, 3)) == 1
        (radar, optical), (radar_before, optical_before) = images[after][:, 1:-1, 1:-1], images[before][:, 1:-1, 1:-1]
        np.testing.assert_array_equal(np.abs(radar - radar_before) > 1e-4, near_change)
        gain = optical / optical_before
        light = np.median(gain[~near_change])
        np.testing.assert_allclose(gain[~near_change], light, rtol=1e-3)
        assert (np.abs(gain[near_change] / light - 1) > 0.01).mean() > 0.8


def test_pixels_follow_the_spectra_of_their_classes():
    values = {name: [] for name in CLASSES}
    for seed in range(60):
        scene = make_scene(seed, 48, 48, dates=("2021-07-14",))
        pixels = observe(scene, noise=0.0).pixels[0]
        for number, name in enumerate(CLASSES):
            values[name].append(pixels[:, scene.land_cover[0] == number])
    for name in CLASSES:
        mean = np.concatenate(values[name], axis=1).mean(1)
        expected = [float(reflectance(name, band.center_nm, SUMMER, band.fwhm_nm)) for band in OPTICAL]
        # Neighbours and other materials mix into every class.
        np.testing.assert_allclose(mean, expected, rtol=0.1, atol=0.02, err_msg=name)


def test_other_sensors_see_the_same_place_in_their_own_way():
    scene = make_scene(9, 48, 48)
    sharp, broad, unknown, typical = (
        observe(scene, (Band("x", 700, width),), noise=0.0).pixels[0] for width in (10.0, 150.0, None, 35.0)
    )
    assert np.abs(sharp - broad).max() > 0.03
    # An unknown width is taken as 5 % of the centre.
    np.testing.assert_array_equal(unknown, typical)
    swapped = observe(scene, OPTICAL[::-1], noise=0.0).pixels[0]
    np.testing.assert_allclose(swapped[::-1], observe(scene, noise=0.0).pixels[0], rtol=1e-5)


def test_a_series_may_mix_sensors_of_all_kinds():
    scene = make_scene(12, 64, 48, dates=DATES)
    radar = (Band("VV", kind="sar", polarisation="VV"), Band("VH", kind="sar", polarisation="VH"))
    mixed = (Band("dem", kind="elevation"), NIR, Band("tir", 10900, 590, kind="thermal"))
    series = scene.observe(
        [
            Acquisition(radar, scene.dates[0], 10, "radar"),
            Acquisition(OPTICAL, None),
            Acquisition(mixed, scene.dates[2]),
        ]
    )
    vv, vh = series.pixels[0]
    assert -35 < vh.mean() < vv.mean() < 0
    elevation, nir, kelvin = series.pixels[2]
    assert np.abs(np.diff(elevation - elevation.mean(), axis=0)).mean() < 20
    assert 0 < nir.mean() < 1
    assert 260 < kelvin.mean() < 315
    # What is unknown stays unknown.
    assert series.acquisitions[1].datetime is None
    assert series.acquisitions[1].gsd_m is None
    assert series.size == (64, 48)
    assert all(mask.all() for mask in series.valid)


def test_noise_has_the_strength_asked_for_in_the_unit_of_each_kind():
    scene = make_scene(2, 80, 80)
    bands = (NIR, Band("tir", kind="thermal"), Band("VV", kind="sar"), Band("dem", kind="elevation"))
    clean, noisy, other = (observe(scene, bands, noise=n, seed=s).pixels[0] for n, s in ((0, 1), (0.01, 1), (0.01, 2)))
    deviation = (noisy - clean).std((1, 2))
    np.testing.assert_allclose(deviation, [0.01, 1.0, 2.0, 2.0], rtol=0.05)
    assert np.abs(noisy - other).max() > 0


def test_clouds_are_white_cold_and_cover_their_share_but_radar_sees_through():
    bands = (*OPTICAL, Band("tir", kind="thermal"), Band("VV", kind="sar"), Band("dem", kind="elevation"))
    for seed, share in ((1, 0.1), (2, 0.5), (3, 0.9)):
        scene = make_scene(seed, 96, 96, dates=("2021-07-01",))
        snow = scene.land_cover[0] == CLASSES.index("snow")
        clear, cloudy = (observe(scene, bands, noise=0.0, clouds=clouds).pixels[0] for clouds in (0.0, share))
        np.testing.assert_array_equal(clear[6:], cloudy[6:])
        covered = cloudy[5] < 0.5 * (clear[5] + 262)
        np.testing.assert_allclose(covered[~snow].mean(), share, atol=0.1 if snow.any() else 0.005)
        thick = (cloudy[5] < 263) & ~snow
        assert cloudy[:3, thick].min() > 0.5
        assert np.ptp(cloudy[:3, thick], axis=0).max() < 0.1
        # Beside the clouds there is light or shadow, never more light.
        open_sky = (clear[5] == cloudy[5]) & ~snow
        ratio = cloudy[0, open_sky] / clear[0, open_sky]
        assert ratio.max() <= 1.0 + 1e-5
        assert ratio.min() < 0.6


def test_a_coarse_sensor_on_the_fine_grid_holds_block_means():
    scene = make_scene(2, 31, 25)
    fine, coarse = (observe(scene, gsd_m=gsd_m, noise=0.0).pixels[0] for gsd_m in (10.0, 30.0))
    blocks = coarse[:, :30, :24].reshape(5, 10, 3, 8, 3)
    assert np.ptp(blocks, axis=(2, 4)).max() == 0.0
    np.testing.assert_allclose(blocks[:, :, 0, :, 0], fine[:, :30, :24].reshape(5, 10, 3, 8, 3).mean((2, 4)), rtol=1e-4)


def test_the_grid_is_a_utm_one():
    scene = make_scene(4, 20, 30, gsd_m=7.5)
    series = observe(scene)
    assert series.crs.startswith("EPSG:326")
    a, b, c, d, e, f = series.transform
    assert (a, b, d, e) == (7.5, 0.0, 0.0, -7.5)
    # Inside a zone, in the northern mid-latitudes.
    assert 166_000 < c < 834_000
    assert 3_300_000 < f < 6_700_000


@pytest.mark.parametrize(
    ("acquisitions", "words"),
    [
        ([], "0 acquisitions"),
        ([Acquisition(OPTICAL, "2022-01-01")], "2022-01-01"),
        ([Acquisition(OPTICAL, gsd_m=3)], "gsd_m=3"),
        ([Acquisition((Band("NDVI", kind="index"),))], "NDVI.*'index'"),
        ([Acquisition((Band("x", kind="other"),))], "'other'"),
        ([Acquisition((RED, Band("y", kind="reflective")))], "'y'.*center_nm=None"),
        ([Acquisition((Band("z", 3000, kind="reflective"),))], "'z'.*3000"),
    ],
)
def test_impossible_acquisitions_are_refused(acquisitions, words):
    with pytest.raises(MetadataError, match=words):
        make_scene(0, 4, 4).observe(acquisitions)


@pytest.mark.parametrize("arguments", [{"clouds": 1.5}, {"clouds": (0.1, 0.1)}, {"noise": -1}, {"seed": -1}])
def test_impossible_weather_is_refused(arguments):
    with pytest.raises(SyntheticError):
        observe(make_scene(0, 4, 4), **arguments)


def test_land_cover_is_learnable_from_many_bands_and_ambiguous_in_three():
    # With 250 scenes and 60 trees a pixel classifier reached a mean IoU of 0.81 on ten bands and 0.52 on three.
    def pixels(seeds):
        rng = np.random.default_rng(0)
        values, labels = [], []
        for seed in seeds:
            scene = make_scene(seed, 48, 48, dates=("2021-07-01",))
            chosen = rng.choice(48 * 48, 150, replace=False)
            values.append(observe(scene, TEN_BANDS).pixels[0].reshape(10, -1)[:, chosen].T)
            labels.append(scene.land_cover.ravel()[chosen])
        return np.concatenate(values), np.concatenate(labels)

    train, test = pixels(range(80)), pixels(range(1000, 1060))

    def score(bands):
        forest = RandomForestClassifier(15, min_samples_leaf=4, random_state=0).fit(train[0][:, :bands], train[1])
        return jaccard_score(test[1], forest.predict(test[0][:, :bands]), average="macro")

    assert 0.65 < score(10) < 0.95
    assert 0.35 < score(3) < 0.65


def test_dates_are_kept_as_given():
    scene = make_scene(0, 3, 3, dates=("2021", datetime(2022, 5, 6, 10, 30)))
    assert scene.dates == (datetime(2021, 7, 2, 12), datetime(2022, 5, 6, 10, 30))
    assert [a.datetime for a in observe(scene).acquisitions] == list(scene.dates)


def test_materials_are_a_finer_map_of_the_same_land_cover():
    scene = make_scene(5, 60, 70, gsd_m=20.0, dates=["2021-06-01"])
    materials = scene.labels("semantic_segmentation", classes=tuple(MATERIALS))
    land_cover = scene.labels("semantic_segmentation")
    of_material = np.array([material.land_cover for material in MATERIALS.values()])
    assert np.array_equal(of_material[materials], land_cover)
    assert len(np.unique(materials)) > len(np.unique(land_cover))
    one = scene.labels("semantic_segmentation", classes=("conifer",))
    assert np.array_equal(one == 0, materials == tuple(MATERIALS).index("conifer"))
    with pytest.raises(SyntheticError, match="Unknown class 'forest'"):
        scene.labels("semantic_segmentation", classes=("conifer", "forest"))
