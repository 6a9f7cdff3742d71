"""The small files that are read from a box, whatever is in them."""

import json
import time

import pytest

from harvestd.convention.metadata.parse import (
    MAX_FACT_BYTES,
    ConfigFacts,
    EvalConfig,
    InvalidFacts,
    TrainingInfo,
    check_marker,
    parse_adapter_config,
    parse_config,
    parse_eval_config,
    parse_training_info,
)

CONFIG = b"""\
backbone: Qwen/Qwen2.5-1.5B
eval_backbone: "qwen2_5_15"
total_steps: 32
learning_rate: 1.0e-6
clip_+: 0.28
cfg["kl_beta"]: 0.04
resumed: 2025-08-20 03:31:43
broken_date: 2025-99-99
scheduler:
  name: cosine
  dataset_name: gsm8k
  split: [train, test]
gns_probe: {enabled: true, window_size: 8}
total_steps: 64
"""


def test_a_config_gives_what_naming_needs() -> None:
    """Of keys that stand twice the last one wins; odd keys, dates and lists beside them do no harm."""
    assert parse_config(CONFIG) == ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 64, "gsm8k", gns_probe=True)


@pytest.mark.parametrize(
    "text",
    [
        "backbone: 1.5",
        "backbone: [a, b]",
        "backbone: {a: b}",
        "backbone: null",
        "backbone: 2025-08-20",
        'backbone: ""',
        "backbone: " + "x" * 201,
        "backbone: !!binary aGFsbG8=",
        "backbone: !python/name:os.system x",
        "total_steps: -1",
        "total_steps: 1e3",
        "total_steps: true",
        'total_steps: "64"',
        "total_steps: 1:30",
        "total_steps: 0x40",
        "total_steps: 99999999999",
        "total_steps: " + "9" * 5000,
        "total_steps: !!int ''",
        "total_steps: !!timestamp x",
        "total_steps: .nan",
        "x: " + ":".join(["1"] * 300) + ".0",
        "scheduler: gsm8k",
        "scheduler: [dataset_name]",
        "gns_probe: true",
        'gns_probe: {enabled: "true"}',
        "gns_probe: {enabled: 1}",
        "gns_probe: {enabled: !!bool perhaps}",
        "? [backbone]\n: x",
    ],
)
def test_a_value_of_the_wrong_type_counts_as_absent(text: str) -> None:
    """Neither a wrong type nor a tag, however made, spoils the file or raises anything."""
    assert parse_config(text.encode()) == ConfigFacts()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"# nothing yet",
        b"- a list",
        b"just text",
        b"a: b\n---\nc: d",
        b"backbone: [unfinished",
        b"\tbackbone: x",
        b"backbone: \xff\xfe\x00",
        b"\xff\xfeb\x00",
        b"backbone: \x00",
        b"%YAML 9.9\n---\na: b",
        b'backbone: "\\ud800"',
    ],
)
def test_a_config_that_is_not_whole_is_refused(raw: bytes) -> None:
    """What is no single YAML mapping in valid text is refused as a value, for it may be half written."""
    with pytest.raises(InvalidFacts):
        parse_config(raw)


