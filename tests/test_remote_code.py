"""Checkpoints load where this package is not installed, from folders, caches and the Hub, and say what is wrong."""

import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from modeling_stsun import STSUNForDensePrediction, STSUNForSemanticSegmentation
from stsun_processing.scenes.checkpoints import load_checkpoint
from tests.fake_hub import fake_hub

BANDS = [{"name": str(nm), "kind": "reflective", "center_nm": nm, "fwhm_nm": 20.0} for nm in (490.0, 560.0, 665.0)]

# A process that cannot import the package, nor what it needs beside the model's own requirements.
PREAMBLE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

import numpy as np, torch
from transformers import AutoConfig, AutoModel, pipeline
from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation
from transformers.models.auto.image_processing_auto import AutoImageProcessor
sys.meta_path.insert(0, Absent())
bands = {bands}
pixels = np.load({pixels!r})
"""
LOAD_EVERYTHING = """
options = dict(trust_remote_code=True, **{options})
processor = AutoImageProcessor.from_pretrained({name!r}, **options)
batch = processor(pixels, "binary_change_detection", bands=bands)
assert AutoConfig.from_pretrained({name!r}, **options).model_type == "stsun"
with torch.no_grad():
    base = AutoModel.from_pretrained({name!r}, **options).eval()
    inputs = {{name: batch[name] for name in batch if name not in ("category_ids", "category_mask", "output_mask")}}
    assert base(**inputs).feature_maps.isfinite().all()
    model = AutoModelForUniversalSegmentation.from_pretrained({name!r}, **options).eval()
    torch.testing.assert_close(model(**batch).logits, torch.load({logits!r}))
    segmenter = AutoModelForSemanticSegmentation.from_pretrained({name!r}, **options).eval()
    assert segmenter(**processor(pixels, bands=bands)).logits.shape == (1, 4, 20, 17)
assert not any(name.startswith("modeling_stsun") for name in sys.modules)
"""
ABSENT = ("modeling_stsun", "stsun_processing", "rasterio")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).uniform(0, 0.5, (2, 3, 20, 17)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(model, checkpoint, pixels, tmp_path_factory):
    """A checkpoint as a pipeline saves it, beside what the model says about some pixels."""
    home = tmp_path_factory.mktemp("remote")
    processor = AutoImageProcessor.from_pretrained(checkpoint)
    pipeline("dense-prediction", model=model, image_processor=processor).save_pretrained(home / "stsun")
    with torch.no_grad():
        torch.save(model(**processor(pixels, "binary_change_detection", bands=BANDS)).logits, home / "logits.pt")
    np.save(home / "pixels.npy", pixels)
    return home / "stsun"


@pytest.fixture
def run(folder, tmp_path):
    """Runs code in a fresh process with a cache of its own; fails with what it printed."""

    def run(code, environment=None, absent=ABSENT, name=None, **options):
        home = folder.parent
        name = str(folder) if name is None else name
        code = (PREAMBLE + textwrap.dedent(code)).format(
            absent=absent,
            bands=BANDS,
            pixels=str(home / "pixels.npy"),
            logits=str(home / "logits.pt"),
            name=name,
            options=options,
        )
        offline = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
        process = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (offline if environment is None else environment),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr[-4000:]
        return process.stdout

    return run


def test_a_folder_loads_without_the_package(run):
    run(LOAD_EVERYTHING)


def test_the_pipeline_runs_from_a_folder_without_the_package_and_reads_rasters_only_with_it(run, folder):
    run("""
    pipe = pipeline("dense-prediction", model={name!r}, trust_remote_code=True)
    result = pipe(pixels, task="semantic_change_detection", bands=bands)
    assert result["maps"].shape == (2, 20, 17) and result["change"].shape == (1, 20, 17)
    try:
        pipe("scene.tif")
    except ImportError as error:
        assert "pip install stsun" in str(error), error
    else:
        raise AssertionError
    """)


def lay_out_cache(home, folder, commit):
    """The Hub's cache after a download of `folder` as org/stsun, with a branch and a tag."""
    repository = home / "hub" / "models--org--stsun"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    for name in ("main", "v1"):
        (repository / "refs" / name).write_text(commit)


