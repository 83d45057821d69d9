"""Encoders of the papers' architectures, tiny and random, through the loader that reads the real ones."""

import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("transformers", reason="the train extra is not installed (transformers)")

import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from tests.training.test_datasets import picture  # noqa: E402
from tests.training.tiny_weights import TEXT_LIMIT, narrow_vgg, write_tiny_weights  # noqa: E402
from training.augmentation import Augmentation  # noqa: E402
from training.batches import Batch, Collator  # noqa: E402
from training.config import CLIP, SMALL, BadConfig, read_config, varied  # noqa: E402
from training.datasets.example import Corpus, Example  # noqa: E402
from training.feature_cache import FeatureCache, feature_cache  # noqa: E402
from training.models.mdse import MDSE  # noqa: E402
from training.one_run import Bench, run_once  # noqa: E402
from training.paper_encoders import frozen_encoders, paper_image_encoder, paper_text_encoder  # noqa: E402
from training.weights import PUBLISHED, MissingWeights, find_weights  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]
TEXTS = ("bert-base-uncased", "roberta-base", CLIP)
IMAGES = ("resnet50", "vgg19", "vit_base_patch16_224", CLIP)
WORDS = "a very late tram"
CELLS = {"resnet50": 49, "vgg19": 49, "vit_base_patch16_224": 196, CLIP: 1}


