"""The binary files of a training run, valid in their framing: TensorBoard events, safetensors, PyTorch archives.

Each is built from its published format, so that the demo needs neither TensorFlow nor PyTorch: TFRecord (length, masked
CRC-32C, data, masked CRC-32C), safetensors (length of a JSON header, header, tensors) and torch.save's uncompressed zip
archive. No I/O, no clock.
"""

import io
import json
import pickle
import struct
import zipfile

from harvestd.convention.scan.framing import masked_crc32c
from harvestd.demo.chance import made_up_bytes
from harvestd.demo.content import STEP_SECONDS, RunSpec, scalars

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
