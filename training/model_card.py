"""MODEL_CARD.md from artifact.json alone: what the model is, how right and how sure it is, and where it fails.

    python -m training card --artifact DIR --engines FILE.json --traits FILE.json

writes the card anew, with what only the services can measure beside: `python -m tests.benchmarks.agreement` makes the
file of engines, `python -m tests.benchmarks.traits` that of languages and of words in pictures.
"""

import argparse
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.config import BadConfig
from training.results import markdown_table

CARD = "MODEL_CARD.md"
SETTINGS = (
    "seed",
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
    "precision",
    "trust",
)
EXAMPLES = 2
"""Of each kind of hard texts: those read wrongly with the most confidence."""
Described = dict[str, Any]

_TEXT = """# {name} {version}

Sentiment of a post (positive, neutral, negative) from its text, its picture, or both: MDSE, corrected as
`training/models/mdse.py` says, on {text_encoder} and {image_encoder}, {parameters:.1f} M parameters. Matrices are
stored as int8 with a scale per output channel, convolutions as float16. Every figure here was made by the export
(`python -m training evaluate --artifact DIR --mvsa … --tweets …` makes them again), through ONNX Runtime in float32.

**Use it** to watch the mood of many English posts. **Do not** use it to decide about people, or to judge one post.

## How right

{scores}

In %, with 95 % intervals (Wilson; bootstrap for macro F1). `both` is the answer for a post with text and picture,
`caption` and `image` are what its two parts say alone; `text` is the answer for a post without a picture.
`without twins` leaves out test posts whose text or picture also occurs in training. {majority}

## How sure

{calibration}

Temperatures: {temperatures}. A post abstains under a confidence of {thresholds}, which was to leave {target:.0%} right
on validation. ECE over 15 bins of equal mass; beside it what a perfectly calibrated model shows on as many rows by
chance (mean; 95th percentile); `debiased` and `RMS` take that chance out (Kumar, Liang and Ma, NeurIPS 2019, for the
mean gap and, more strictly, for its mean square).
`moodstream evaluate --model DIR --data SET --split test --report FOLDER` draws the reliability diagram and the curve of
risk over coverage in its report, `python -m training figure reliability coverage --artifact DIR --mvsa …` one a kind.

## Are pictures used?

{pictures}

Accuracy of the fused answer with the posts' own pictures, with other posts' (mean ± deviation of five shuffles), with
none to see (grey), and the points that costs, with paired 95 % intervals.

## Where it is weaker

{slices}

By what the services tell of a post:

{traits}

Hard texts, written for this card (`training/hard_texts.toml`):

{hard_texts}

## Engines

{engines}

Graphs differ from torch by at most {graph_against_torch:.1e} in a logit and in {torch_flips:.1%} of the labels; a post
scored alone and among others by {batch_of_1_against_many:.1e}; int8 storage keeps {labels_equal_after_storage:.1%} of
the labels.

## Data and training
{data}

Labels come from crowd workers; MVSA-Single merges a text label and a picture label (Xu & Mao, 2017), and near twins in
it often carry different labels. {fitted} The test split was opened once, by the export, after everything was fixed.
Settings of the last stage: {settings}.

## Limits
- English, tweets of 2011 to 2016; other feeds differ: measure before trusting it on one.
- The image encoder does not read: captions drawn into a picture are missed. Wide and tall pictures are cropped to
  their centre square.
- Emoji count as the words in `training/tokenizer.py`; others count for nothing. Text beyond {max_tokens} word pieces is
  cut.

## Licence
Weights: {licence} (both pretrained encoders are, too). The data belong to their owners and are not included.
Made {created_at} from commit {source_commit}.
"""
_ON_TWEETS = """`text` is calibrated on one half of the tweets' validation split (`report` is the other), the rest on
MVSA-Single's; the text head's logits are corrected for {text_prior_correction:.0%} of the training tweets' mix of
classes, chosen for macro recall on validation."""
_ON_POSTS = """All is calibrated on MVSA-Single, whose texts were written to stand beside a picture: of `text`, posts
without one, nothing was learned or measured on such posts."""
_NO_ENGINES = """Not compared yet: `python -m tests.benchmarks.agreement --model DIR --mvsa … --tweets … --json` does,
and `python -m training card` adds it here."""