@pytest.fixture(autouse=True)
def tiny(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread, as operations this small only wait for their second, and timm's table of VGGs narrowed."""
    torch.set_num_threads(1)
    with nullcontext() if request.node.get_closest_marker("data") else narrow_vgg():
        yield


def posts(count: int = 16) -> list[Example]:
    texts = ("a tram is late", "a very late tram", "the tram is good again")
    return [Example(str(n), texts[n % 3], picture((14 * n, 90, 30)), n % 3) for n in range(count)]


def cached(folder: Path, kept: Path, text: str, image: str, count: int = 16, **changes: Any) -> FeatureCache:
    return feature_cache(
        frozen_encoders(text, image, folder),
        posts(count),
        views=2,
        augmentation=Augmentation(),
        folder=kept,
        grid=4,
        **changes,
    )


def text_encoder(folder: Path, name: str) -> tuple[Any, Any]:
    tokenizer, encoder = paper_text_encoder(find_weights(name, folder))
    return tokenizer, encoder.eval()


@pytest.mark.parametrize(("name", "kind"), [("bert-base-uncased", "BertModel"), ("roberta-base", "RobertaModel")])
def test_states_of_a_text_are_transformers_own(tiny_weights: Path, name: str, kind: str) -> None:
    tokenizer, encoder = text_encoder(tiny_weights, name)
    input_ids = torch.tensor([tokenizer.encode(WORDS).ids])
    theirs = getattr(transformers, kind).from_pretrained(tiny_weights / name, add_pooling_layer=False).eval()
    with torch.inference_mode():
        expected = theirs(input_ids=input_ids, output_hidden_states=True).hidden_states
        layers = encoder.layers(input_ids, torch.ones_like(input_ids))
    torch.testing.assert_close(layers, torch.stack(expected), atol=1e-6, rtol=0)


def test_clips_vectors_are_transformers_own(tiny_weights: Path) -> None:
    tokenizer, encoder = text_encoder(tiny_weights, CLIP)
    image = paper_image_encoder(find_weights(CLIP, tiny_weights)).eval()
    input_ids = torch.tensor([tokenizer.encode(WORDS).ids])
    pixels = torch.rand(2, 3, 224, 224)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    theirs: Any = transformers.CLIPModel.from_pretrained(tiny_weights / CLIP).eval()
    with torch.inference_mode():
        text = theirs.get_text_features(input_ids=input_ids).pooler_output
        torch.testing.assert_close(encoder(input_ids, torch.ones_like(input_ids))[:, 0], text, atol=1e-6, rtol=0)
        picture = theirs.get_image_features(pixel_values=(pixels - mean) / std).pooler_output
        torch.testing.assert_close(image(pixels * 2 - 1)[:, 0], picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TEXTS)
def test_padding_and_batch_mates_change_no_text(tiny_weights: Path, name: str) -> None:
    tokenizer, encoder = text_encoder(tiny_weights, name)
    short, long = tokenizer.encode("a tram").ids, tokenizer.encode("the tram is very late again").ids
    pad = len(long) - len(short)
    mask = torch.tensor([[1] * len(long), [1] * len(short) + [0] * pad])
    with torch.inference_mode():
        alone = encoder(torch.tensor([short]), torch.ones(1, len(short), dtype=torch.int64))[0]
        for filling in (0, 1, long[-1], 7):  # 1 is RoBERTa's padding, the last CLIP's
            batch = torch.tensor([long, short + [filling] * pad])
            together = encoder(batch, mask)[1, : len(alone)]
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_cut_to_the_encoders_positions_and_ends_as_a_whole_one(tiny_weights: Path, name: str) -> None:
    tokenizer, encoder = text_encoder(tiny_weights, name)
    empty, long = tokenizer.encode("").ids, tokenizer.encode("tram " * 90).ids
    assert encoder.max_tokens == len(long) == TEXT_LIMIT
    assert [long[0], long[-1]] == empty
    with torch.inference_mode():
        assert encoder(torch.tensor([long]), torch.ones(1, len(long), dtype=torch.int64)).isfinite().all()


@pytest.mark.parametrize("name", IMAGES)
def test_a_picture_has_its_cells_and_no_batch_mates(tiny_weights: Path, name: str) -> None:
    encoder = paper_image_encoder(find_weights(name, tiny_weights))
    pixels = torch.rand(3, 3, 224, 224) * 2 - 1
    for module in (encoder.eval(), encoder.train()):  # the batch norm of a frozen encoder never trains
        with torch.inference_mode():
            states = module(pixels)
            torch.testing.assert_close(module(pixels[1:2])[0], states[1], atol=1e-5, rtol=0)
    assert states.shape == (3, CELLS[name], encoder.width)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet50", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("vgg19", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("vit_base_patch16_224", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_a_picture_is_normalised_as_its_encoder_was_trained(
    tiny_weights: Path, name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    encoder = paper_image_encoder(find_weights(name, tiny_weights)).eval()
    pixels = torch.rand(1, 3, 224, 224)
    own = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(encoder.statistics(pixels * 2 - 1), own, atol=1e-5, rtol=0)


def test_cells_and_patches_are_read_row_by_row(tiny_weights: Path) -> None:
    """What changes in the last row of a picture changes the last patches alone, before attention mixes them."""
    encoder = paper_image_encoder(find_weights("vit_base_patch16_224", tiny_weights)).eval()
    encoder.network.blocks = torch.nn.Identity()
    pixels = torch.zeros(1, 3, 224, 224)
    changed = pixels.clone()
    changed[..., 208:, 16:32] = 1.0
    with torch.inference_mode():
        differs = (encoder(pixels) != encoder(changed)).any(-1)[0]
    assert differs.nonzero()[:, 0].tolist() == [13 * 14 + 1]


SMALLER: dict[str, dict[str, Any]] = {
    "mdse_paper": {"width": 16, "heads": 2},
    "clmlf_paper": {"width": 16, "heads": 2, "fusion_layers": 1, "image_layers": 1},
    "spp_scl_paper": {},
    "autoencoder_paper": {"hidden": 16},
    "attention_paper": {"hidden": 16},
    "clip_paper": {},
    "visualbert_paper": {"width": 16, "heads": 2, "layers": 1},
    "concatenation": {"hidden": 16},
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in SMALLER if name != "concatenation"),
        ("autoencoder_paper", {"system": "AE-Add"}),
        ("attention_paper", {"system": "AB-Add", "text_encoder": CLIP, "image_encoder": CLIP}),
        ("concatenation", {"text_encoder": "roberta-base", "image_encoder": "vgg19"}),
        ("mdse_paper", {"text_encoder": CLIP, "image_encoder": "vit_base_patch16_224"}),
        ("clmlf_paper", {"image_encoder": CLIP}),
    ],
)
def test_a_system_trains_one_step_on_its_encoders(
    tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory, name: str, changes: dict[str, str]
) -> None:
    config = varied(read_config(name), {"epochs": 1, "batch_size": 8, "model": SMALLER[name], **changes}, "a test")
    kept = tmp_path_factory.getbasetemp() / "states"  # shared, as by the rows of a table
    examples = posts()
    corpus = Corpus({"train": examples[:8], "validation": examples[8:12], "test": examples[12:]})
    cache = cached(tiny_weights, kept, *config.encoders)
    bench = Bench(name="x", split="y", corpus=corpus, cache=cache, is_twin=np.zeros(4, dtype=bool), encoders="tiny")
    line = run_once(config, bench, seed=1)
    assert line["epochs"] == 1 and line["test"]["rows"] == 4 and line["encoders"] == "tiny"
    batch = cache.batch(examples[:2])
    assert batch.image_states is not None and batch.text_states is not None
    assert batch.image_states.shape[1] == (1 if config.image_encoder == CLIP else 16)
    assert (batch.text_states.shape[1] == 1) == (config.text_encoder == CLIP)
    assert batch.text_states.isfinite().all() and batch.image_states.isfinite().all()


