"""The files of evals, as pure functions of the eval and the step: configs, metrics, metadata, records, summaries.

The forms are those of real eval software with their peculiarities: blank cells, `pass_rate` that always divides by 8,
NaN and -Infinity tokens. No I/O, no clock; the same eval gives the same bytes.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence

import yaml

from harvestd.convention.structs import Immutable
from harvestd.demo.content import RunSpec, fraction, wobble

Step = int | str
"""A checkpoint's number, "final", "base" or "base_full"."""

_BASE_SKILL = 0.42
_PASS_RATE_DIVISOR = 8


class EvalSpec(Immutable):
    """The facts of one made-up eval of one run's checkpoints (or of the base model) on one dataset."""

    run: RunSpec
    dataset: str = "gsm8k_r1_template"
    """The dataset of the eval; not the one of the fine-tuning."""
    questions: int = 40
    temperature: float = 0.7
    top_p: float = 1.0
    generations: int = 8
    """Answers for each question (num_return_sequences)."""
    subset_frac: float = 1.0
    batch_size: int = 54

    @property
    def leaf(self) -> str:
        """The leaf's name, `temp0.7_p1.0_r8`."""
        return f"temp{self.temperature}_p{self.top_p}_r{self.generations}"


def eval_config(spec: EvalSpec, steps: str | Sequence[int]) -> dict[str, object]:
    """Return the parsed content of eval_config.yaml; it links the eval to its run."""
    return {
        "backbone": spec.run.eval_backbone,
        "eval_dataset": spec.dataset,
        "batch_size": spec.batch_size,
        "subset_frac": spec.subset_frac,
        "temperature": spec.temperature,
        "top_p": spec.top_p,
        "num_return_sequences": spec.generations,
        "max_new_tokens": 200,
        "training_run": spec.run.name,
        "training_run_dir": f"/lambda/nfs/localfs/training_runs/{spec.run.name}",
        "steps_evaluated": steps if isinstance(steps, str) else list(steps),
    }


def eval_config_yaml(spec: EvalSpec, steps: str | Sequence[int] = "all") -> bytes:
    """Return eval_config.yaml; `steps` is "all" or the list of those that were evaluated."""
    return yaml.safe_dump(eval_config(spec, steps), sort_keys=False).encode()


def run_meta(spec: EvalSpec, step: Step, models: str) -> bytes:
    """Return run_meta.json, the file that seals a leaf; `models` is the leaf's path down to `…_finetuned`."""
    decoding = {
        "temperature": spec.temperature,
        "top_p": spec.top_p,
        "num_return_sequences": spec.generations,
    }
    meta = {
        "ckpt_dir": f"/lambda/nfs/localfs/eval_runs/{models}/checkpoint-{step}",
        "step": step,
        "subset_frac": spec.subset_frac,
        "batch_size": spec.batch_size,
        "decoding_cfg": decoding,
    }
    return json.dumps(meta, indent=2).encode()


def _skill(step: Step, run: RunSpec) -> float:
    """Return the probability that the model of this step answers a question correctly."""
    if isinstance(step, str):
        if step != "final":
            return _BASE_SKILL
        step = run.total_steps
    return _BASE_SKILL + 0.3 * step / (step + 30)


def _answers(spec: EvalSpec, step: Step, question: int) -> list[bool]:
    """Return for each answer to a question whether it is correct: questions differ, steps get better."""
    ease = fraction("ease", spec.dataset, question) - 0.5
    skill = _skill(step, spec.run) + 0.6 * ease
    return [fraction(spec.run.name, spec.dataset, step, question, n) < skill for n in range(spec.generations)]


def _powers_of_two(up_to: int) -> list[int]:
    return [2**n for n in range(up_to.bit_length())]