def test_the_pipeline_loads_from_a_cache_without_the_package(run, folder, tmp_path):
    # The code of a repository is checked for what it needs, that of a folder is not.
    lay_out_cache(tmp_path / "home", folder, 40 * "a")
    run(
        """
        pipe = pipeline("dense-prediction", model={name!r}, trust_remote_code=True)
        assert pipe(pixels, bands=bands)["maps"].shape == (1, 20, 17)
        """,
        absent=(*ABSENT, "xarray", "rioxarray"),
        name="org/stsun",
    )


@pytest.mark.parametrize("revision", ["main", "v1", 40 * "a"])
def test_an_offline_cache_loads_by_branch_tag_and_commit(run, folder, tmp_path, revision):
    lay_out_cache(tmp_path / "home", folder, 40 * "a")
    run(LOAD_EVERYTHING, name="org/stsun", revision=revision)


def test_pushed_to_the_hub_and_loaded_by_branch_tag_and_commit(run, folder, tmp_path):
    with fake_hub() as hub:
        environment = hub.environment(tmp_path / "pushing")
        run(
            """
            import huggingface_hub
            from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor
            model, processor = (c.from_pretrained({name!r}) for c in (STSUNForDensePrediction, STSUNImageProcessor))
            model.push_to_hub("org/stsun")
            processor.push_to_hub("org/stsun")
            huggingface_hub.create_tag("org/stsun", tag="v1")
            """,
            environment,
            absent=(),
        )
        commit = hub.refs["org/stsun"]["v1"]
        # What the tag and the commit name stays, whatever comes after.
        hub.refs["org/stsun"]["old"] = commit
        hub.commit("org/stsun", "main", {"README.md": b"emptied"})
        for number, revision in enumerate(("old", "v1", commit)):
            environment = hub.environment(tmp_path / f"loading-{number}")
            run(LOAD_EVERYTHING, environment, name="org/stsun", revision=revision)
    # The Hub is gone now; what it gave is in the cache.
    run(LOAD_EVERYTHING, environment | {"HF_HUB_OFFLINE": "1"}, name="org/stsun", revision=commit)


def test_a_pipeline_loaded_from_the_hub_reads_rasters_through_the_package(run, folder, tmp_path, pixels):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "scene_2024-06-01.tif"
    with rasterio.open(path, "w", driver="GTiff", width=17, height=20, count=3, dtype="float32") as file:
        file.write(pixels[0])
        for index, band in enumerate(BANDS, start=1):
            file.update_tags(index, wavelength_nm=band["center_nm"], fwhm_nm=band["fwhm_nm"], kind="reflective")
    lay_out_cache(tmp_path / "home", folder, 40 * "b")
    run(
        f"""
        pipe = pipeline("dense-prediction", model={{name!r}}, trust_remote_code=True)
        assert pipe("{path}", gsd_m=10)["maps"].shape == (1, 20, 17)
        """,
        absent=("modeling_stsun",),
        name="org/stsun",
    )


def test_with_the_package_nothing_needs_to_be_trusted(model, folder):
    # Saved from one head, loaded as another.
    loaded = STSUNForSemanticSegmentation.from_pretrained(folder)
    assert type(loaded).__module__ == "modeling_stsun.modeling_stsun"
    loaded.save_pretrained(folder.parent / "again")
    assert isinstance(STSUNForDensePrediction.from_pretrained(folder.parent / "again"), STSUNForDensePrediction)


SPOILT = "stsun.temporal_module.in_proj.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop(SPOILT), SPOILT),
        (lambda tensors: tensors.update({"left_over": torch.zeros(1)}), "left_over"),
        (lambda tensors: tensors.update({SPOILT: torch.zeros(2, 2)}), SPOILT),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, tmp_path, change, named):
    shutil.copytree(folder, tmp_path / "spoilt")
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "spoilt" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=named):
        load_checkpoint(tmp_path / "spoilt")