def test_cached_states_are_those_of_the_text_alone(tiny_weights: Path, tmp_path: Path) -> None:
    for name in TEXTS:
        tokenizer, encoder = text_encoder(tiny_weights, name)
        cache = cached(tiny_weights, tmp_path, name, "resnet50", count=3)
        for example in posts(3):
            input_ids = torch.tensor([tokenizer.encode(example.text).ids])
            with torch.inference_mode():
                expected = encoder(input_ids, torch.ones_like(input_ids))
            torch.testing.assert_close(cache.batch([example]).text_states, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("text", "image"),
    [("roberta-base", "resnet50"), ("bert-base-uncased", "vit_base_patch16_224"), ("roberta-base", "vgg19")],
)
def test_gradient_reaches_encoders_that_are_tuned(tiny_weights: Path, text: str, image: str) -> None:
    tokenizer, text_states = paper_text_encoder(find_weights(text, tiny_weights), frozen_layers=1)
    image_states = paper_image_encoder(find_weights(image, tiny_weights))
    model = MDSE(text_encoder=text_states, image_encoder=image_states, width=16, heads=2).train()
    batch: Batch = Collator(tokenizer)(posts(3))
    model.loss(batch).backward()
    without = {name for name, p in model.text_encoder.named_parameters() if p.grad is None}
    assert all(name.startswith(("bert.embeddings", "bert.encoder.layer.0")) for name in without) and without
    assert all(p.grad is not None for name, p in model.image_encoder.named_parameters() if "head" not in name)


def test_two_tunings_of_one_architecture_share_no_states(tiny_weights: Path, tmp_path: Path) -> None:
    write_tiny_weights("roberta-base", tmp_path)
    write_tiny_weights("resnet50", tmp_path)
    kept = tmp_path / "states"
    one = frozen_encoders("roberta-base", "resnet50", tmp_path)
    cached(tmp_path, kept, "roberta-base", "resnet50", count=2)
    file = tmp_path / "roberta-base" / "model.safetensors"
    tensors = load_file(file)
    tensors["roberta.encoder.layer.0.output.dense.bias"][0] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})
    other = frozen_encoders("roberta-base", "resnet50", tmp_path)
    cached(tmp_path, kept, "roberta-base", "resnet50", count=2)
    assert one.name != other.name and len(list(kept.iterdir())) == 2
    assert one.name.split(" and ")[1] == other.name.split(" and ")[1]
    assert one.name.startswith("roberta-base ")


def test_small_encoders_mix_with_the_papers(tiny_weights: Path) -> None:
    encoders = frozen_encoders(SMALL[0], "resnet50", tiny_weights)
    assert encoders.name.startswith("all-MiniLM-L6-v2 and resnet50 ")
    input_ids = torch.tensor([encoders.tokenize("a tram")])
    assert encoders.text_layers(input_ids, torch.ones_like(input_ids)).shape == (7, 1, 4, 384)
    assert frozen_encoders("roberta-base", SMALL[1], tiny_weights).encode_image.width == 1280


def test_all_missing_weights_are_named_at_once(tmp_path: Path, no_hub: Path) -> None:
    with pytest.raises(MissingWeights, match=r"weights of roberta-base are missing.*; weights of vgg19 are missing"):
        frozen_encoders("roberta-base", "vgg19", tmp_path)


