"""Where weights are looked for, and what is said when they are not there."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the train extra is not installed (transformers)")

from huggingface_hub import constants  # noqa: E402

from tests.training.tiny_weights import write_tiny_weights  # noqa: E402
from training.config import IMAGE_ENCODERS, SMALL, TEXT_ENCODERS, BadConfig  # noqa: E402
from training.weights import PUBLISHED, MissingWeights, find_weights  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("no_hub")]


def test_every_encoder_of_a_configuration_has_a_source() -> None:
    assert {*TEXT_ENCODERS, *IMAGE_ENCODERS} == {*SMALL, *PUBLISHED}
    assert {name for name, published in PUBLISHED.items() if published.reads_text} == {*TEXT_ENCODERS} - {*SMALL}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_users_folder_comes_first(tiny_weights: Path, name: str) -> None:
    found = find_weights(name, tiny_weights)
    assert found.folder == tiny_weights / name
    assert len(found.identity) == 12


def test_missing_weights_are_told_with_all_places_and_the_remedy(tmp_path: Path, no_hub: Path) -> None:
    with pytest.raises(MissingWeights) as told:
        find_weights("roberta-base", tmp_path)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(
        f"weights of roberta-base are missing (no package ships them; {tmp_path} has no folder roberta-base; "
        f"the hub: FacebookAI/roberta-base has no config.json in its cache {no_hub}, nor can it be downloaded ("
    )
    assert str(told.value).endswith(
        "): give --weights FOLDER or MOODSTREAM_WEIGHTS with roberta-base/ holding config.json, tokenizer.json, "
        "model.safetensors or pytorch_model.bin"
    )


def test_without_a_folder_that_is_told_and_pictures_need_no_tokenizer() -> None:
    with pytest.raises(MissingWeights, match=r"no folder was given; .*holding config.json, model.safetensors or"):
        find_weights("resnet50", None)


def test_a_hub_out_of_reach_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(MissingWeights, match=r"nor can it be downloaded \(the hub cannot be reached\)") as told:
        find_weights("vgg19", None)
    assert "\n" not in str(told.value)


def test_the_hubs_cache_is_read_without_the_hub(tiny_weights: Path, no_hub: Path) -> None:
    kept = no_hub / "models--FacebookAI--roberta-base"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0123abcd")
    shutil.copytree(tiny_weights / "roberta-base", kept / "snapshots" / "0123abcd")
    found = find_weights("roberta-base", None)
    assert found.folder == kept / "snapshots" / "0123abcd"
    assert found.identity == find_weights("roberta-base", tiny_weights).identity
    (found.folder / "model.safetensors").rename(found.folder / "pytorch_model.bin")
    assert find_weights("roberta-base", None).folder == found.folder
    (found.folder / "pytorch_model.bin").unlink()
    with pytest.raises(MissingWeights, match=r"has no model.safetensors or pytorch_model.bin in its cache"):
        find_weights("roberta-base", None)


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="nowhere is no folder: it should hold one folder an encoder, such as vgg19"):
        find_weights("vgg19", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "file", "lacks"),
    [
        ("bert-base-uncased", "tokenizer.json", "tokenizer.json"),
        ("bert-base-uncased", "config.json", "config.json"),
        ("vit_base_patch16_224", "model.safetensors", "model.safetensors or pytorch_model.bin"),
    ],
)
def test_an_incomplete_folder_is_told(tmp_path: Path, name: str, file: str, lacks: str) -> None:
    own = write_tiny_weights(name, tmp_path)
    (own / file).unlink()
    with pytest.raises(MissingWeights, match=f"weights of {name} are incomplete: {own} lacks {lacks}; put it there"):
        find_weights(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "other", "problem"),
    [
        ("bert-base-uncased", "roberta-base", "says model_type 'roberta': bert-base-uncased needs 'bert'"),
        ("roberta-base", "clip-vit-base-patch32", "says model_type 'clip': roberta-base needs 'roberta'"),
        ("vgg19", "resnet50", "says architecture 'resnet50': vgg19 needs 'vgg19'; give its own files"),
    ],
)
def test_another_architecture_is_told(tiny_weights: Path, tmp_path: Path, name: str, other: str, problem: str) -> None:
    shutil.copytree(tiny_weights / other, tmp_path / name)
    with pytest.raises(BadConfig, match=problem):
        find_weights(name, tmp_path)


@pytest.mark.parametrize("text", ["not JSON", "[]", "{}", "\xff"])
def test_what_is_no_configuration_is_told(tmp_path: Path, text: str) -> None:
    own = write_tiny_weights("resnet50", tmp_path)
    (own / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadConfig, match=r"config.json is no configuration with 'architecture'"):
        find_weights("resnet50", tmp_path)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_identity_tells_any_change(tmp_path: Path, file: str) -> None:
    own = write_tiny_weights("bert-base-uncased", tmp_path)
    before = find_weights("bert-base-uncased", tmp_path).identity
    with (own / file).open("ab") as opened:
        opened.write(b" ")
    assert find_weights("bert-base-uncased", tmp_path).identity != before
