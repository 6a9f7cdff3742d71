"""Write made-up runs and evals into a directory as the real software does: in its order, and nothing atomically.

`root` always represents the host's /home/ubuntu/localfs. Plain synchronous code, meant for a simulated host's
directory; it must never be used on a data root. A test can create the partial states that a reader may see: each group
can be written up to its marker (`begin_…`) and sealed later (`seal_…`).
"""

from pathlib import Path

from harvestd.demo import content, eval_content
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec, Step

FINAL = "final"


class RunWriter:
    """Writes one training run below `root`/training_runs; the caller keeps the order start, log_step…, finish."""

    def __init__(self, root: Path, run: RunSpec) -> None:
        self.run = run
        self.directory = root / "training_runs" / run.name
        self.last_step = 0
        """The last step that was logged."""

    @property
    def train_log(self) -> Path:
        """The path of the log that `log_step` appends to."""
        return self.directory / "logs" / "train_log.jsonl"

    @property
    def events(self) -> Path:
        """The TensorBoard file that log_step appends to."""
        return self.directory / "tensorboard" / self.run.events_name

    def start(self) -> None:
        """Create the run's directories, config.yaml and a TensorBoard file with only its head."""
        for name in ("logs", "tensorboard", "training_state"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "config.yaml").write_bytes(content.config_yaml(self.run))
        self.events.write_bytes(content.events_head(self.run))

    def log_step(self, step: int) -> None:
        """Append `step` to the log and to TensorBoard."""
        _append(self.train_log, content.log_line(self.run, step))
        _append(self.events, content.events(self.run, step))
        self.last_step = step

    def log_until(self, step: int) -> None:
        """Append every step after the last one, up to and including `step`."""
        for n in range(self.last_step + 1, step + 1):
            self.log_step(n)

    def begin_checkpoint(self, step: Step) -> Path:
        """Write a checkpoint without the file that seals it; return its directory. "final" is of the last step."""
        number = self._number(step)
        directory = self.directory / "training_state" / f"step_{step}"
        model = directory / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "README.md").write_bytes(content.model_card(self.run))
        (model / "adapter_config.json").write_bytes(content.adapter_config(self.run))
        (model / "adapter_model.safetensors").write_bytes(content.adapter_safetensors(self.run, number))
        (directory / "optimizer.pt").write_bytes(content.optimizer_pt(self.run, number))
        (directory / "scheduler.pt").write_bytes(content.scheduler_pt(self.run, number))
        return directory

    def seal_checkpoint(self, step: Step) -> None:
        """Write training_info.json, then point the relative link step_latest to this checkpoint."""
        directory = self.directory / "training_state" / f"step_{step}"
        (directory / "training_info.json").write_bytes(content.training_info(self.run, self._number(step)))
        latest = directory.with_name("step_latest")
        latest.unlink(missing_ok=True)
        latest.symlink_to(directory.name)

    def checkpoint(self, step: Step) -> None:
        """Write a complete checkpoint."""
        self.begin_checkpoint(step)
        self.seal_checkpoint(step)

    def finish(self) -> None:
        """Write step_final of the last logged step, which marks the run as finished."""
        self.checkpoint(FINAL)

    def resume(self) -> None:
        """Write resume_config.yaml, as for a run that is resumed in place: it goes on logging, and may finish again."""
        (self.directory / "resume_config.yaml").write_bytes(content.config_yaml(self.run))

    def rollouts(self, step: int) -> None:
        """Append to logs/rollouts.jsonl, which is not fetched."""
        _append(self.directory / "logs" / "rollouts.jsonl", content.rollouts(self.run, step))

    def _number(self, step: Step) -> int:
        return step if isinstance(step, int) else self.last_step


class EvalWriter:
    """Writes evals of the layouts A, B and C below `root`/eval_runs, a leaf a step.

    `place` is the path between eval_runs and the backbone: the run's evals (A) or nothing (B, C); `backbone` is the
    short name (A, B) or a hub id, whose slash adds a level (C). Create one with the functions below.
    """

    def __init__(self, eval_runs: Path, place: str, backbone: str, spec: EvalSpec) -> None:
        self.spec = spec
        self.directory = eval_runs / place
        self._models = self.directory / f"{backbone}_{spec.run.dataset}_finetuned"
        self._models_name = self._models.relative_to(eval_runs).as_posix()

    def write_config(self) -> None:
        """Write eval_config.yaml, the first file of a run's eval."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "eval_config.yaml").write_bytes(eval_content.eval_config_yaml(self.spec))

    def leaf(self, step: Step) -> Path:
        """Return the directory of one step's results."""
        return self._models / f"step_{step}_{self.spec.dataset}" / self.spec.leaf

    def begin(self, step: Step) -> Path:
        """Write records and metrics, in this order, without the file that seals them; return the leaf."""
        leaf = self.leaf(step)
        leaf.mkdir(parents=True, exist_ok=True)
        (leaf / "records.jsonl.gz").write_bytes(eval_content.records_jsonl_gz(self.spec, step))
        (leaf / "metrics.csv").write_bytes(eval_content.metrics_csv(self.spec, step))
        return leaf

    def seal(self, step: Step) -> None:
        """Write run_meta.json, which marks the leaf as complete."""
        (self.leaf(step) / "run_meta.json").write_bytes(eval_content.run_meta(self.spec, step, self._models_name))

    def evaluate(self, step: Step) -> None:
        """Write a complete leaf; for an existing one this is a re-evaluation, which rewrites it in place."""
        self.begin(step)
        self.seal(step)


