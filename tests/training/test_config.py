from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.bench import RESULTS, read_results  # noqa: E402
from training.config import CONFIGS, BadConfig, RunConfig, read_config, varied  # noqa: E402

pytestmark = pytest.mark.train


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_read(path: Path) -> None:
    assert read_config(path.stem).system


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epochs = 3", "system is missing"),
        ('system = "MDSE"\nepoch = 3', "unknown key 'epoch'"),
        ('system = "MDSE"\nepochs = "3"', "epochs is '3': it takes a int"),
        ('system = "MDSE"\nepochs = 0', "epochs is 0: it takes 1 or more"),
        ('system = "MDSE"\nschedule = "up"', "schedule is 'up': use one of linear"),
        ('system = "MDSE"\nimbalance = "luck"', "imbalance is 'luck'"),
        (
            'system = "MDSE"\ntext_encoder = "gpt2"',
            "text_encoder is 'gpt2': use one of all-MiniLM-L6-v2, e5",
        ),
        ('system = "MDSE"\nimage_encoder = "roberta-base"', "image_encoder is 'roberta-base': use one of Effic"),
        ("system = ", "is no TOML"),
    ],
)
def test_a_bad_configuration_is_told_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(BadConfig, match=problem):
        read_config(str(path))


def test_a_missing_configuration_names_the_shipped_ones() -> None:
    with pytest.raises(BadConfig, match="one of .*mdse"):
        read_config("nobody")


def test_a_variation_changes_single_arguments_of_the_model() -> None:
    config = RunConfig(system="MDSE", model={"width": 64, "heads": 4})
    changed = varied(config, {"learning_rate": 1, "model": {"heads": 8}}, "a table")
    assert changed.model == {"width": 64, "heads": 8}
    assert (changed.learning_rate, changed.epochs) == (1.0, config.epochs)
    with pytest.raises(BadConfig, match="a table: unknown key 'widht'"):
        varied(config, {"widht": 3}, "a table")


def test_a_run_is_named_by_all_its_figures_depend_on() -> None:
    config = RunConfig(system="MDSE")
    keys = {
        config.key("mvsa", "published", 1),
        config.key("mvsa", "published", 2),
        config.key("memotion", "published", 1),
        config.key("mvsa", "twin-free", 1),
        varied(config, {"epochs": 3}, "").key("mvsa", "published", 1),
        varied(config, {"text_encoder": "roberta-base"}, "").key("mvsa", "published", 1),
        varied(config, {"image_encoder": "resnet50"}, "").key("mvsa", "published", 1),
    }
    assert len(keys) == 7
    assert RunConfig(system="MDSE").key("mvsa", "published", 1) in keys


def test_a_setting_added_later_renames_no_run() -> None:
    assert read_config("majority").key("mvsa_single", "published", 1) == "59fea924cbae58da"
    for line in read_results(RESULTS):
        assert RunConfig(**line["config"]).key(line["corpus"], line["split"], line["seed"]) == line["key"]
