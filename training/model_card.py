"""MODEL_CARD.md from an artifact's description: what the model is, on what it was measured, where it fails."""

from typing import Any

_TEXT = """# {name} {version}

Sentiment of a post (positive, neutral, negative) from its text, its picture, or both. The architecture is MDSE
(modality-dependent sentiment exploring), corrected as `training/models/mdse.py` says, on {text_encoder} and
{image_encoder}: {parameters:.1f} M parameters. Weights are stored as int8 with a scale per output channel
(matrices) and float16 (convolutions). The worker multiplies and convolves in whole numbers where the processor does so
exactly, else in float32, which all figures below are of.

## Data
{data}

Labels come from crowd workers. MVSA-Single merges a text label and a picture label into one and drops contradictions
between positive and negative (Xu & Mao, 2017); near twins in it often carry different labels.

## Training
One run, one seed ({seed}): differences of under four points on the 450 test posts are within what another seed would
do. Epoch chosen by weighted F1 on MVSA-Single's validation split; its test split was opened once, by the export, after
calibration. Settings of the last stage: {settings}.

## Measured
Through ONNX Runtime on the stored weights, in %. `both` is the fused answer for a post with text and picture,
`caption` and `image` what its text and its picture say alone; `text` is for posts without a picture. ECE is taken after
temperature scaling, over 15 bins of equal mass; on 450 rows (30 a bin) even a perfectly calibrated model shows about 6
points of it by chance, on 1,000 about 4.

| data | split | rows | input | accuracy | weighted F1 | macro F1 | macro recall | ECE |
|---|---|---|---|---|---|---|---|---|
{rows}

`test_without_twins` leaves out the test posts whose normalised text or picture also occurs in the training split.
The majority class alone reaches 59.6 % on MVSA-Single's test split.

Export: graphs differ from torch by at most {graph_against_torch:.1e} in a logit; a post scored alone and among others
by {batch_of_1_against_many:.1e}; int8 storage keeps {labels_equal_after_storage:.1%} of the labels.

## Calibration and abstention
Temperatures are fitted on validation rows: {text_calibration} A post abstains
below the confidence that gave the target accuracy there. Other feeds differ; measure before trusting it on one.

| input | temperature | abstain below | target accuracy | validation posts kept |
|---|---|---|---|---|
{calibration}

## Limits
- English only, tweets of 2011 to 2016. Irony, and pictures whose meaning lies in a caption drawn into them, are missed:
  the image encoder does not read.
- Neutral is the weakest class of whole posts: one training post in ten carries it. One modality alone is far less
  reliable than both, on posts that were labelled by both.
- Emoji count as the words in `training/tokenizer.py`; others count for nothing.
- Text beyond {max_tokens} word pieces is cut. Wide and tall pictures are cropped to their centre square.
- Not for decisions about people.

## Licence
Weights: {licence} (both pretrained encoders are, too). The data belong to their owners and are not included.
Made {created_at} from commit {source_commit}.
"""
_ON_TWEETS = """`text` on the tweets (one half of their validation split; `report` is the
other half), the rest on MVSA-Single. The training tweets' mix of classes (40 % positive, 45 % neutral, 16 % negative)
is no feed's, so the text head's logits are corrected for {text_prior_correction:.0%} of it, chosen for macro recall on
validation."""
_ON_POSTS = """all on MVSA-Single, whose texts were written to stand beside a picture: of
`text`, posts without one, nothing was learned or measured on such posts."""

SETTINGS = (
    "epochs",
    "batch_size",
    "text_lr",
    "image_lr",
    "head_lr",
    "tweets_per_epoch",
    "frozen_text_layers",
    "frozen_image_stages",
    "label_smoothing",
    "averaging",
    "macl_weight",
)


def model_card(description: dict[str, Any], config: dict[str, Any]) -> str:
    """`description` is artifact.json, `config` what the run was started with."""
    settings = ", ".join(f"{name.replace('_', ' ')} {config[name]}" for name in SETTINGS)
    return _TEXT.format(
        **{key: description[key] for key in ("name", "version", "licence", "created_at", "source_commit")},
        **description["metrics"]["export"],
        text_calibration=_ON_TWEETS.format(**description) if "tweet_sentiment" in description["metrics"] else _ON_POSTS,
        text_encoder=description["encoders"]["text"],
        image_encoder=description["encoders"]["image"],
        parameters=description["parameters"] / 1e6,
        data="\n".join(f"- {line}" for line in description["data"]),
        seed=config["seed"],
        settings=settings,
        rows="\n".join(_metric_rows(description["metrics"])),
        calibration="\n".join(_calibration_rows(description)),
        max_tokens=description["text"]["max_tokens"],
    )


def _metric_rows(metrics: dict[str, Any]) -> list[str]:
    return [
        f"| {corpus} | {split} | {report['rows']} | {kind} | "
        + " | ".join(
            f"{100 * report[metric]:.1f}" for metric in ("accuracy", "weighted_f1", "macro_f1", "macro_recall", "ece")
        )
        + " |"
        for corpus in ("mvsa_single", "tweet_sentiment")
        if corpus in metrics
        for split, kinds in metrics[corpus].items()
        for kind, report in kinds.items()
    ]


def _calibration_rows(description: dict[str, Any]) -> list[str]:
    return [
        f"| {kind} | {fitted['temperature']:.2f} | {description['abstain_below'][kind]:.2f} "
        f"| {fitted['target_accuracy']:.0%} | {fitted['validation_coverage']:.0%} |"
        for kind, fitted in description["calibration"].items()
    ]
