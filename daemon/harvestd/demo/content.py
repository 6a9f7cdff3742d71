"""The text files of a training run, as pure functions of the run and the step: config, log, checkpoints.

The forms are those of real training software with their peculiarities: a duplicate key, keys that are no identifiers,
NaN tokens, columns that are absent in the first steps. No I/O, no clock; the same run gives the same bytes.

The binary files of a training run, valid in their framing: TensorBoard events, safetensors, PyTorch archives. Each is
built from its published format, so that the demo needs neither TensorFlow nor PyTorch: TFRecord (length, masked
CRC-32C, data, masked CRC-32C), safetensors (length of a JSON header, header, tensors) and torch.save's uncompressed
zip archive. No I/O, no clock.

Made-up numbers that are the same on every machine and in every order of calls: hashes of their purpose. They are not
random: two demos write the same bytes, so that a test can compare the results.
"""

import hashlib
import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import yaml

from harvestd.convention.scan.completeness import masked_crc32c
from harvestd.convention.structs import Immutable


def made_up_bytes(count: int, *what: object) -> bytes:
    """Return `count` bytes that no compressor shrinks, always the same ones for the same `what`."""
    return hashlib.shake_256(repr(what).encode()).digest(count)


def fraction(*what: object) -> float:
    """Return a number in [0, 1), always the same one for the same `what`."""
    return int.from_bytes(made_up_bytes(6, *what), "big") / 2**48


def wobble(value: float, spread: float, *what: object) -> float:
    """Return `value` with a normally distributed deviation of about `spread`, rounded as in training logs."""
    # The Box-Muller transform; 1 - fraction is never 0.
    radius = math.sqrt(-2 * math.log(1 - fraction("radius", *what)))
    return round(value + spread * radius * math.cos(2 * math.pi * fraction("angle", *what)), 6)


STEP_SECONDS = 225
"""Duration of a step of the made-up runs by the host's clock: 64 steps in four hours."""
GNS_FIRST_STEP = 4
"""The gradient-noise probe has no values before this step."""
_NAN = float("nan")
_NAN_STEP = 2
_RATIO_PARTS = ("mean", "median", "p90", "p99", "max")


