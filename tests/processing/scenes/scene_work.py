"""A scene, how it is predicted into files, and what is looked at while and after that."""

import time

import rasterio

from stsun_processing import Band, load_checkpoint, open_series, predict_raster

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))
CLASSES = ["water", "forest", "urban"]
TILES = {"tile_size": 24, "overlap": 8, "progress": False}
TASK = "semantic_change_detection"


def run(checkpoint, rasters, out, **options):
    model, processor = load_checkpoint(checkpoint)
    with open_series(rasters) as source:
        return predict_raster(model, processor, source, out, TASK, CLASSES, **{**TILES, **options})


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def work(out):
    return out.with_name(out.name + ".work")


def blocks(out):
    return sorted(path.name for path in work(out).glob("block_*.npz"))


def whole(path):
    """Bytes of a map and of what lies beside it."""
    return path.read_bytes(), path.with_name(path.name + ".aux.xml").read_bytes()


def slowed(function, seconds):
    def wrapper(*args, **kwargs):
        function(*args, **kwargs)
        time.sleep(seconds)

    return wrapper