_TOLD = """

Languages are the worker's detector's, of the text alone; posts in another one abstain, whatever their score. Words are
read off pictures with lettering as ingest reads them (off by default). Scored on the picture alone, and on it and its
words, are posts with many words in it, as if they had no text of their own. A class none of the rows is of counts 0 in
macro recall."""
_NO_TRAITS = """Not measured yet: `python -m tests.benchmarks.traits --model DIR --mvsa … --tweets … --json` does, and
`python -m training card` adds it here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--engines", type=Path, help="what python -m tests.benchmarks.agreement --json printed")
    parser.add_argument("--traits", type=Path, help="what python -m tests.benchmarks.traits --json printed")


def run(arguments: argparse.Namespace) -> None:
    file = arguments.artifact / "artifact.json"
    description = read_json(file)
    if "training" not in description:
        raise BadConfig(f"{file} lacks 'training', so its card cannot be made: export the model again")
    for name in ("engines", "traits"):
        if beside := getattr(arguments, name):
            description["metrics"][name] = _rows_of(beside, name)
    write_with_card(arguments.artifact, description)


def read_json(file: Path) -> Described:
    """Raises BadConfig if it cannot be read."""
    try:
        found: Described = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfig(f"cannot read {file} ({error}): give a file of JSON") from error
    return found


def _rows_of(file: Path, name: str) -> list[Described]:
    found = read_json(file)
    if name not in found:
        raise BadConfig(f"{file} holds no '{name}': give what the benchmark of {name} printed with --json")
    rows: list[Described] = found[name]
    return rows


def write_with_card(folder: Path, description: Described) -> None:
    """MODEL_CARD.md, and artifact.json with the checksums of all files beside it."""
    (folder / CARD).write_text(model_card(description), encoding="utf-8")
    description["sha256"] = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name != "artifact.json"
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    (folder / "artifact.json").write_text(text, encoding="utf-8")


def model_card(description: Described) -> str:
    """`description` is artifact.json."""
    metrics, calibration = description["metrics"], description["calibration"]
    told = _ON_TWEETS if "tweet_sentiment" in metrics else _ON_POSTS
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in description["training"].items())
    return _TEXT.format(
        **{key: description[key] for key in ("name", "version", "licence", "created_at", "source_commit")},
        **metrics["export"],
        text_encoder=description["encoders"]["text"],
        image_encoder=description["encoders"]["image"],
        parameters=description["parameters"] / 1e6,
        scores=_scores(metrics),
        majority=_majority(metrics),
        calibration=_calibration(metrics),
        temperatures=", ".join(f"`{kind}` {fitted['temperature']:.2f}" for kind, fitted in calibration.items()),
        thresholds=", ".join(f"{below:.2f} (`{kind}`)" for kind, below in description["abstain_below"].items()),
        target=calibration["both"]["target_accuracy"],
        pictures=_pictures(metrics["pictures"]),
        slices=_slices(metrics["slices"]),
        traits=_traits(metrics["traits"]) if "traits" in metrics else _NO_TRAITS,
        hard_texts=_hard_texts(metrics["hard_texts"]),
        engines=_engines(metrics["engines"]) if "engines" in metrics else _NO_ENGINES,
        torch_flips=1 - metrics["export"]["labels_equal_to_torch"],
        data="\n".join(f"- {line}" for line in description["data"]),
        fitted=told.format(**description),
        settings=settings,
        max_tokens=description["text"]["max_tokens"],
    )


def _reports(metrics: Described, splits: Sequence[str]) -> Iterable[tuple[str, str, Described]]:
    """(name of the set, input kind, report), the tweets' only of `text` and others' of all but that."""
    for corpus in ("mvsa_single", "tweet_sentiment"):
        for split in (split for split in splits if split in metrics.get(corpus, {})):
            for kind, report in sorted(metrics[corpus][split].items()):
                if (kind == "text") == (corpus == "tweet_sentiment"):
                    yield f"{corpus} {split.replace('_', ' ').replace('test without', 'test, without')}", kind, report


def _scores(metrics: Described) -> str:
    rows = [
        [
            name,
            str(report["rows"]),
            kind,
            _with_interval(report["accuracy"], report["accuracy_interval"]),
            _percent(report["weighted_f1"]),
            _with_interval(report["macro_f1"], report["macro_f1_interval"]),
            _percent(report["macro_recall"]),
        ]
        for name, kind, report in _reports(metrics, ("test", "test_without_twins", "validation", "report"))
    ]
    return markdown_table(["data", "rows", "input", "accuracy", "weighted F1", "macro F1", "macro recall"], rows)


def _majority(metrics: Described) -> str:
    share = metrics["mvsa_single"]["test"]["both"]["majority"]
    return f"The majority class alone is right on {_percent(share)} % of MVSA-Single's test split."


def _calibration(metrics: Described) -> str:
    rows = [
        [
            f"{name}, {report['rows']}",
            kind,
            _percent(report["ece"]),
            f"{_percent(report['ece_if_perfect'])}; {_percent(report['ece_if_perfect_95'])}",
            _percent(report["ece_debiased"]),
            _percent(report["rms_debiased"]),
            _percent(report["answered"]["coverage"]),
            _with_interval(report["answered"]["accuracy"], report["answered"]["accuracy_interval"]),
            _percent(report["accuracy_at_half_coverage"]),
            _percent(report["coverage_at_90_accuracy"]),
        ]
        for name, kind, report in _reports(metrics, ("test", "report"))
    ]
    header = ["data, rows", "input", "ECE", "perfect", "debiased", "RMS", "answered", "right of these"]
    return markdown_table([*header, "right of the surer half", "can answer with 90 right"], rows)


def _pictures(by_split: Described) -> str:
    rows = [
        [
            f"{split}, {found['rows']}",
            _percent(found["own"]["accuracy"]),
            f"{_percent(found['shuffled']['accuracy'])} ± {_percent(found['shuffled_deviation']['accuracy'])}",
            _percent(found["blank"]["accuracy"]),
            _with_interval(found["shuffling_costs"]["accuracy"], found["shuffling_costs"]["interval"]),
            _with_interval(found["blanking_costs"]["accuracy"], found["blanking_costs"]["interval"]),
        ]
        for split, found in sorted(by_split.items())
    ]
    return markdown_table(["mvsa_single, rows", "own", "shuffled", "grey", "shuffling costs", "blanking costs"], rows)


def _slices(by_set: Described) -> str:
    names = list(dict.fromkeys(name for found in by_set.values() for name in found))
    header = ["accuracy; macro F1 (rows)", *by_set]
    return markdown_table(header, [[name, *(_slice(found.get(name)) for found in by_set.values())] for name in names])


def _slice(found: Described | None) -> str:
    if found is None:
        return "no such rows"
    accuracy = _with_interval(found["accuracy"], found["accuracy_interval"])
    return f"{accuracy}; {_with_interval(found['macro_f1'], found['macro_f1_interval'])} ({found['rows']})"


def _traits(rows: Sequence[Described]) -> str:
    cells = [
        [
            row["data"],
            row["trait"],
            row["input"],
            str(row["rows"]),
            _with_interval(row["accuracy"], row["accuracy_interval"]),
            _with_interval(row["macro_recall"], row["macro_recall_interval"]),
        ]
        for row in rows
    ]
    return markdown_table(["data", "posts", "scored on", "rows", "accuracy", "macro recall"], cells) + _TOLD


def _hard_texts(by_kind: Described) -> str:
    rows = [
        [
            kind,
            f"{found['right']} of {found['rows']}",
            "; ".join(
                f"“{wrong['text']}”: {wrong['predicted']} ({wrong['confidence']:.0%}), not {wrong['label']}"
                for wrong in found["wrong"][:EXAMPLES]
            ),
        ]
        for kind, found in by_kind.items()
    ]
    return markdown_table(["kind", "right", "read wrongly with the most confidence"], rows)


def _engines(rows: Sequence[Described]) -> str:
    cells = [
        [
            f"{row['data']}, {row['rows']}",
            row["input"],
            row["engine"],
            _percent(row["label_agreement"]),
            f"{100 * row['macro_f1']:.1f} ({100 * (row['macro_f1'] - row['reference_macro_f1']):+.1f})",
            f"{row['largest_difference']:.4f}",
        ]
        for row in rows
    ]
    header = ["data, rows", "input", "engine", "same labels, %", "macro F1 (difference)", "largest of a probability"]
    return markdown_table(header, cells) + f"\n\nEach against `{rows[0]['reference']}`, by the worker's own loader."


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """`71.2 (68.3 to 74.0)`, in %."""
    if value is None or interval is None:
        return "–"
    return f"{_percent(value)} ({_percent(interval[0])} to {_percent(interval[1])})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
