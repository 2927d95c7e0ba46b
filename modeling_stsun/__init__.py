"""STSUN for Hugging Face transformers: the model. Importing this package registers it with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)

from .configuration_stsun import STSUNConfig
from .modeling_stsun import STSUNForDensePrediction, STSUNForSemanticSegmentation, STSUNModel, STSUNPreTrainedModel

AutoConfig.register("stsun", STSUNConfig)
AutoModel.register(STSUNConfig, STSUNModel)
AutoModelForUniversalSegmentation.register(STSUNConfig, STSUNForDensePrediction)
AutoModelForSemanticSegmentation.register(STSUNConfig, STSUNForSemanticSegmentation)

__all__ = [
    "STSUNConfig",
    "STSUNForDensePrediction",
    "STSUNForSemanticSegmentation",
    "STSUNModel",
    "STSUNPreTrainedModel",
]
