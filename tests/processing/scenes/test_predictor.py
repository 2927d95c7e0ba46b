"""Scenes of any size, predicted block by block: in memory here, in files in test_scene_files.py."""

import random

import numpy as np
import pytest
import torch

from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries, load_checkpoint, open_series, predict_scene
from stsun_processing.rasters.raster_series import RasterSeries
from stsun_processing.scenes import predictor as predictor_module
from stsun_processing.scenes.predictor import PROBABILITY_SCALE, ScenePredictor, prefetched
from stsun_processing.scenes.raster_output import write_series
from stsun_processing.scenes.tiling import plan_axis
from tests.conftest import small_config

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))
# Largest difference that tiles make under global attention, in standard deviations of the logits over the scene.
GLOBAL_RMS, GLOBAL_MAX = 0.015, 0.15
RADAR = (Band("VV", kind="sar", polarisation="VV"),)


def make_series(height=50, width=41, dates=("2021-01-03", "2021-03-01"), holes=True):
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 0.6, (len(dates), 2, height, width))
    if holes:
        pixels[:, :, 20:30, :15] = np.nan  # on all dates
        pixels[0, :, 5:9, 5:9] = np.nan  # on one
    return ImageSeries(
        tuple(Acquisition(BANDS, date, 10) for date in dates),
        crs="EPSG:32633",
        transform=(10, 0, 400_000, 0, -10, 5_000_000),
        pixels=tuple(pixels),
    )


def random_model(**options):
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config(**options)).eval()
    return model, STSUNImageProcessor.from_config(model.config)


def gather(predictor, blocks=None):
    """Logits (maps, classes, height, width) of blocks; NaN elsewhere."""
    shape = (len(predictor.outputs), len(predictor.classes), predictor.height, predictor.width)
    logits = torch.full(shape, torch.nan)
    for strip in predictor.logits(blocks):
        rows = slice(strip.row, strip.row + strip.logits.shape[-2])
        logits[..., rows, strip.column : strip.column + strip.logits.shape[-1]] = strip.logits
    return logits


def direct(model, processor, series, *request, **options):
    with torch.no_grad():
        return model(**processor(series, *request, **options))


