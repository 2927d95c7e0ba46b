"""What transformers' own common tests need to know about this model; see their `tests/test_modeling_common.py`.

The two functions are specs for a runner of those tests, which hands in its `Spec` classes as the module `hf_common`.
"""

import torch
from transformers import PreTrainedModel

from modeling_stsun import (
    STSUNConfig,
    STSUNForDensePrediction,
    STSUNForSemanticSegmentation,
    STSUNImageProcessor,
    STSUNModel,
)

SIZE, PATCH_SIZE = 16, 4
NUM_TOKENS = (SIZE // PATCH_SIZE) ** 2
CLASSES = ("water", "forest", "cropland", "urban", "snow")


def config() -> STSUNConfig:
    return STSUNConfig(
        unified_size=SIZE,
        unified_channels=8,
        stem_channels=8,
        patch_size=PATCH_SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        # One window over the whole grid, so that attentions have the shape that the common tests expect.
        window_sizes=[[SIZE // PATCH_SIZE, SIZE // PATCH_SIZE]],
        unified_time_size=4,
        hypernetwork_hidden_size=16,
        hypernetwork_num_layers=1,
        hypernetwork_num_heads=2,
        # The common tests draw ids below 5 for every integer input.
        tasks=[*STSUNConfig().tasks, "fourth_task", "fifth_task"],
        id2label=dict(enumerate(CLASSES)),
        label2id={name: index for index, name in enumerate(CLASSES)},
    )


def inputs(config: STSUNConfig) -> dict[str, torch.Tensor]:
    """Two samples of one date with three bands; with unknown values in one, so that every parameter takes part."""
    generator = torch.Generator().manual_seed(0)
    nan = float("nan")
    return {
        "pixel_values": torch.randn(2, 1, 3, SIZE, SIZE, generator=generator),
        "wavelengths": torch.tensor([[[490.0, 560.0, 665.0]], [[nan, 842.0, 1610.0]]]),
        "bandwidths": torch.tensor([[[65.0, 35.0, 30.0]], [[115.0, nan, 90.0]]]),
        "band_types": torch.tensor([[[1, 1, 1]], [[6, 1, 1]]]),
        "timestamps": torch.tensor([[9700.0], [nan]]),
        "gsd": torch.tensor([10.0, nan]),
        "task_ids": torch.tensor([0, 1]),
        "output_timestamps": torch.tensor([[[9700.0, 9700.0]], [[nan, nan]]]),
        "output_date_roles": torch.tensor([[[1]], [[1]]]),
    }


def labels(
    config: STSUNConfig, model_class: type[PreTrainedModel], inputs: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    shape = {STSUNForDensePrediction: (2, 1, SIZE, SIZE), STSUNForSemanticSegmentation: (2, SIZE, SIZE)}
    if model_class not in shape:
        return {}
    return {"labels": torch.randint(len(CLASSES), shape[model_class])}


def stsun():
    from hf_common import Spec

    return Spec(
        name="STSUN",
        config_class=STSUNConfig,
        model_classes=(STSUNModel, STSUNForDensePrediction, STSUNForSemanticSegmentation),
        base_classes_without_loss=(STSUNModel,),
        get_config=config,
        get_inputs=inputs,
        get_labels=labels,
        tester_attrs={"seq_length": NUM_TOKENS, "image_size": SIZE},
        config_kwargs={"hidden_size": 48, "num_attention_heads": 4},
        auto_names={
            "MODEL_MAPPING_NAMES": "STSUNModel",
            "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES": "STSUNForSemanticSegmentation",
            "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES": "STSUNForDensePrediction",
        },
        # These tests draw integers below 5; there are but four roles of a date.
        additional_inputs=tuple(name for name in inputs(config()) if name not in ("pixel_values", "output_date_roles")),
    )


def stsun_processor():
    from hf_common import ProcessorSpec

    from stsun_processing import sensor_bands

    bands = sensor_bands("sentinel-2a-msi")[1:4]

    def series():
        from stsun_processing import Acquisition, ImageSeries

        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(2, len(bands), SIZE, SIZE, generator=generator).numpy() / 2
        return [ImageSeries((Acquisition(bands, "2024-06-01", 10.0),), pixels=(array,)) for array in pixels]

    return ProcessorSpec(
        name="STSUN",
        processors={"torchvision": STSUNImageProcessor, "pil": STSUNImageProcessor},
        init_kwargs={"categories": list(CLASSES), "unified_size": SIZE},
        call_inputs=lambda: {"images": series(), "classes": list(CLASSES[:3])},
        num_labels=len(CLASSES),
    )
