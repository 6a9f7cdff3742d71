"""Learning what a run is before anything of it can be placed: its small files read, its experiment named.

Reads only config.yaml, step_final's training_info.json and eval_config.yaml, each once a version, all of one look in
one answer of the box.
"""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harvestd.convention.artifacts import Kind
from harvestd.convention.facts import (
    MAX_FACT_BYTES,
    ConfigFacts,
    InvalidFacts,
    TrainingInfo,
    parse_config,
    parse_eval_config,
    parse_training_info,
)
from harvestd.convention.layout import EvalDir, Group, RunDir, Source, Survey, Wanted
from harvestd.convention.naming import free_name, name_run
from harvestd.convention.records import EvalLink, ExperimentRecord, RunRecord
from harvestd.convention.seals import unsealed
from harvestd.convention.sightings import Sightings
from harvestd.harvest.house import House
from harvestd.inventory.provider import Host
from harvestd.remote.box import BoxFacts, Chunk, Closed, Failed, Reader, ReadRequest
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

_READINGS = 3
"""How often a file is read at one look, at most, until it is what the box hashed."""


@dataclass(frozen=True, slots=True)
class _Learned:
    """Small files of one look: what their bytes are, for those that did not change while they were read."""

    contents: dict[Source, bytes]

    def of(self, source: Source | None) -> bytes | None:
        return self.contents.get(source) if source else None


class Learning:
    """Learns for one host."""

    def __init__(self, host: Host, house: House, facts: BoxFacts) -> None:
        self._host = host
        self._house = house
        self._storage = house.storage_of(host)
        self._knowledge = house.catalogue.knowledge
        self._gpu_names = facts.gpu_names
        self._invalid: dict[str, object] = {}
        """Places whose present version can't be parsed: not read again until it changes."""

    async def learn(self, seen: Survey, reader: Reader, sightings: Sightings, now: float) -> None:
        """Bring what is known of runs, names and links up to `seen`. Raises `Retry` when the link is lost."""
        settle = self._house.settings.poll.settle.total_seconds()
        configs = [run.config for run in seen.runs if self._wants_config(run, sightings, settle, now)]
        finals = [run.final_info for run in seen.runs if run.config and self._wants_final(run)]
        links = [each.config for each in seen.evals if self._wants_link(each)]
        wanted = [source for source in (*configs, *finals, *links) if source is not None]
        learned = _Learned(await read_small(reader, [each for each in wanted if not self._known_invalid(each)]))
        for eval_dir in seen.evals:
            await self._learn_link(eval_dir, learned)
        for run in sorted(seen.runs, key=lambda each: each.name.timestamp):
            await self._learn_run(run, learned)
        await self._learn_tunings(seen.evals)

    def _known_invalid(self, source: Source) -> bool:
        return self._invalid.get(source.place) == source.version

    def _wants_config(self, run: RunDir, sightings: Sightings, settle: float, now: float) -> bool:
        if run.config is None:
            return False
        record = self._knowledge.run_at(self._storage, run.place)
        if record is not None and record.config_version == run.config.version:
            return False
        single = Group.single(Wanted(run.config, Kind.CONFIG, ("config.yaml",), ""))
        return _is_succeeded(run) or unsealed(single, sightings, settle, now) is None

    def _wants_final(self, run: RunDir) -> bool:
        record = self._knowledge.run_at(self._storage, run.place)
        return run.final_info is not None and (record is None or record.final_version != run.final_info.version)

    def _wants_link(self, eval_dir: EvalDir) -> bool:
        if eval_dir.config is None:
            return False
        link = self._knowledge.eval_link(self._storage, eval_dir.config.place)
        return link is None or link.version != eval_dir.config.version

    async def _learn_link(self, eval_dir: EvalDir, learned: _Learned) -> None:
        raw = learned.of(eval_dir.config)
        if raw is None or eval_dir.config is None:
            return
        try:
            training_run = parse_eval_config(raw).training_run
        except InvalidFacts as e:
            self._reject(eval_dir.config, e)
            return
        link = EvalLink(self._storage, eval_dir.config.place, eval_dir.config.version, training_run)
        await self._house.catalogue.save_eval_link(link)

    async def _learn_run(self, run: RunDir, learned: _Learned) -> None:
        before = self._knowledge.run_at(self._storage, run.place)
        config, final = self._parsed(run, learned)
        if before is None:
            if config is None:
                return
            await self._discover(run, config, final)
            return
        after = before
        if config is not None and run.config is not None:
            after = replace(after, config=config, config_version=run.config.version)
        if final is not None and run.final_info is not None:
            after = replace(after, final=final, final_version=run.final_info.version)
        if after != before:
            await self._house.catalogue.save_run(after)
            if after.finished and not before.finished:
                self._tell_finished(after)

    def _parsed(self, run: RunDir, learned: _Learned) -> tuple[ConfigFacts | None, TrainingInfo | None]:
        final: TrainingInfo | None = None
        raw = learned.of(run.final_info)
        if raw is not None and run.final_info is not None:
            try:
                final = parse_training_info(raw)
            except InvalidFacts as e:
                # A file that is being written does not parse yet: that is the rule, not an error.
                get_logger().debug(Event.PLAN_WAITING, host=self._host.name, path=run.final_info.place, reason=str(e))
        return self._parsed_config(run.config, learned), final

    def _parsed_config(self, source: Source | None, learned: _Learned) -> ConfigFacts | None:
        """Give what a config.yaml says, nothing at all where it can't be parsed; None if it was not read now.

        It is complete when it is read, so an unreadable one stays so: the run comes home under what is known of it.
        """
        raw = learned.of(source)
        if raw is None or source is None:
            return None
        try:
            return parse_config(raw)
        except InvalidFacts as e:
            self._reject(source, e)
            return ConfigFacts()

    async def _discover(self, run: RunDir, config: ConfigFacts, final: TrainingInfo | None) -> None:
        if run.config is None:
            return
        name = name_run(run.name, config, final, self._house.naming_of(self._host, self._gpu_names))
        name = free_name(name, run.name, self._host.name, self._knowledge.is_directory_taken)
        experiment = ExperimentRecord(uuid.uuid4().hex, name)
        record = RunRecord(
            id=uuid.uuid4().hex,
            storage=self._storage,
            place=run.place,
            host=self._host.name,
            name=run.name.name,
            config=config,
            config_version=run.config.version,
            experiment=experiment.id,
            final=final,
            final_version=run.final_info.version if final and run.final_info else None,
        )
        await self._house.catalogue.save_discovery(experiment, record)
        self._house.touch([experiment.id])
        log = get_logger().bind(host=self._host.name, run_id=record.name, experiment=experiment.directory)
        log.info(Event.RUN_DISCOVERED, path=run.place)
        sources = {part: found.source for part, found in name.parts.items()}
        log.info(Event.EXPERIMENT_NAMED, path=experiment.directory, sources=sources)
        if record.finished:
            self._tell_finished(record)

    def _tell_finished(self, run: RunRecord) -> None:
        steps = run.final.step if run.final else None
        directory = self._knowledge.experiment(run.experiment).directory if run.experiment else None
        get_logger().info(
            Event.RUN_FINISHED, host=self._host.name, run_id=run.name, experiment=directory, path=run.place, steps=steps
        )

    async def _learn_tunings(self, evals: Iterable[EvalDir]) -> None:
        for eval_dir in evals:
            if eval_dir.run is None or not eval_dir.finetuned:
                continue
            for run in self._knowledge.runs_named(eval_dir.run.name):
                known = run.tunings | set(eval_dir.finetuned)
                if run.storage == self._storage and known != run.tunings:
                    await self._house.catalogue.save_run(replace(run, tunings=frozenset(known)))

    def _reject(self, source: Source, error: InvalidFacts) -> None:
        self._invalid[source.place] = source.version
        get_logger().warning(Event.FILE_REJECTED, host=self._host.name, path=source.place, error=str(error))


