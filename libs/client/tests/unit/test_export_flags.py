"""What the backend writes about a request's fields, as a person at a terminal can use it."""

import json

import pytest
from teleop_client.exporting.cli import parse, request_of
from teleop_client.exporting.flags import flag_of, in_flags, told

CHOSEN = ["--session_id", "1", "--repo_id", "u/d"]
FLAGS = [
    [*CHOSEN, "--session_id", "2"],
    [*CHOSEN, "--on_gap", "refuse"],
    [*CHOSEN, "--on_not_finite", "keep"],
    [*CHOSEN, "--include_outcomes", "success"],
    [*CHOSEN, "--include_unfinished"],
    [*CHOSEN, "--include_incomplete"],
    [*CHOSEN, "--no_capture_time"],
    [*CHOSEN, "--no_labels"],
    [*CHOSEN, "--include_repeated"],
    [*CHOSEN, "--fps", "22"],
    [*CHOSEN, "--cameras"],
    [*CHOSEN, "--cameras", "front", "wrist"],
    [*CHOSEN, "--split", "train=0.9", "val=0.1", "--split_seed", "3"],
    [*CHOSEN, "--streaming_safe"],
    [*CHOSEN, "--format", "mcap"],
    [*CHOSEN, "--push_to_hub", "--public", "--overwrite", "--token_name", "lab"],
    [*CHOSEN[2:], "--robot_id", "robot_A", "--robot_type", "so101", "--task", "pick", "--outcome", "success"],
    [*CHOSEN[2:], "--operator", "kim", "--reason", "dropped", "--min_quality", "3"],
    [*CHOSEN, "--tag", "edge"],
    [*CHOSEN[2:], "--episode", "7/0", "--episode", "7/1"],
    [*CHOSEN[2:], "--session_tag", "day", "--session_tag", "red"],
    [*CHOSEN[2:], "--since", "2026-01-01", "--until", "2026-01-02"],
]


def changed(words):
    """The fields of the request that these flags set, without their groups."""
    usual = request_of(parse(CHOSEN))
    for name, value in request_of(parse(words)).items():
        if name in ("filter", "push_to_hub"):
            yield from ((f"{name}.{each}", held) for each, held in value.items())
        elif usual.get(name) != value:
            yield name, value


@pytest.mark.parametrize("words", FLAGS, ids=lambda words: " ".join(words[-2:]))
def test_every_field_is_told_as_the_flag_that_sets_it(words):
    """The flag as it is typed, for the field and what is in it; every flag is in this list."""
    fields = dict(changed(words))
    assert fields
    for name, value in fields.items():
        flag = flag_of(name)
        assert flag in words
        short = name.rpartition(".")[2]
        assert in_flags(f"set `{short}`") == f"set {flag}"
        assert told("it is wrong", f"{name}[0]") == f"it is wrong ({flag})"
        if not isinstance(value, list) and short not in ("since", "until"):
            typed = in_flags(f'set `"{short}": {json.dumps(value)}`').removeprefix("set ").split(" ")
            assert " ".join(typed) in " ".join(words)


def test_the_list_holds_every_flag(capsys):
    """But those that say nothing about the request, and the name, which is in all of them."""
    with pytest.raises(SystemExit):
        parse(["--help"])
    known = {
        word.strip("[],:") for word in capsys.readouterr().out.split() if word.strip("[").startswith("--")
    }
    listed = {word for words in FLAGS for word in words if word.startswith("--")}
    assert known - listed == {"--help", "--backend_url", "--root"}


@pytest.mark.parametrize(
    ("told_by_backend", "told_here"),
    [
        ('set `"fps": 22` for all', "set --fps 22 for all"),
        ('`"cameras": []` exports joints only', "--cameras without a value exports joints only"),
        ('`"cameras": ["front", "wrist"]`', "--cameras front wrist"),
        ('push with `"private": false`', "push with --public"),
        ('`"include_capture_time": false`', "--no_capture_time"),
        ("by `since` and `session_tags`", "by --since and --session_tag"),
        ("set fps to 22", "set fps to 22"),
        (
            'PATCH /sessions/6/episodes/3 {"outcome": "discarded"}',
            'PATCH /sessions/6/episodes/3 {"outcome": "discarded"}',
        ),
        ('`"fps": 22, or so`', '`"fps": 22, or so`'),
    ],
)
def test_settings_are_told_as_they_are_typed(told_by_backend, told_here):
    """What is not marked, or is no setting, stays."""
    assert in_flags(told_by_backend) == told_here


def test_the_filter_is_all_of_its_flags():
    """None of them is named, then."""
    assert flag_of("filter") is None
    assert told("no session matches", "filter") == "no session matches"
    assert told("it has ended", None) == "it has ended"