def test_a_yaml_bomb_costs_nothing() -> None:
    """Aliases that would expand to billions of values count as absent from where they grow large; the rest is read."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    lines += ["m0: &m0 {k: v}", *(f"m{i}: &m{i} {{<<: *m{i - 1}, k{i}: [*m{i - 1}]}}" for i in range(1, 300))]
    before = time.process_time()
    assert parse_config("\n".join([*lines, "total_steps: 64"]).encode()) == ConfigFacts(total_steps=64)
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("betas: &id001 [0.9, 0.95]\nother: *id001\nbackbone: a/b", ConfigFacts("a/b")),
        ("backbone: &m a/b\neval_backbone: *m", ConfigFacts("a/b", "a/b")),
        ("x: &d {total_steps: 3}\n<<: *d\nbackbone: a/b", ConfigFacts("a/b", total_steps=3)),
        ("x: &d {total_steps: 3}\ntotal_steps: 4\n<<: *d", ConfigFacts(total_steps=4)),
        ("s: &s {dataset_name: gsm8k}\nscheduler: *s", ConfigFacts(dataset="gsm8k")),
        ("x: &x [*x]\nbackbone: a/b", ConfigFacts("a/b")),
        ("backbone: *nowhere\ntotal_steps: 3", ConfigFacts(total_steps=3)),
        ("a: &a {b: [" + "1, " * 300 + "1], total_steps: 3}\n<<: *a\nbackbone: a/b", ConfigFacts("a/b")),
        ("a: &a x\nb: &a y\nbackbone: *a", ConfigFacts("y")),
    ],
)
def test_an_alias_counts_as_its_value(text: str, expected: ConfigFacts) -> None:
    """Where that is small; else, or where it is cyclic or nowhere, as absent, and the file is read all the same."""
    assert parse_config(text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("backbone: ${model.path}\nmodel: {path: Qwen/Qwen2.5-1.5B}", ConfigFacts("Qwen/Qwen2.5-1.5B")),
        ("total_steps: ${trainer.max_steps}\ntrainer: {max_steps: 64}", ConfigFacts(total_steps=64)),
        ("total_steps: ${a}\na: ${b.c}\nb: {c: 64}", ConfigFacts(total_steps=64)),
        ("backbone: ${org}/${name}-${size}B\norg: Qwen\nname: Q\nsize: 7", ConfigFacts("Qwen/Q-7B")),
        ("backbone: ${models[1]}\nmodels: [a, b]", ConfigFacts("b")),
        ("backbone: ${models.0}\nmodels: [a, b]", ConfigFacts("a")),
        ("scheduler: ${data}\ndata: {dataset_name: math}", ConfigFacts(dataset="math")),
        ("scheduler: {dataset_name: '${.name}', name: math}", ConfigFacts(dataset="math")),
        ("scheduler: {dataset_name: '${..name}'}\nname: math", ConfigFacts(dataset="math")),
        ("scheduler: ${d}\nd: {dataset_name: '${d.x}', x: math}", ConfigFacts(dataset="math")),
        ("gns_probe: {enabled: '${debug}'}\ndebug: true", ConfigFacts(gns_probe=True)),
        ("total_steps: x${n}\nn: 1", ConfigFacts()),
        ("backbone: ${oc.env:HOME}", ConfigFacts()),
        ("backbone: ${oc.env:HOME,/x}/model-7b", ConfigFacts()),
        ("backbone: ${a}\na: ${backbone}", ConfigFacts()),
        ("backbone: ${backbone}", ConfigFacts()),
        ("backbone: ${nowhere.at.all}", ConfigFacts()),
        ("backbone: x${${a}}\na: b\nb: c", ConfigFacts()),
        ("backbone: ${....x}\nx: y", ConfigFacts()),
        ("backbone: ${m}\nm: [a]", ConfigFacts()),
        ("backbone: 'a${m}'\nm: {a: b}", ConfigFacts()),
        ("backbone: '${'", ConfigFacts()),
        ("backbone: ${}", ConfigFacts()),
        ("\n".join(f"k{n}: ${{k{n + 1}}}" for n in range(2000)) + "\nbackbone: ${k0}", ConfigFacts()),
        ("backbone: " + "${a}" * 60 + "\na: " + "${b}" * 60 + "\nb: x", ConfigFacts()),
    ],
)
def test_a_placeholder_is_looked_up_in_the_same_file(text: str, expected: ConfigFacts) -> None:
    """Within bounds, and without cycles; one that can't be resolved counts as absent."""
    assert parse_config(text.encode()) == expected