def _is_succeeded(run: RunDir) -> bool:
    """Tell whether the run's writer has gone on to write later files, so that its config.yaml is surely whole."""
    if run.config is None:
        return False
    written = max(run.config.version.mtime_ns, run.config.version.ctime_ns)
    return any(each.source.version.size > 0 and each.source.version.mtime_ns > written for each in run.growing)


async def read_small(reader: Reader, sources: Sequence[Source]) -> dict[Source, bytes]:
    """Read small files whole into memory; those that vanished or changed meanwhile are left out.

    Of one that is too large to hold facts the beginning is given, one byte too long: whoever parses it says so. What is
    not what the box hashed is read again, a few times: a name that rests on a flipped bit would stay.
    """
    wanted = {(source.tree, source.path): source for source in sources}
    found: dict[Source, bytes] = {}
    for _ in range(_READINGS):
        requests = [ReadRequest(tree, path, length=MAX_FACT_BYTES + 1) for tree, path in wanted]
        if not requests:
            break
        content = bytearray()
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Chunk(data):
                        content += data
                    case Closed(request, version, sha256):
                        if sha256 in {None, hashlib.sha256(content).hexdigest()}:
                            source = wanted.pop((request.tree, request.path))
                            if version == source.version and len(content) == min(version.size, MAX_FACT_BYTES + 1):
                                found[source] = bytes(content)
                        content.clear()
                    case Failed(request):
                        del wanted[request.tree, request.path]
                        content.clear()
                    case _:
                        content.clear()
    return found