def test_one_tile_is_the_model_itself(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series, request = make_series(holes=False), ("semantic_change_detection", ["water", "forest"])
    expected = direct(model, processor, series, *request)
    logits = gather(ScenePredictor(model, processor, series, *request, progress=False))
    assert torch.allclose(logits, expected.logits[0], atol=1e-5)
    maps = predict_scene(model, processor, series, *request, progress=False)
    assert maps.dtype == np.uint8
    assert np.array_equal(maps, processor.post_process_dense_prediction(expected)[0])


def test_blending_is_the_weighted_mean_of_the_logits_of_all_tiles(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series, classes = make_series(), ["water", "forest", "urban"]
    logits = gather(
        ScenePredictor(
            *(model, processor, series, "semantic_segmentation", classes), tile_size=24, overlap=8, progress=False
        )
    )
    rows, columns = plan_axis(50, 24, 8, 4), plan_axis(41, 24, 8, 4)
    assert len(rows.starts) == 3
    assert len(columns.starts) == 3
    expected = np.zeros((3, 50, 41))
    for row, down in zip(rows.starts, rows.weights, strict=True):
        for column, right in zip(columns.starts, columns.weights, strict=True):
            tile = series.crop(row, column, len(down), len(right))
            part = direct(model, processor, tile, classes=classes).logits[0, 0].numpy()
            expected[:, row : row + len(down), column : column + len(right)] += part * down[:, None] * right
    valid = np.ones((50, 41), dtype=bool)
    valid[20:30, :15] = False
    assert np.abs(logits[0].numpy() - expected)[:, valid].max() < 1e-5


# Tiling is invisible: bounds on the difference between tiled logits and those of one pass over the whole scene.


def tiled_and_whole(model, processor, series, *request, **tiles):
    whole = gather(ScenePredictor(model, processor, series, *request, tile_size=1000, cell_size=1, progress=False))
    tiled = gather(ScenePredictor(model, processor, series, *request, cell_size=1, progress=False, **tiles))
    return tiled, whole


@pytest.mark.parametrize("size", [(208, 197), (90, 240)])
def test_tiles_do_not_show_where_the_model_sees_no_farther_than_the_margin(size):
    """Attention inside single tokens leaves convolutions, which see 4 tokens and 2 pixels: 18 pixels, less than the
    outer quarter of an overlap of 80. Then tiled and whole logits are equal up to rounding, at the borders too."""
    model, processor = random_model(window_sizes=[[1, 1]] * 4, unified_size=256)
    request = ("semantic_segmentation", ["water", "forest", "urban"])
    series = make_series(*size)
    tiled, whole = tiled_and_whole(model, processor, series, *request, tile_size=136, overlap=80)
    seen = torch.from_numpy(np.any(series.valid, axis=0))
    assert (tiled - whole)[..., seen].abs().max() < 1e-5 * whole.abs().max()
    # The bound is one that tiles can fail: with too little overlap they show.
    tiled, _ = tiled_and_whole(model, processor, series, *request, tile_size=136, overlap=16)
    assert (tiled - whole)[..., seen].abs().max() > 1e-3 * whole.abs().max()


def test_tiles_hardly_show_under_global_attention():
    """Attention over a tile sees less than attention over the scene: equal logits cannot be had. Where the parts of a
    scene are alike, the differences away from the borders are small against the spread of the logits."""
    model, processor = random_model(window_sizes=[], unified_size=256)
    arguments = (model, processor, make_series(240, 240, holes=False), "semantic_segmentation", ["water", "urban"])
    tiled, whole = tiled_and_whole(*arguments, tile_size=128, overlap=64)
    inner = (..., slice(16, -16), slice(16, -16))
    spread = whole[inner].std(dim=(-1, -2)).mean()
    assert (tiled - whole)[inner].square().mean().sqrt() < GLOBAL_RMS * spread
    assert (tiled - whole)[inner].abs().max() < GLOBAL_MAX * spread
    # Without overlap the tiles do show.
    tiled, _ = tiled_and_whole(*arguments, tile_size=128, overlap=0)
    assert (tiled - whole)[inner].abs().max() > 3 * GLOBAL_MAX * spread


# Whatever is computed together, in whatever order: the result is one.


def test_the_batch_size_changes_logits_by_rounding_only(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    arguments = (model, processor, make_series(), "binary_change_detection")
    options = {"tile_size": 16, "overlap": 4, "progress": False}
    one, eight = (gather(ScenePredictor(*arguments, batch_size=size, **options)) for size in (1, 8))
    assert (one - eight).abs().max() < 1e-5 * one.abs().max()
    maps = [predict_scene(*arguments, batch_size=size, **options) for size in (1, 8)]
    assert np.array_equal(*maps)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_blocks_in_any_order_give_the_same_bits(checkpoint, monkeypatch, batch_size):
    model, processor = load_checkpoint(checkpoint)
    arguments = (model, processor, make_series(70, 90), "semantic_change_detection", ["water", "urban"])
    options = {"tile_size": 24, "overlap": 12, "batch_size": batch_size, "progress": False}
    monkeypatch.setattr(predictor_module, "_BLOCK_TILES", (2, 3))
    predictor = ScenePredictor(*arguments, **options)
    assert len(predictor.blocks) > 6
    expected = gather(predictor)
    for seed in range(3):
        blocks = random.Random(seed).sample(predictor.blocks, len(predictor.blocks))
        assert torch.equal(gather(predictor, blocks), expected)
    few = predictor.blocks[2:5]
    part = gather(predictor, few)
    assert not part.isnan().all()
    assert torch.equal(part[~part.isnan()], expected[~part.isnan()])


def test_tiles_one_by_one_in_random_order_give_the_bits_of_the_whole(checkpoint, monkeypatch):
    """Blocks of one step of one tile, shuffled: every pixel's tiles come in another order, computed on their own."""
    model, processor = load_checkpoint(checkpoint)
    arguments = (model, processor, make_series(70, 90), "semantic_segmentation", ["water", "urban"])
    options = {"tile_size": 24, "overlap": 8, "batch_size": 1, "progress": False}
    expected = gather(ScenePredictor(*arguments, **options))
    monkeypatch.setattr(predictor_module, "_BLOCK_TILES", (1, 1))
    predictor = ScenePredictor(*arguments, **options)
    assert len(predictor.blocks) == 4 * 6
    blocks = random.Random(0).sample(predictor.blocks, len(predictor.blocks))
    assert torch.equal(gather(predictor, blocks), expected)


# Nodata


def test_a_map_is_nodata_where_no_date_holds_data_and_a_change_where_one_does_not(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series, options = make_series(), {"tile_size": 24, "overlap": 8, "progress": False}
    gone = np.zeros((50, 41), dtype=bool)
    gone[20:30, :15] = True
    maps = predict_scene(model, processor, series, "semantic_change_detection", **options)
    assert np.array_equal(maps == 255, np.broadcast_to(gone, maps.shape))
    gone[5:9, 5:9] = True  # one of the dates lacks it
    change = predict_scene(model, processor, series, "binary_change_detection", **options)
    assert np.array_equal(change[0] == 255, gone)


def test_tiles_without_data_cost_nothing_and_change_nothing(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series = make_series(80, 60, holes=False)
    for array in series.pixels:
        array[:, 16:72, 20:] = np.nan
    series = ImageSeries(series.acquisitions, pixels=series.pixels)
    predictor = ScenePredictor(
        *(model, processor, series, "semantic_segmentation", ["water", "urban"]),
        tile_size=16,
        overlap=4,
        progress=False,
    )
    counts = []
    apply = predictor.apply
    predictor.apply = lambda pixels, mask: counts.append(len(pixels)) or apply(pixels, mask)
    maps = np.concatenate([part.maps for part in predictor.predict()], axis=1)
    assert np.array_equal(maps[0] == 255, ~series.valid[0])
    full = sum(
        series.valid[0][row : row + 16, column : column + 16].any()
        for row in predictor.rows.starts
        for column in predictor.columns.starts
    )
    assert sum(counts) == full < len(predictor.rows.starts) * len(predictor.columns.starts)


# Sensors


def test_dates_of_different_sensors_are_predicted_as_by_the_model(checkpoint):
    """Radar before, optical after: one band, then two."""
    model, processor = load_checkpoint(checkpoint)
    rng = np.random.default_rng(0)
    series = ImageSeries(
        (Acquisition(RADAR, "2021-01-03", 10), Acquisition(BANDS, "2021-03-01", 10)),
        pixels=(rng.normal(-12, 5, (1, 20, 20)), rng.uniform(0, 0.6, (2, 20, 20))),
    )
    logits = gather(ScenePredictor(model, processor, series, "binary_change_detection", progress=False))
    expected = direct(model, processor, series, "binary_change_detection").logits[0]
    assert torch.allclose(logits, expected, atol=1e-5)


# What a scene is read from


def test_paths_are_opened_with_what_the_checkpoint_knows_and_closed_again(checkpoint, tmp_path, monkeypatch):
    model, processor = load_checkpoint(checkpoint)
    processor.readings = {"own": []}
    series = make_series()
    paths = [str(path) for path in write_series(series, tmp_path / "series")]
    request = ("semantic_change_detection", ["water", "urban"])
    expected = predict_scene(model, processor, series, *request, progress=False)
    opened, closed = [], []

    def spy(entries, **options):
        opened.append((entries, options))
        return open_series(entries, **options)

    close = RasterSeries.close
    monkeypatch.setattr(predictor_module, "open_series", spy)
    monkeypatch.setattr(RasterSeries, "close", lambda self: closed.append(self) or close(self))
    assert np.array_equal(predict_scene(model, processor, paths, *request, progress=False), expected)
    assert opened == [(paths, {"readings": {"own": []}})]
    assert len(closed) == 1
    with pytest.raises(ValueError, match="lake"):
        ScenePredictor(model, processor, paths[0], "semantic_segmentation", ["lake"], progress=False)
    assert len(closed) == 2, "a request that is refused leaves no file open"

    closed.clear()
    with open_series(paths) as source:
        assert np.array_equal(predict_scene(model, processor, source, *request, progress=False), expected)
        assert not closed, "what the caller opened stays open"


def test_a_predictor_keeps_paths_open_until_it_is_closed(checkpoint, tmp_path):
    model, processor = load_checkpoint(checkpoint)
    (path,) = write_series(make_series(dates=("2021-01-03",)), tmp_path / "series")
    arguments = (model, processor, path, "semantic_segmentation", ["water", "urban"])
    with ScenePredictor(*arguments, tile_size=24, overlap=8, progress=False) as predictor:
        parts = [list(predictor.predict()) for _ in range(2)]
    assert all(np.array_equal(one.maps, two.maps) for one, two in zip(*parts, strict=True))


# Probabilities and margins


@pytest.mark.parametrize("classes", [["water"], ["water", "urban", "forest"]])
def test_probabilities_and_margins_are_those_of_the_blended_logits(checkpoint, classes):
    model, processor = load_checkpoint(checkpoint)
    predictor = ScenePredictor(
        *(model, processor, make_series(), "semantic_segmentation", classes),
        tile_size=24,
        overlap=8,
        probabilities=True,
        margins=True,
        progress=False,
    )
    logits = gather(predictor)[0].double()
    odds = torch.cat([torch.zeros_like(logits), logits]) if len(classes) == 1 else logits
    shares = odds.softmax(0)
    (part,) = predictor.predict()
    gone = part.maps[0] == 255
    assert gone.sum() == 150
    assert (part.probabilities[0, :, gone] == 255).all()
    assert (part.margins[0, gone] == 255).all()
    expected = (shares[1:] if len(classes) == 1 else shares).numpy()
    half = PROBABILITY_SCALE / 2 + 1e-6
    assert np.abs(part.probabilities[0] * PROBABILITY_SCALE - expected)[:, ~gone].max() <= half
    ordered = shares.sort(0, descending=True).values.numpy()
    assert np.abs(part.margins[0] * PROBABILITY_SCALE - (ordered[0] - ordered[1]))[~gone].max() <= half


def test_memory_of_a_block_is_bounded_for_many_classes_and_maps(checkpoint, monkeypatch):
    model, processor = load_checkpoint(checkpoint)
    series = make_series(400, 400, holes=False)
    options = {"tile_size": 16, "overlap": 4, "probabilities": True, "progress": False}
    few = ScenePredictor(model, processor, series, "semantic_segmentation", ["water"], **options)
    monkeypatch.setattr(predictor_module, "_LOGIT_BYTES", 2**16)
    monkeypatch.setattr(predictor_module, "_BLOCK_BYTES", 2**14)
    many = ScenePredictor(model, processor, series, "semantic_change_detection", **options)
    assert max(block.width for block in many.blocks) < max(block.width for block in few.blocks)
    for block in many.blocks:
        assert block.width * 16 * 4 * len(many.classes) * len(many.outputs) <= 2**16


# Reading ahead


def test_what_is_read_ahead_keeps_its_order_and_raises_in_its_turn():
    def items():
        yield from range(20)
        raise OSError("torn")

    ahead = prefetched(items(), 2)
    assert [next(ahead) for _ in range(20)] == list(range(20))
    with pytest.raises(OSError, match="torn"):
        next(ahead)


def test_reading_ahead_is_bounded_and_stops_with_the_consumer():
    drawn = []

    def items():
        for number in range(1000):
            drawn.append(number)
            yield number

    ahead = prefetched(items(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert len(drawn) <= 4


# Refusals


def test_values_in_another_unit_are_refused_before_any_tile_is_predicted(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series = make_series()
    scaled = ImageSeries(series.acquisitions, pixels=tuple(10_000 * array for array in series.pixels))
    with pytest.raises(ValueError, match=r"another unit.*scale=0.0001"):
        ScenePredictor(model, processor, scaled, "semantic_segmentation", ["water"], progress=False)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tile_size": 8, "overlap": 8}, "overlap"),
        ({"batch_size": 0}, "batch_size"),
        ({"tile_size": 0}, "tile_size"),
        ({"cell_size": 0}, "cell_size"),
        ({"tile_size": 16, "overlap": 14}, "side of a token"),
    ],
)
def test_tile_settings_that_do_not_fit_are_refused(checkpoint, kwargs, message):
    model, processor = load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=message):
        predict_scene(model, processor, make_series(), "semantic_segmentation", ["water"], **kwargs)