def test_placeholders_of_other_files_are_resolved_too() -> None:
    """A training_info.json that copies the configuration, and an eval_config.yaml."""
    info = {"model_config": {"backbone": "${model.path}"}, "training_config": {"model": {"path": "a/b"}}}
    assert parse_training_info(json.dumps(info).encode()).backbone == "a/b"
    text = b"training_run: ${run}\nrun: run_2025-08-20_03-31-43\neval_dataset: ${data.name}\ndata: {name: math}\n"
    assert parse_eval_config(text) == EvalConfig("run_2025-08-20_03-31-43", "math")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{? ", "[{a: "])
def test_deep_yaml_is_refused(opening: str) -> None:
    """Nesting of any kind ends at a fixed depth, far from the interpreter's."""
    with pytest.raises(InvalidFacts, match="deeper"):
        parse_config(("x:\n  " + opening * 10_000).encode())


def test_moderate_nesting_is_read() -> None:
    """A config that nests some levels is none the worse for it."""
    assert parse_config(b"x: " + b"[" * 20 + b"]" * 20 + b"\ntotal_steps: 3").total_steps == 3


def test_a_large_file_is_refused_by_its_size() -> None:
    """Nothing that is larger than a small file is parsed at all."""
    large = b"a: " + b"x" * MAX_FACT_BYTES
    for parse in (parse_config, parse_eval_config, parse_training_info):
        with pytest.raises(InvalidFacts, match="larger"):
            parse(large)


def test_the_slowest_config_is_read_in_bounded_time() -> None:
    """A config of the greatest size, made of the smallest pieces, does not hold anyone up."""
    before = time.process_time()
    parse_config(b"a: b\n" * (MAX_FACT_BYTES // 5))
    assert time.process_time() - before < 2


def test_a_training_info_gives_step_model_and_world() -> None:
    """The facts stand in three sections of the file; the rest of it is ignored."""
    info = {
        "step": 40,
        "global_step": 40,
        "model_config": {"backbone": "Qwen/Qwen2.5-1.5B"},
        "training_config": {"total_steps": 30, "lr": float("nan")},
        "distributed_info": {"world_size": 2, "rank": 0},
    }
    assert parse_training_info(json.dumps(info).encode()) == TrainingInfo(40, "Qwen/Qwen2.5-1.5B", 2)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"step": "40", "model_config": [], "distributed_info": "x"}',
        '{"step": true, "model_config": {"backbone": 3}}',
        '{"step": -1, "distributed_info": {"world_size": 1e99}}',
        '{"step": NaN, "model_config": {"backbone": ""}}',
        '{"step": 40.0}',
        '{"model_config": {"backbone": "\\ud800"}}',
        '{"model_config": {"backbone": "\\udcff"}}',
    ],
)
def test_a_training_info_of_wrong_types_says_nothing(text: str) -> None:
    """What is not of the type that is expected counts as absent; text that no database takes does, too."""
    assert parse_training_info(text.encode()) == TrainingInfo()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"step": 4',
        b"[1]",
        b"40",
        b"\xff{}",
        b'{"a":' * 5000,
        b"[" * 60_000,
        b'{"step": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_training_info_that_is_not_whole_is_refused(raw: bytes) -> None:
    """Torn, deep and huge JSON is refused as a value; nothing else is raised."""
    with pytest.raises(InvalidFacts):
        parse_training_info(raw)


def test_an_eval_config_links_an_eval_to_its_run() -> None:
    """The run's name and the dataset are texts, or absent."""
    text = b"training_run: run_2025-08-20_03-31-43\neval_dataset: gsm8k\nsteps_evaluated: [10, 20]\n"
    assert parse_eval_config(text) == EvalConfig("run_2025-08-20_03-31-43", "gsm8k")
    assert parse_eval_config(b"training_run: 2025-08-20\neval_dataset: 3") == EvalConfig()


@pytest.mark.parametrize("raw", [b'{"step": 10}', b"[]", b'{"big": "' + b"x" * 100_000 + b'"}'])
def test_a_whole_marker_is_accepted(raw: bytes) -> None:
    """Any whole JSON object or list marks its group, a large summary as well."""
    check_marker(raw)


@pytest.mark.parametrize("raw", [b"", b'{"step": 1', b"10", b"[" * 100_000, b"null"])
def test_a_torn_marker_is_refused(raw: bytes) -> None:
    """What could be the beginning of something longer marks nothing."""
    with pytest.raises(InvalidFacts):
        check_marker(raw)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('{"base_model_name_or_path": "Qwen/Qwen2.5-1.5B", "r": 16}', "Qwen/Qwen2.5-1.5B"),
        ('{"base_model_name_or_path": "/models/Qwen2.5-1.5B/"}', "/models/Qwen2.5-1.5B/"),
        ('{"base_model_name_or_path": null}', None),
        ('{"base_model_name_or_path": ["x"]}', None),
        ("{}", None),
    ],
)
def test_an_adapter_says_what_it_was_trained_on(text: str, model: str | None) -> None:
    """An id or a path, as it stands there."""
    assert parse_adapter_config(text.encode()) == model
