"""STSUN for Hugging Face transformers: the model. Importing this package registers it with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)

# From its own module: the top level of older releases offers it only where torchvision is installed.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from stsun_processing._version import __version__
from stsun_processing.image_processing_stsun import STSUNImageProcessor
from stsun_processing.pipeline_stsun import DensePredictionPipeline

from .configuration_stsun import STSUNConfig
from .modeling_stsun import STSUNForDensePrediction, STSUNForSemanticSegmentation, STSUNModel, STSUNPreTrainedModel

AutoConfig.register("stsun", STSUNConfig)
AutoModel.register(STSUNConfig, STSUNModel)
AutoModelForUniversalSegmentation.register(STSUNConfig, STSUNForDensePrediction)
AutoModelForSemanticSegmentation.register(STSUNConfig, STSUNForSemanticSegmentation)
# One import serves users; the processor's module needs no geo stack.
AutoImageProcessor.register(
    STSUNConfig, image_processor_classes={"torchvision": STSUNImageProcessor, "pil": STSUNImageProcessor}
)

PIPELINE_REGISTRY.register_pipeline(
    "dense-prediction", DensePredictionPipeline, pt_model=AutoModelForUniversalSegmentation, type="image"
)

# Saved checkpoints carry their code, so that they also load where this package is not installed.
STSUNConfig.register_for_auto_class("AutoConfig")
STSUNModel.register_for_auto_class("AutoModel")
STSUNForDensePrediction.register_for_auto_class("AutoModelForUniversalSegmentation")
STSUNForSemanticSegmentation.register_for_auto_class("AutoModelForSemanticSegmentation")
STSUNImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = [
    "DensePredictionPipeline",
    "STSUNConfig",
    "STSUNForDensePrediction",
    "STSUNForSemanticSegmentation",
    "STSUNImageProcessor",
    "STSUNModel",
    "STSUNPreTrainedModel",
    "__version__",
]
