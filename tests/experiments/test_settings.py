"""A wrong setting of any experiment is one sentence that names the flag, the value and the remedy."""

import dataclasses
import importlib
import re
import sys
from typing import get_type_hints

import pytest

from experiments.__main__ import experiments
from experiments.lab.run import cli
from experiments.lab.run.errors import LabError

NAMES = list(experiments())
WRONG = [
    ("dead_neurons", {"batch_size": 5001, "data": "embedded"}, "there are 5000 train images"),
    ("dead_neurons", {"data": "nowhere"}, "is not a folder"),
    ("gan_images", {"evaluations": 7}, "--steps is 1200: give a multiple of --evaluations, 7."),
    ("gan_images", {"arms": ("leaky_0.2",)}, "begin with relu"),
    ("gan_images", {"side": 20}, "--side is 20: give 16 or 28."),
    ("gan_modes", {"evaluations": 3}, "--steps is 5000: give a multiple of --evaluations, 3."),
    ("gan_modes", {"arms": ("both_0.2",)}, "begin with relu"),
    ("image_classification", {"activations": ("leaky_0.2",)}, "give relu too"),
    (
        "image_classification",
        {"batch_size": 10**6, "data": "digits"},
        "--batch-size is 1000000: give at most 1437",
    ),
    ("learning_rate_map", {"negative_slopes": (0.1,)}, "give 0 too, ReLU"),
    ("object_detection", {"negative_slopes": (0.1,)}, "give 0 too, ReLU"),
    (
        "object_detection",
        {"batch_size": 10**6},
        "--batch-size is 1000000: give at most 2000, the train canvases.",
    ),
    ("plasticity", {"tasks": 7}, "--tasks is 7: give a multiple of --every, 10."),
    ("plasticity", {"images": 10**6, "data": "embedded"}, "--images is 1000000: give 10 to 5000"),
    ("plasticity", {"probe": 1001}, "--probe is 1001: give 0 to 1000, the images."),
    (
        "reinforcement_learning",
        {"replay": 31},
        "--batch-size is 32, but the replay holds 31 frames at the first update: give 31 or less",
    ),
    (
        "reinforcement_learning",
        {"probe": 1001},
        "--probe is 1001, but the replay holds 1000 frames at the first update: give 1000 or less",
    ),
    (
        "reinforcement_learning",
        {"frames": 7000},
        "--frames is 7000: give a multiple of 2000, the frames that 500 updates of dqn_0.25 take.",
    ),
    (
        "reinforcement_learning",
        {"every": 502, "methods": ("dqn_4",)},
        "--every is 502: give a multiple of 4, the updates after each frame.",
    ),
    ("reinforcement_learning", {"ppo_frames": 9000}, "--ppo-frames is 9000: give a multiple of 32768."),
    ("pretrained", {"crop": 5000}, "--crop is 5000: give 427 or less."),
    ("pretrained", {"detail": 98}, "--detail is 98: give a multiple of 4."),
    ("remedies", {"tasks": 7}, "--tasks is 7: give a multiple of 10."),
    ("remedies", {"labelled": 8, "data": "embedded"}, "--labelled is 8: give 16 to 5000, the train images."),
    ("born_dead", {"networks": 2**31}, "--networks is 2147483648: give less than 2147483648."),
]


def module_of(name):
    return importlib.import_module(f"experiments.{name}.experiment")


def wrong_values(config):
    """(field, value, sentence) for each constraint of each field."""
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        flag, value = re.escape(f"--{name.replace('_', '-')}"), getattr(config, name)
        several = isinstance(value, tuple)
        one = (value[0] if value else 0.1) if several else value  # only learning rates may be left out
        if several and value:
            yield name, (), rf"{flag} is \(\): give one or more values\."
        if several and name not in ("hidden", "generator", "discriminator"):
            yield name, (one, one), rf"{flag} is {re.escape(str((one, one)))}: give each value once\."
        for bad, remedy in wrong_ones(one, "Literal" in str(hint)):
            yield name, (bad,) if several else bad, rf"{flag} {'holds' if several else 'is'} {bad}: {remedy}"


def wrong_ones(one, choice):
    if choice:
        return [("no such", "give .* or .*")]
    if isinstance(one, float):
        return [(float("inf"), "give a finite number"), (float("nan"), "give ")]
    return [(-16, r"give \d+ or more")] if type(one) is int else []


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_of_any_setting_is_one_sentence(name, monkeypatch):
    module, found = module_of(name), 0
    for field, value, sentence in wrong_values(module.Config()):
        with pytest.raises(LabError, match=f"^{sentence}") as caught:
            dataclasses.replace(module.Config(), **{field: value})
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)
        found += 1
    assert found > 5
    field = "seed" if hasattr(module.Config(), "seed") else "seeds"
    monkeypatch.setattr(sys, "argv", ["", f"--{field}", "-7"])
    with pytest.raises(LabError, match=f"^--{field} is -7: give [01] or more\\.$"):
        cli.parse(module.Config, module.PRESETS, prog="", description="")


@pytest.mark.parametrize(("name", "change", "sentence"), WRONG)
def test_settings_that_do_not_go_together_are_one_sentence(tmp_path, name, change, sentence):
    module = module_of(name)
    with pytest.raises(LabError, match=re.escape(sentence)):
        module.run(dataclasses.replace(module.Config(out=tmp_path / "run"), **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_every_flag(name, monkeypatch, capsys):
    module = module_of(name)
    monkeypatch.setattr(sys, "argv", ["", "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.parse(module.Config, module.PRESETS, prog="", description=module.__doc__)
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert " ".join(module.__doc__.split()) in " ".join(said.split())
    for field in dataclasses.fields(module.Config):
        assert f"--{field.name.replace('_', '-')} " in said
    for preset in module.PRESETS.values():
        dataclasses.replace(module.Config(), **preset)


def test_opposite_presets_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "--smoke", "--full"])
    module = module_of("dead_neurons")
    with pytest.raises(SystemExit, match="choose one"):
        cli.parse(module.Config, module.PRESETS, prog="", description="")
