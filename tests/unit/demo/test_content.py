"""What the made-up software writes has the forms of the real one's files."""

import csv
import gzip
import io
import json
import math
import pickle
import struct
import zipfile

import pytest
import yaml

from harvestd.convention.scan.completeness import masked_crc32c
from harvestd.demo import content, eval_content
from harvestd.demo.content import RunSpec, fraction, made_up_bytes
from harvestd.demo.eval_content import EvalSpec

RUN = RunSpec()
EVAL = EvalSpec(RUN, questions=100)


def test_same_spec_gives_same_bytes() -> None:
    """All contents follow from their specs alone; another run's are different."""
    other = RunSpec(timestamp="2025-08-20_04-00-00")
    for make in (content.adapter_safetensors, content.optimizer_pt, content.log_line):
        assert make(RUN, 10) == make(RunSpec(), 10)
        assert make(RUN, 10) != make(other, 10)
        assert make(RUN, 10) != make(RUN, 20)
    assert eval_content.records_jsonl_gz(EVAL, 10) == eval_content.records_jsonl_gz(EVAL, 10)


def test_made_up_numbers_fill_their_range() -> None:
    """Made-up fractions lie in [0, 1) around one half, and bytes come in the number asked for."""
    numbers = [fraction("x", n) for n in range(500)]
    assert all(0 <= number < 1 for number in numbers)
    assert sum(numbers) / len(numbers) == pytest.approx(0.5, abs=0.05)
    assert len(made_up_bytes(1000, "x")) == 1000


def test_config_has_a_key_twice_and_the_last_one_wins() -> None:
    """config.yaml is loaded by a safe loader, its doubled key has the later value, odd keys survive."""
    text = content.config_yaml(RUN)
    loaded = yaml.safe_load(text)
    assert loaded == content.config(RUN)
    assert text.count(b"save_every:") == 2
    assert loaded["save_every"] == 10
    assert loaded["backbone"] == "Qwen/Qwen2.5-1.5B"
    assert loaded["scheduler"]["dataset_name"] == "gsm8k"
    assert loaded["gns_probe"]["enabled"] is True
    assert {"clip_+", 'cfg["kl_beta"]'} <= loaded.keys()


def test_train_log_lines_have_the_probe_after_the_first_steps() -> None:
    """Each line is a JSON object with its step; gns_* is absent at first, then diluted, then at the full window."""
    lines = content.train_log(RUN, range(1, 65)).splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(1, 65))
    assert all(line.endswith(b"\n") for line in lines)
    assert not any(key.startswith("gns_") for row in rows[:3] for key in row)
    assert [row["gns_window_size"] for row in rows[3:]] == [min(step, 16) for step in range(4, 65)]
    assert {f"gns_ema_{name}" for name in ("noise_to_signal", "mu", "tr_sigma", "critical_batch")} <= rows[-1].keys()
    assert {f"ratio_{name}" for name in ("mean", "median", "p90", "p99", "max", "clip_frac")} <= rows[0].keys()


def test_train_log_holds_a_nan_token_and_no_probe_where_it_is_off() -> None:
    """Python's NaN token occurs in the log, and a run without the probe has none of its keys."""
    text = content.train_log(RunSpec(gns_probe=False), range(1, 20))
    assert b"NaN" in text
    assert b"gns_" not in text
    assert math.isnan(json.loads(text.splitlines()[1])["logr_std"])


def read_records(data: bytes) -> list[bytes]:
    """Return the payloads of TFRecords, checking every length and checksum."""
    found = []
    stream = io.BytesIO(data)
    while head := stream.read(8):
        (length,) = struct.unpack("<Q", head)
        assert struct.unpack("<I", stream.read(4)) == (masked_crc32c(head),)
        payload = stream.read(length)
        assert len(payload) == length
        assert struct.unpack("<I", stream.read(4)) == (masked_crc32c(payload),)
        found.append(payload)
    return found


def test_checksum_is_crc32c_as_published() -> None:
    """The CRC-32C of "123456789" is e3069283; masked as TFRecord does, it is what TensorFlow stores."""
    masked = masked_crc32c(b"123456789")
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == 0xE3069283


def test_events_are_framed_records_with_wall_time_and_scalars() -> None:
    """The events file starts with the version record; a step's records carry its wall time, step, tags and values."""
    head, *records = read_records(content.events_head(RUN) + content.events(RUN, 40))
    assert head.endswith(b"brain.Event:2")
    tags = [tag.encode() for tag, _ in content.scalars(RUN, 40)]
    assert len(records) == len(tags) > 20
    for record, tag in zip(records, tags, strict=True):
        assert struct.unpack("<d", record[1:9]) == (RUN.started + 40 * content.STEP_SECONDS,)
        assert record[9:11] == bytes((2 << 3, 40))
        assert tag in record
    (value,) = struct.unpack("<f", records[0][-4:])
    assert value == pytest.approx(content.log_row(RUN, 40)["loss"], rel=1e-6)


def test_events_name_carries_start_and_hostname() -> None:
    """The TensorBoard file is named after the run's start and the machine that wrote it."""
    assert RUN.events_name.startswith("events.out.tfevents.1755660703.192-222-52-195.")