class RunSpec(Immutable):
    """The facts of one made-up training run; all of its files follow from them."""

    timestamp: str = "2025-08-20_03-31-43"
    """In the form of the run directory's name: the host's local time, taken for UTC here."""
    backbone: str = "Qwen/Qwen2.5-1.5B"
    eval_backbone: str = "qwen2_5_15"
    dataset: str = "gsm8k"
    """The dataset of the fine-tuning."""
    total_steps: int = 64
    save_every: int = 10
    gns_probe: bool = True
    gns_window: int = 16
    world_size: int = 1
    hostname: str = "192-222-52-195"
    adapter_bytes: int = 64 * 1024
    """Of the tensors in adapter_model.safetensors; optimizer.pt has twice as many."""

    @property
    def name(self) -> str:
        """The run's directory, `run_2025-08-20_03-31-43`."""
        return f"run_{self.timestamp}"

    @property
    def started(self) -> int:
        """The run's start as Unix time in seconds."""
        return int(datetime.strptime(self.timestamp, "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC).timestamp())

    @property
    def events_name(self) -> str:
        """The name of the run's TensorBoard file: `events.out.tfevents.{epoch}.{hostname}.{pid}.0`."""
        return f"events.out.tfevents.{self.started}.{self.hostname}.{2000 + self.started % 997}.0"


def config(run: RunSpec) -> dict[str, object]:
    """Return the parsed content of the run's config.yaml."""
    return {
        "backbone": run.backbone,
        "eval_backbone": run.eval_backbone,
        "total_steps": run.total_steps,
        "save_every": run.save_every,
        "batch_size": 4,
        "buffer_size": 32,
        "grad_accum_steps": 8,
        "num_generations": 8,
        "max_new_tokens": 200,
        "lr": 1e-6,
        "clip_eps": 0.2,
        "clip_+": 0.28,
        'cfg["kl_beta"]': 0.0,
        "grad_clip": 1.0,
        "reward_fns": ["tag_pref"],
        "lora": {"r": 64, "lora_alpha": 128, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]},
        "scheduler": {"name": "mix_passrate", "dataset_name": run.dataset, "split": "train", "ratio": [0.7, 0.3]},
        "gns_probe": {"enabled": run.gns_probe, "window_size": run.gns_window, "ema_alpha": 0.1, "debug": False},
        "simple_entropy_probe": {"enabled": False},
        "entropy_probe": {"enabled": False},
    }


def config_yaml(run: RunSpec) -> bytes:
    """Return config.yaml. As in real ones a key occurs twice, and the last one wins."""
    head = f"# rl_train --config {run.eval_backbone}_{run.dataset}\nsave_every: 25   # overridden below\n"
    return (head + yaml.safe_dump(config(run), sort_keys=False)).encode()


def log_row(run: RunSpec, step: int) -> dict[str, float]:
    """Return one row of train_log.jsonl by its keys; `step` counts from 1."""
    progress = step / (step + 30)
    row: dict[str, float] = {
        "step": step,
        "loss": wobble(-0.02 * progress, 0.01, run.name, step, "loss"),
        "entropy": wobble(0.9 - 0.4 * progress, 0.03, run.name, step, "entropy"),
        "kl": abs(wobble(0.002 * progress, 0.0005, run.name, step, "kl")),
        "r_mean": wobble(-0.2 + 1.1 * progress, 0.08, run.name, step, "reward"),
        "tag_correct": round(min(1.0, 0.3 + progress + 0.1 * fraction(run.name, step, "tag")), 4),
        "think_len": wobble(110 + 25 * progress, 6, run.name, step, "think"),
    }
    for rank, part in enumerate(_RATIO_PARTS):
        row[f"ratio_{part}"] = round(1 + 0.03 * rank * (1 + fraction(run.name, step, "ratio", part)), 6)
    row["ratio_clip_frac"] = round(0.02 * fraction(run.name, step, "clip"), 6)
    # Some software divides by a spread of zero in its first buffers.
    row["logr_std"] = _NAN if step == _NAN_STEP else abs(wobble(0.04, 0.01, run.name, step, "logr"))
    if run.gns_probe and step >= GNS_FIRST_STEP:
        row |= _gns(run, step)
    return row


def _gns(run: RunSpec, step: int) -> dict[str, float]:
    critical = abs(wobble(40 + step, 12, run.name, step, "gns"))
    mu = abs(wobble(0.8, 0.1, run.name, step, "mu")) + 0.01
    averaged = round(40 + step + 2 * fraction(run.name, step, "ema"), 6)
    return {
        "gns_noise_to_signal": round(critical / 32, 6),
        "gns_mu": mu,
        "gns_tr_sigma": round(critical * mu, 6),
        "gns_critical_batch": critical,
        "gns_ema_noise_to_signal": round(averaged / 32, 6),
        "gns_ema_mu": 0.8,
        "gns_ema_tr_sigma": round(averaged * 0.8, 6),
        "gns_ema_critical_batch": averaged,
        "gns_window_size": min(step, run.gns_window),
    }


def log_line(run: RunSpec, step: int) -> bytes:
    """Return one line of train_log.jsonl with its newline; it may hold NaN tokens, as Python's json writes them."""
    return json.dumps(log_row(run, step)).encode() + b"\n"


def train_log(run: RunSpec, steps: range) -> bytes:
    """Return the lines of train_log.jsonl for `steps`."""
    return b"".join(log_line(run, step) for step in steps)


def scalars(run: RunSpec, step: int) -> Iterator[tuple[str, float]]:
    """Yield tag and value of the run's TensorBoard scalars at `step`."""
    for key, value in log_row(run, step).items():
        if key != "step":
            yield f"train/{key}", value


def rollouts(run: RunSpec, step: int) -> bytes:
    """Return the lines that logs/rollouts.jsonl grows by at `step`: large, and not fetched."""
    lines = [
        {"step": step, "q_idx": question, "prompt": f"Question {question}?", "gen": "<think>\n" + "so " * 200}
        for question in range(4)
    ]
    return "".join(json.dumps({**line, "run": run.name}) + "\n" for line in lines).encode()


def training_info(run: RunSpec, step: int) -> bytes:
    """Return a checkpoint's training_info.json, the file that seals it; for step_final `step` is the last one."""
    info: Mapping[str, object] = {
        "step": step,
        "global_step": step,
        "epoch": 0,
        "model_config": {"backbone": run.backbone, "eval_backbone": run.eval_backbone},
        "training_config": config(run),
        "distributed_info": {"world_size": run.world_size, "rank": 0, "local_rank": 0},
    }
    return json.dumps(info, indent=2).encode()


def adapter_config(run: RunSpec) -> bytes:
    """Return a checkpoint's model/adapter_config.json, as peft writes it."""
    return json.dumps(
        {
            "base_model_name_or_path": run.backbone,
            "bias": "none",
            "lora_alpha": 128,
            "lora_dropout": 0.05,
            "peft_type": "LORA",
            "r": 64,
            "target_modules": ["q_proj", "v_proj"],
            "task_type": "CAUSAL_LM",
        },
        indent=2,
    ).encode()


def model_card(run: RunSpec) -> bytes:
    """Return a checkpoint's model/README.md."""
    return f"---\nbase_model: {run.backbone}\nlibrary_name: peft\n---\n\n# Model Card for Model ID\n".encode()


_WIRE_VARINT, _WIRE_FIXED64, _WIRE_BYTES, _WIRE_FIXED32 = 0, 1, 2, 5


def tfrecord(data: bytes) -> bytes:
    """Return `data` framed as one TFRecord."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))),
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte, as protocol buffers have it
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _delimited(field: int, data: bytes) -> bytes:
    return _key(field, _WIRE_BYTES) + _varint(len(data)) + data


def events_head(run: RunSpec) -> bytes:
    """Return the first record of the run's TensorBoard file, which holds the format's version."""
    wall_time = _key(1, _WIRE_FIXED64) + struct.pack("<d", run.started)
    return tfrecord(wall_time + _delimited(3, b"brain.Event:2"))


def events(run: RunSpec, step: int) -> bytes:
    """Return the records of one step: an Event with one simple value for each scalar, as SummaryWriter writes them."""
    wall_time = _key(1, _WIRE_FIXED64) + struct.pack("<d", run.started + step * STEP_SECONDS)
    when = wall_time + _key(2, _WIRE_VARINT) + _varint(step)
    records = []
    for tag, value in scalars(run, step):
        simple = _delimited(1, tag.encode()) + _key(2, _WIRE_FIXED32) + struct.pack("<f", value)
        records.append(tfrecord(when + _delimited(5, _delimited(1, simple))))
    return b"".join(records)


def adapter_safetensors(run: RunSpec, step: int) -> bytes:
    """Return model/adapter_model.safetensors: two low-rank matrices of float32, `run.adapter_bytes` together."""
    rank = 8
    columns = max(run.adapter_bytes // (2 * 4 * rank), 1)
    half = columns * rank * 4
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    header = {
        "__metadata__": {"format": "pt"},
        f"{layer}.lora_A.weight": {"dtype": "F32", "shape": [rank, columns], "data_offsets": [0, half]},
        f"{layer}.lora_B.weight": {"dtype": "F32", "shape": [columns, rank], "data_offsets": [half, 2 * half]},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + made_up_bytes(2 * half, run.name, step, "adapter")


def _torch_archive(name: str, state: object, storage: bytes) -> bytes:
    """Return an archive in the form of torch.save: an uncompressed zip with the pickled structure and one storage."""
    members = {
        "data.pkl": pickle.dumps(state, protocol=2),
        "byteorder": b"little",
        "data/0": storage,
        "version": b"3\n",
        ".data/serialization_id": str(len(storage)).zfill(40).encode(),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}/{member}"), data)
    return buffer.getvalue()


def optimizer_pt(run: RunSpec, step: int) -> bytes:
    """Return optimizer.pt: AdamW's two moments, twice the adapter's size."""
    groups = [{"lr": 1e-6, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "params": [0, 1]}]
    state = {"state": {0: {"step": step}, 1: {"step": step}}, "param_groups": groups}
    return _torch_archive("optimizer", state, made_up_bytes(2 * run.adapter_bytes, run.name, step, "optimizer"))


def scheduler_pt(run: RunSpec, step: int) -> bytes:
    """Return scheduler.pt: small."""
    state = {"base_lrs": [1e-6], "last_epoch": step, "_step_count": step + 1, "total_steps": run.total_steps}
    return _torch_archive("scheduler", state, b"")