@pytest.mark.parametrize("name", ["bert-base-uncased", CLIP, "resnet50"])
def test_a_torn_file_is_told(tmp_path: Path, name: str) -> None:
    file = write_tiny_weights(name, tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BadConfig, match=rf"{name} cannot be read as {name}: [^\n]*; fetch it again"):
        frozen_encoders(name if name != "resnet50" else SMALL[0], name if name == "resnet50" else SMALL[1], tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "problem"),
    [
        (
            "roberta-base",
            "roberta.encoder.layer.2.output.dense.weight",
            "lacks 1 tensors of its config.json's sizes, such as encoder.layer.2",
        ),
        (CLIP, "visual_projection.weight", "lacks 1 tensors .*such as visual_projection.weight: give the whole model"),
        ("resnet50", "layer2.0.conv1.weight", "cannot be read as resnet50: .*layer2.0.conv1.weight"),
    ],
)
def test_a_file_that_lacks_tensors_is_not_completed_at_random(
    tmp_path: Path, name: str, tensor: str, problem: str
) -> None:
    file = write_tiny_weights(name, tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors[tensor]
    save_file(tensors, file, metadata={"format": "pt"})
    weights = find_weights(name, tmp_path)
    with pytest.raises(BadConfig, match=problem):
        paper_text_encoder(weights) if name == "roberta-base" else paper_image_encoder(weights)


class _Opens:
    """What a pickle may do when read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("name", ["bert-base-uncased", "resnet50"])
def test_a_pickle_that_does_more_than_hold_tensors_is_refused(tmp_path: Path, name: str) -> None:
    own = write_tiny_weights(name, tmp_path)
    (own / "model.safetensors").unlink()
    torch.save({"weight": _Opens(tmp_path / "opened")}, own / "pytorch_model.bin")
    weights = find_weights(name, tmp_path)
    with pytest.raises(BadConfig, match="cannot be read as"):
        paper_image_encoder(weights) if name == "resnet50" else paper_text_encoder(weights)
    assert not (tmp_path / "opened").exists()


def test_the_old_names_of_bert_base_uncased_are_known(tiny_weights: Path, tmp_path: Path) -> None:
    file = write_tiny_weights("bert-base-uncased", tmp_path) / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = load_file(file)
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    save_file(tensors, file)
    one, other = (text_encoder(folder, "bert-base-uncased")[1].state_dict() for folder in (tiny_weights, tmp_path))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["bert-base-uncased", "resnet50"])
def test_weights_saved_by_torch_are_read_too(tiny_weights: Path, tmp_path: Path, name: str) -> None:
    own = write_tiny_weights(name, tmp_path)
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    build: Any = (lambda w: paper_text_encoder(w)[1]) if name != "resnet50" else paper_image_encoder
    one, other = (build(find_weights(name, folder)).state_dict() for folder in (tiny_weights, tmp_path))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ("not a tokenizer", "tokenizer.json is no tokenizer"),
        ("of another model", "has word pieces up to 259, the weights 13: give both of one model"),
        ("without ends", "puts no start and end around a text"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_told(tiny_weights: Path, tmp_path: Path, changes: str, problem: str) -> None:
    file = write_tiny_weights("bert-base-uncased", tmp_path) / "tokenizer.json"
    if changes == "not a tokenizer":
        file.write_text("{}")
    elif changes == "of another model":
        file.write_bytes((tiny_weights / "roberta-base" / "tokenizer.json").read_bytes())
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    with pytest.raises(BadConfig, match=problem):
        text_encoder(tmp_path, "bert-base-uncased")


@pytest.mark.data
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_real_weights_load_and_see_what_is_there(name: str, tmp_path: Path) -> None:
    """CLIP ViT-B/32's picture of a colour is nearer to its name; the others have the published shapes and train."""
    folder = Path(os.environ.get("MOODSTREAM_WEIGHTS", tmp_path))
    if not (folder / name).is_dir():
        pytest.skip(f"no real weights of {name}: set MOODSTREAM_WEIGHTS to a folder with {name}/")
    text = name if name in TEXTS else SMALL[0]
    image = name if name in IMAGES else SMALL[1]
    config = varied(
        read_config("concatenation"), {"epochs": 1, "batch_size": 8, "text_encoder": text, "image_encoder": image}, ""
    )
    examples = posts()
    corpus = Corpus({"train": examples[:8], "validation": examples[8:12], "test": examples[12:]})
    cache = cached(folder, tmp_path / "states", text, image)
    widths = {"resnet50": 2048, "vgg19": 512, CLIP: 512, SMALL[0]: 384, SMALL[1]: 1280}
    assert (cache.text_width, cache.image_width) == (widths.get(text, 768), widths.get(image, 768))
    bench = Bench(name="x", split="y", corpus=corpus, cache=cache, is_twin=np.zeros(4, dtype=bool))
    assert run_once(config, bench, seed=1)["test"]["rows"] == 4
    if name == CLIP:
        colours = [replace(examples[0], id=c, text=f"a {c} picture", image=picture(rgb)) for c, rgb in COLOURS.items()]
        cache = feature_cache(
            frozen_encoders(CLIP, CLIP, folder), colours, views=1, augmentation=Augmentation(), folder=tmp_path
        )
        batch = cache.batch(colours)
        similarity = torch.nn.functional.cosine_similarity(batch.text_states, batch.image_states.transpose(0, 1), -1)
        assert similarity.argmax(0).tolist() == [0, 1, 2]


COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