def metrics_row(spec: EvalSpec, step: Step, question: int) -> dict[str, object]:
    """Return one row of metrics.csv by its columns."""
    right = _answers(spec, step, question)
    mean = wobble(110, 15, spec.dataset, step, question, "length")
    spread = abs(wobble(16, 3, spec.dataset, step, question, "spread"))
    entropy = abs(wobble(0.6, 0.1, spec.dataset, step, question, "entropy"))
    row: dict[str, object] = {"q_idx": question, "tag_ok_ave": 1.0, "tag_ok_any": 1}
    row["pass_rate"] = sum(right) / _PASS_RATE_DIVISOR
    for k in _powers_of_two(spec.generations):
        row[f"pass@{k}"] = int(any(right[:k]))
    row |= {"len_min": int(mean - spread), "len_max": int(mean + spread)}
    row |= {"len_mean": round(mean, 1), "len_std": round(spread, 1)}
    # Where a question's entropies were not kept, its cells are blank.
    blank = fraction("blank", spec.dataset, step, question) < 1 / 20
    for name, factor in (("mean", 1.0), ("std", 2.0), ("max", 13.0), ("p95", 6.0)):
        row[f"entropy_{name}"] = "" if blank else round(entropy * factor, 3)
    return row


def metrics_csv(spec: EvalSpec, step: Step) -> bytes:
    """Return metrics.csv: a row a question; the pass@k columns go up to the number of answers."""
    return _csv([metrics_row(spec, step, question) for question in range(spec.questions)])


def _csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def records_jsonl_gz(spec: EvalSpec, step: Step) -> bytes:
    """Return records.jsonl.gz: a line a question with all its answers; NaN and -Infinity tokens occur in it."""
    lines = []
    for question in range(spec.questions):
        right = _answers(spec, step, question)
        logprobs = [-round(fraction(step, question, n), 4) for n in range(5)]
        record = {
            "step": step,
            "q_idx": question,
            "prompt": f"Question {question}: how many?",
            "generations": [f"<think>…</think><answer>{question + (not ok)}</answer>" for ok in right],
            "gold": str(question),
            "logprobs": [[*logprobs, float("-inf")] for _ in right],
            "entropies": [[0.5, float("nan")] for _ in right],
            "cfg": {"temperature": spec.temperature, "top_p": spec.top_p, "num_return_sequences": spec.generations},
        }
        lines.append(record)
    return gzip.compress(_jsonl(lines), mtime=0)


def predictions_jsonl(spec: EvalSpec, step: Step) -> bytes:
    """Return a batch eval's predictions.jsonl: a line a question with its first answer."""
    return _jsonl(
        {"q_idx": question, "prediction": str(question + (not right[0])), "gold": str(question), "correct": right[0]}
        for question in range(spec.questions)
        for right in (_answers(spec, step, question),)
    )


def _jsonl(lines: Iterable[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def summary(spec: EvalSpec, step: Step) -> dict[str, object]:
    """Return a batch eval's summary of one step, parsed: the means over its questions."""
    rows = [_answers(spec, step, question) for question in range(spec.questions)]
    means = {f"pass@{k}": sum(any(row[:k]) for row in rows) / len(rows) for k in _powers_of_two(spec.generations)}
    return {"step": step, "dataset": spec.dataset, "num_questions": spec.questions, **means}


def summary_json(spec: EvalSpec, step: Step) -> bytes:
    """Return a batch eval's results/step_N/summary.json."""
    return json.dumps(summary(spec, step), indent=2).encode()


def consolidated_summary_json(spec: EvalSpec, steps: Sequence[Step]) -> bytes:
    """Return a batch eval's results/consolidated_summary.json."""
    return json.dumps({"steps": {str(step): summary(spec, step) for step in steps}}, indent=2).encode()


def consolidated_metrics_csv(spec: EvalSpec, steps: Sequence[Step]) -> bytes:
    """Return a batch eval's results/consolidated_metrics.csv: a row a step."""
    return _csv([summary(spec, step) for step in steps])


def batch_metadata_json(spec: EvalSpec, steps: Sequence[Step]) -> bytes:
    """Return a batch eval's metadata.json."""
    metadata = {
        "training_run": spec.run.name,
        "eval_dataset": spec.dataset,
        "steps": list(steps),
        "num_return_sequences": spec.generations,
    }
    return json.dumps(metadata, indent=2).encode()
