"""The round trip on real data: what a run measures on a test split is what `stsun predict` scores on the same files."""

import json
import shutil
from pathlib import Path

import pytest
import rasterio
from PIL import Image

from stsun_processing import FolderDataset, convert
from tests.processing.rasters.raster_files import CORPUS, needs_corpus
from tests.test_round_trip import predicted_scores, train

pytestmark = needs_corpus


def as_they_are(source, root):
    """The folder of the corpus itself."""
    return Path(CORPUS) / source


def as_pictures(source, root):
    """The same samples as PNG files without tags: what is known of them stands in dataset.json alone."""
    folder = Path(CORPUS) / source
    described = json.loads((folder / "dataset.json").read_text())
    for sample in described["samples"]:
        for image in sample["images"]:
            with rasterio.open(folder / image["path"]) as raster:
                pixels = raster.read()
            target = (root / image["path"]).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(target)
            image["path"] = str(target.relative_to(root))
    shutil.copytree(folder / "labels", root / "labels")
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def as_converted_levir(source, root):
    """The pictures in the published layout of LEVIR-CD, converted."""
    folder = Path(CORPUS) / source
    described = json.loads((folder / "dataset.json").read_text())
    homes = {name: split for split, names in described["splits"].items() for name in names}
    for sample in described["samples"]:
        split = homes[sample["id"]]
        paths = [image["path"] for image in sample["images"]] + [sample["labels"]["change"]]
        for part, path in zip(("A", "B", "label"), paths, strict=True):
            with rasterio.open(folder / path) as raster:
                pixels = raster.read()
            pixels = pixels.transpose(1, 2, 0) if part != "label" else pixels[0] * 255
            target = root / "levir" / split / part / f"{sample['id']}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
    convert("levir-cd", root / "levir", root / "converted")
    return root / "converted"


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("agrifieldnet_india", as_they_are),
        ("taizhou_landsat_cd", as_they_are),
        ("terramesh_s1_s2_dem", as_they_are),
        ("water_multidate_scd", as_they_are),
        ("indian_pines", as_they_are),
        ("levir_cd", as_pictures),
        ("levir_cd", as_converted_levir),
        ("dubai_landcover_vhr", as_pictures),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_predict_scores_what_the_run_measured_on_real_files(source, form, tmp_path):
    data = form(source, tmp_path / "data")
    run = tmp_path / "run"
    train(data, run)
    measured = json.loads((run / "metrics.json").read_text())["test"]
    dataset = FolderDataset(data, "test")
    for task in dataset.tasks:
        scores = predicted_scores(dataset, task, run, tmp_path)
        for name, value in measured[dataset.name][task].items():
            if value is not None:
                assert scores[name] == pytest.approx(value, abs=1e-6), (task, name)