@pytest.mark.parametrize("size", [64, 64 * 1024, 1_000_000])
def test_safetensors_header_tells_the_length(size: int) -> None:
    """The header's offsets cover exactly what follows it, about as much as was asked for."""
    data = content.adapter_safetensors(RunSpec(adapter_bytes=size), 10)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    assert len(data) == 8 + length + end
    assert length % 8 == 0
    assert end == pytest.approx(size, abs=64)


def test_torch_archives_are_stored_zips_with_a_pickle() -> None:
    """optimizer.pt and scheduler.pt are uncompressed zips as torch.save makes them, with sound checksums."""
    for name, data in (
        ("optimizer", content.optimizer_pt(RUN, 10)),
        ("scheduler", content.scheduler_pt(RUN, 10)),
    ):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            assert {f"{name}/data.pkl", f"{name}/version", f"{name}/data/0"} <= set(archive.namelist())
            assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
            pickle.loads(archive.read(f"{name}/data.pkl"))  # noqa: S301 - made by the line above


def test_training_info_names_step_models_and_world() -> None:
    """training_info.json has the step, the models, the config once more and how many GPUs trained."""
    info = json.loads(content.training_info(RunSpec(world_size=8), 40))
    assert (info["step"], info["global_step"]) == (40, 40)
    assert info["model_config"] == {"backbone": "Qwen/Qwen2.5-1.5B", "eval_backbone": "qwen2_5_15"}
    assert info["training_config"]["total_steps"] == 64
    assert info["distributed_info"] == {"world_size": 8, "rank": 0, "local_rank": 0}


@pytest.mark.parametrize(("generations", "columns"), [(8, [1, 2, 4, 8]), (16, [1, 2, 4, 8, 16]), (1, [1])])
def test_metrics_columns_depend_on_the_answers(generations: int, columns: list[int]) -> None:
    """metrics.csv has a row a question, pass@k up to the number of answers, and pass_rate in eighths whatever it is."""
    spec = EvalSpec(RUN, questions=100, generations=generations)
    rows = list(csv.DictReader(io.StringIO(eval_content.metrics_csv(spec, 10).decode())))
    assert [row["q_idx"] for row in rows] == [str(n) for n in range(100)]
    assert [key for key in rows[0] if key.startswith("pass@")] == [f"pass@{k}" for k in columns]
    for row in rows:
        passes = [int(row[f"pass@{k}"]) for k in columns]
        assert passes == sorted(passes)
        assert (float(row["pass_rate"]) * 8).is_integer()
        assert (float(row["pass_rate"]) > 0) == bool(passes[-1])
    assert 0 < sum(not row["entropy_mean"] for row in rows) < 30


def test_later_steps_pass_more_questions() -> None:
    """The made-up model learns: step 60 passes more than the base model does."""

    def passed(step: eval_content.Step) -> float:
        summary = eval_content.summary(EvalSpec(RUN, questions=400), step)
        return float(str(summary["pass@1"]))

    assert passed("base_full") < passed(60) <= 1


def test_records_hold_tokens_that_are_no_json() -> None:
    """records.jsonl.gz is a whole gzip, a line a question, with the NaN and -Infinity tokens that real ones have."""
    text = gzip.decompress(eval_content.records_jsonl_gz(EVAL, 10))
    assert len(text.splitlines()) == 100
    assert b"NaN" in text
    assert b"-Infinity" in text
    first = json.loads(text.splitlines()[0])
    assert first.keys() == {"step", "q_idx", "prompt", "generations", "gold", "logprobs", "entropies", "cfg"}
    assert len(first["generations"]) == 8


@pytest.mark.parametrize("step", [10, "final", "base_full"])
def test_run_meta_names_the_step_as_given(step: eval_content.Step) -> None:
    """run_meta.json keeps a number a number and a word a word, and has the decoding's settings."""
    meta = json.loads(eval_content.run_meta(EVAL, step, "run_x/qwen2_5_15_gsm8k_finetuned"))
    assert meta["step"] == step
    assert meta["decoding_cfg"] == {"temperature": 0.7, "top_p": 1.0, "num_return_sequences": 8}
    assert meta["ckpt_dir"].endswith(f"eval_runs/run_x/qwen2_5_15_gsm8k_finetuned/checkpoint-{step}")


def test_eval_config_links_the_eval_to_its_run() -> None:
    """eval_config.yaml names the run, the eval dataset and which steps were evaluated."""
    loaded = yaml.safe_load(eval_content.eval_config_yaml(EVAL, [10, 20]))
    assert loaded["training_run"] == "run_2025-08-20_03-31-43"
    assert loaded["eval_dataset"] == "gsm8k_r1_template"
    assert loaded["steps_evaluated"] == [10, 20]


def test_batch_summaries_agree_with_each_other() -> None:
    """A batch eval's consolidated files repeat what its steps' summaries say."""
    steps = (10, "final")
    single = json.loads(eval_content.summary_json(EVAL, 10))
    together = json.loads(eval_content.consolidated_summary_json(EVAL, steps))
    rows = list(csv.DictReader(io.StringIO(eval_content.consolidated_metrics_csv(EVAL, steps).decode())))
    assert together["steps"]["10"] == single
    assert [row["step"] for row in rows] == ["10", "final"]
    assert float(rows[0]["pass@8"]) == single["pass@8"]
    assert json.loads(eval_content.batch_metadata_json(EVAL, steps))["steps"] == [10, "final"]
    assert len(eval_content.predictions_jsonl(EVAL, 10).splitlines()) == 100