def evals_of_run(root: Path, spec: EvalSpec) -> EvalWriter:
    """Return layout A, the convention's own: below eval_runs/{run}_{eval dataset}/{backbone}_{dataset}_finetuned."""
    return EvalWriter(root / "eval_runs", f"{spec.run.name}_{spec.dataset}", spec.run.eval_backbone, spec)


def base_evals(root: Path, spec: EvalSpec) -> EvalWriter:
    """Return layout B, without a run, for base evals: below eval_runs/{backbone}_{dataset}_finetuned."""
    return EvalWriter(root / "eval_runs", "", spec.run.eval_backbone, spec)


def hub_evals(root: Path, spec: EvalSpec) -> EvalWriter:
    """Return layout C, without a run and with a hub id: below eval_runs/Qwen/Qwen2.5-1.5B_{dataset}_finetuned."""
    return EvalWriter(root / "eval_runs", "", spec.run.backbone, spec)


class BatchEvalWriter:
    """Writes layout D, a batch eval: no run_meta.json; each step has a summary, and there is one of all steps."""

    def __init__(self, root: Path, spec: EvalSpec) -> None:
        self.spec = spec
        self.directory = root / "eval_runs" / f"{spec.run.name}_{spec.dataset}"
        self._steps: list[Step] = []

    def start(self, steps: tuple[Step, ...]) -> None:
        """Write config.yaml, metadata.json and a log; `steps` are those that will be evaluated."""
        (self.directory / "logs").mkdir(parents=True)
        (self.directory / "config.yaml").write_bytes(eval_content.eval_config_yaml(self.spec))
        (self.directory / "metadata.json").write_bytes(eval_content.batch_metadata_json(self.spec, steps))
        (self.directory / "logs" / "eval.log").write_text("INFO starting batch evaluation\n")

    def evaluate(self, step: Step) -> None:
        """Write results/step_N: records, metrics, predictions and, last, the summary."""
        directory = self.directory / "results" / f"step_{step}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "records.jsonl.gz").write_bytes(eval_content.records_jsonl_gz(self.spec, step))
        (directory / "metrics.csv").write_bytes(eval_content.metrics_csv(self.spec, step))
        (directory / "predictions.jsonl").write_bytes(eval_content.predictions_jsonl(self.spec, step))
        (directory / "summary.json").write_bytes(eval_content.summary_json(self.spec, step))
        self._steps.append(step)

    def finish(self) -> None:
        """Write results/consolidated_metrics.csv and consolidated_summary.json over the steps so far."""
        results = self.directory / "results"
        (results / "consolidated_metrics.csv").write_bytes(
            eval_content.consolidated_metrics_csv(self.spec, self._steps)
        )
        (results / "consolidated_summary.json").write_bytes(
            eval_content.consolidated_summary_json(self.spec, self._steps)
        )


def write_husk(root: Path, timestamp: str) -> Path:
    """Write what a multi-GPU start leaves beside the real run: a run directory without config.yaml; return it."""
    directory = root / "training_runs" / f"run_{timestamp}"
    for name in ("logs", "tensorboard"):
        (directory / name).mkdir(parents=True)
    return directory


def write_notebook_leftovers(file: Path) -> None:
    """Write the files that Jupyter leaves beside an opened `file`: .ipynb_checkpoints with a copy of it."""
    directory = file.parent / ".ipynb_checkpoints"
    directory.mkdir(exist_ok=True)
    (directory / f"{file.stem}-checkpoint{file.suffix}").write_bytes(file.read_bytes())


def write_convention_example(root: Path) -> None:
    """Write the example in the convention's text, finished and evaluated: run_2025-08-20_03-31-43 of 64 steps."""
    run = RunSpec()
    writer = RunWriter(root, run)
    writer.start()
    for step in range(run.save_every, run.total_steps, run.save_every):
        writer.log_until(step)
        writer.rollouts(step)
        writer.checkpoint(step)
    writer.log_until(run.total_steps)
    writer.finish()
    spec = EvalSpec(run)
    evals = evals_of_run(root, spec)
    evals.write_config()
    for step in range(run.save_every, run.total_steps, run.save_every):
        evals.evaluate(step)
    base_evals(root, spec).evaluate("base_full")
    write_notebook_leftovers(writer.directory / "config.yaml")
    write_notebook_leftovers(evals.leaf(run.save_every) / "metrics.csv")


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
