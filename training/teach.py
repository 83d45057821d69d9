"""What a trained run says of the training posts, as a file for `train --teacher`.

python -m training teach --checkpoint .moodstream/e5/best.pt --tweets TWEETS --out .moodstream/e5/opinions.npz
"""

import argparse
import logging
from pathlib import Path

import torch

from training.batches import Collator
from training.config import BadConfig
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.distillation import save_opinions
from training.encoders import small_tokenizer_file
from training.tokenizer import build_tokenizer
from training.train import build_model, predict_logits

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt of the run that teaches")
    posts = parser.add_mutually_exclusive_group(required=True)
    posts.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet: what it says of the training tweets")
    posts.add_argument("--mvsa", type=Path, help="MVSA-Single: what it says of the training posts")
    parser.add_argument("--out", type=Path, required=True, help="file to write")


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)  # the workers of predict_logits are the parallelism
    checkpoint = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    if arguments.mvsa and not checkpoint["config"]["mvsa"]:
        raise BadConfig(f"{arguments.checkpoint} learned from tweets alone: it has nothing to teach about --mvsa")
    model = build_model(checkpoint["config"]).eval()
    model.load_state_dict(checkpoint["model"])
    splits = read_tweet_sentiment(arguments.tweets) if arguments.tweets else read_mvsa(arguments.mvsa).splits
    posts = splits["train"]
    logits = predict_logits(model, posts, Collator(build_tokenizer(small_tokenizer_file())))
    if arguments.mvsa:
        del logits["text"]  # of posts without a picture, which these are not
    save_opinions(arguments.out, [post.id for post in posts], logits, encoder=checkpoint["config"]["text_encoder"])
    log.info("wrote what %s says of %d posts: %s", arguments.checkpoint, len(posts), arguments.out)
