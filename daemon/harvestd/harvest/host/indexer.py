"""Indexes runs before any of their files can be planned: reads their small files and names their experiments.

Reads only config.yaml, step_final's training_info.json and eval_config.yaml, each once per version, all of one scan in
one answer of the host. If none of them names a run's model, one of its adapter_config.json files is read in a second
answer.
"""

import hashlib
import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import NamingFacts, free_name, name_run
from harvestd.convention.metadata.parse import (
    ConfigFacts,
    InvalidFacts,
    TrainingInfo,
    parse_adapter_config,
    parse_config,
    parse_eval_config,
    parse_training_info,
)
from harvestd.convention.scan.completeness import unsealed
from harvestd.convention.scan.model import EvalDir, Group, RunDir, ScanResult, Source, Wanted
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.convention.scan.stability import NETWORK_SETTLE, StabilityTracker
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.rename import MovedEvents, RenamedEvals
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.host.indexed import (
    IndexedDirectories,
    IndexedRun,
    backbones_of,
    is_succeeded,
    names_model,
    tuned,
    undecided_because,
    updated_record,
)
from harvestd.harvest.transfer.reading import read_small
from harvestd.inventory.host import Host
from harvestd.planning.identity import (
    NO_LOG,
    Fingerprint,
    Undecidable,
    dated,
    head_of,
    is_part,
    principal,
    same_run_elsewhere,
    with_parents,
)
from harvestd.planning.index import named
from harvestd.planning.records import EvalLink, ExperimentRecord, RunRecord
from harvestd.planning.renamed import renamed, renamed_from, vanished_runs
from harvestd.remote.api import BoxFacts, Reader
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger


class RunIndexer:
    """Indexes the runs of one host."""

    def __init__(self, host: Host, context: Context, facts: BoxFacts, failures: FailureTracker) -> None:
        """`failures` receives the files whose reading hangs."""
        self._host = host
        self._context = context
        self._failures = failures
        self._storage = context.storage_of(host)
        self._knowledge = context.catalogue.knowledge
        self._gpu_names = facts.gpu_names
        context.fleet.machines.record(host, facts)
        self.undecided: dict[str, str] = {}
        """By remote path of a run or eval that can't be told apart from another one yet: the reason."""
        self._moved_events = MovedEvents(host, context)
        self._renamed_evals = RenamedEvals(host, context, failures, self.undecided)
        self._held: dict[str, float] = {}
        """By remote path of a run that another host still shows by another name: since when, in monotonic seconds."""
        self._indexed = IndexedDirectories(self._knowledge)
        self._invalid: dict[str, object] = {}
        """Remote paths whose present version can't be parsed: not read again until it changes."""

    async def index(
        self,
        seen: ScanResult,
        whole: tuple[ScanResult, Snapshot],
        reader: Reader,
        sightings: StabilityTracker,
        now: float,
        early: Mapping[Source, bytes],
    ) -> None:
        """Update the records of runs, names and links to `seen`. Raise `Retry` when the link is lost.

        `whole` is everything that the scan shows. Files in `early` with the same version are not read again.
        """
        settle = self._context.settle_of(self._host)
        runs = sorted((run for run in seen.runs if not self._indexed.has(run)), key=lambda each: each.name.timestamp)
        evals = [each for each in seen.evals if not self._indexed.has(each)]
        configs = [run.config for run in runs if self._wants_config(run, sightings, settle, now)]
        finals = [run.final_info for run in runs if run.config and self._wants_final(run)]
        links = [each.config for each in evals if self._wants_link(each)]
        heads = [self._log_of(run) for run in runs if run.config and self._wants_head(run)]
        wanted = [each for each in (*configs, *finals, *links, *heads) if each and not self._known_invalid(each)]
        contents = {each: early[each] for each in wanted if each in early}
        contents |= await read_small(reader, [each for each in wanted if each not in contents], self._failures)
        indexed = {run.place: self._parsed(run, contents) for run in runs}
        await self._index_adapters(runs, indexed, reader)
        await self._renamed_evals.prove(whole, reader, now)
        unknown = any(self._knowledge.run_at(self._storage, run.place) is None for run in runs)
        backbones = backbones_of(seen.evals) if unknown else {}
        # Everything is read: nothing below waits for a host, so that a file that hangs on one host delays no other.
        async with self._context.indexing:
            linked = (self._link(eval_dir, contents) for eval_dir in evals)
            await self._context.catalogue.save_eval_links([link for link in linked if link is not None])
            if unknown:
                await self._index_renamed(runs, indexed, whole, now)
            for run in runs:
                if run.place in self._held and run.place in self.undecided:
                    continue
                found = replace(indexed[run.place], backbones=backbones.get(run.name.name, frozenset()))
                await self._index_run(run, found)
            await self._index_tunings(evals)
            await self._moved_events.record(seen.runs)
            await self._renamed_evals.record(whole, now)
        looked_at: list[RunDir | EvalDir] = [*runs, *evals]
        for directory in looked_at:
            if subjects := self._subjects_of(directory):
                self._indexed.add(directory, subjects)
        self._indexed.trim(seen)

    def _subjects_of(self, directory: RunDir | EvalDir) -> tuple[Hashable, ...]:
        """Return what the index of a directory depends on besides it; empty if something of it is to be read yet."""
        if isinstance(directory, EvalDir):
            if self._wants_link(directory) and directory.config and not self._known_invalid(directory.config):
                return ()
            link = (self._storage, directory.config.place if directory.config else "")
            return (link, *([named(directory.run.name)] if directory.run else []))
        record = self._knowledge.run_at(self._storage, directory.place)
        if record is None or directory.config is None or self._wants_anything(directory, record, directory.config):
            return ()
        return record.key, record.experiment

    def _wants_anything(self, run: RunDir, record: RunRecord, config: Source) -> bool:
        log = self._log_of(run) if self._wants_head(run) else None
        wanted = (config if record.config_version != config.version else None, log)
        final = run.final_info if self._wants_final(run) else None
        adapter = run.adapter if self._wants_adapter(run, IndexedRun(None, None)) else None
        return any(each is not None and not self._known_invalid(each) for each in (*wanted, final, adapter))

    def _known_invalid(self, source: Source) -> bool:
        return self._invalid.get(source.place) == source.version

    def _wants_config(self, run: RunDir, sightings: StabilityTracker, settle: float, now: float) -> bool:
        if run.config is None:
            return False
        record = self._knowledge.run_at(self._storage, run.place)
        if record is not None and record.config_version == run.config.version:
            return False
        single = Group.single(Wanted(run.config, Kind.CONFIG, len(run.path.parts), ""))
        return is_succeeded(run) or unsealed(single, sightings, settle, now) is None

    def _wants_final(self, run: RunDir) -> bool:
        record = self._knowledge.run_at(self._storage, run.place)
        return run.final_info is not None and (record is None or record.final_version != run.final_info.version)

    def _wants_head(self, run: RunDir) -> bool:
        record = self._knowledge.run_at(self._storage, run.place)
        return record is None or not record.head

    @staticmethod
    def _log_of(run: RunDir) -> Source | None:
        return next((each.source for each in run.growing if each.kind is Kind.TRAIN_LOG), None)

    def _wants_link(self, eval_dir: EvalDir) -> bool:
        if eval_dir.config is None:
            return False
        link = self._knowledge.eval_link(self._storage, eval_dir.config.place)
        return link is None or link.version != eval_dir.config.version

    def _link(self, eval_dir: EvalDir, contents: Mapping[Source, bytes]) -> EvalLink | None:
        """Return the link of an eval whose eval_config.yaml was read in this scan, if it is valid."""
        raw = contents.get(eval_dir.config) if eval_dir.config else None
        if raw is None or eval_dir.config is None:
            return None
        try:
            training_run = parse_eval_config(raw).training_run
        except InvalidFacts as e:
            self._reject(eval_dir.config, e)
            return None
        return EvalLink(self._storage, eval_dir.config.place, eval_dir.config.version, training_run)

    async def _index_adapters(self, runs: Sequence[RunDir], indexed: dict[str, IndexedRun], reader: Reader) -> None:
        """Read the base model from an adapter_config.json, for the runs whose other files do not name it."""
        silent = [run.place for run in runs if self._wants_adapter(run, indexed[run.place])]
        if not silent:
            return
        adapters = {run.adapter: run.place for run in runs if run.place in silent and run.adapter}
        for source, raw in (await read_small(reader, list(adapters), self._failures)).items():
            try:
                base_model = parse_adapter_config(raw)
            except InvalidFacts as e:
                self._reject(source, e)
                continue
            # This version is read once, whether it names a model or not.
            self._invalid[source.place] = source.version
            indexed[adapters[source]] = replace(indexed[adapters[source]], base_model=base_model)

    def _wants_adapter(self, run: RunDir, indexed: IndexedRun) -> bool:
        if run.adapter is None or self._known_invalid(run.adapter) or indexed.names_model:
            return False
        known = self._knowledge.run_at(self._storage, run.place)
        if known is None:
            return indexed.config is not None
        final = indexed.final or known.final
        return not (names_model(known.config, final) or known.base_model)

    async def _index_renamed(
        self, runs: Sequence[RunDir], indexed: Mapping[str, IndexedRun], whole: tuple[ScanResult, Snapshot], now: float
    ) -> None:
        """Record the new paths of runs that are known by other paths, so that nothing is fetched again."""
        shown, snapshot = whole
        vanished = vanished_runs(shown, snapshot, self._storage, self._knowledge)
        for run in runs if vanished else ():
            found = indexed[run.place]
            if found.config_hash is None or self._knowledge.run_at(self._storage, run.place) is not None:
                continue
            seen = Fingerprint(found.config_hash, found.head)
            before = renamed_from(run, seen, vanished.get(found.config_hash, ()))
            self.undecided.pop(run.place, None)
            if before is None or self._knowledge.run_at(*before.key) is None:
                continue
            if not self._is_shown_by_another(before):
                self._held.pop(run.place, None)
                await self._move(before, run, shown)
            elif now - self._held.setdefault(run.place, now) < NETWORK_SETTLE:
                self.undecided[run.place] = f"another host still shows it as {before.place}"

    def _is_shown_by_another(self, run: RunRecord) -> bool:
        """Return whether the newest scan of another host that shows the same file system shows a run.

        Either that scan is older than the change, or this host shows an outdated state of the file system.
        """
        others = (
            last_scan
            for last_scan in self._context.states.last_scans()
            if last_scan.host.identity != self._host.identity
            and self._context.storage_of(last_scan.host) == self._storage
        )
        return any(shown.place == run.place for last_scan in others for shown in last_scan.seen.runs)

    async def _move(self, before: RunRecord, run: RunDir, shown: ScanResult) -> None:
        after = await self._context.catalogue.move_run(before.key, lambda now: renamed(now, run, shown))
        if after is None:
            return
        self._context.changes.touch([after.experiment])
        log = get_logger().bind(host=self._host.name, run_id=after.name)
        log.info(Event.RUN_RENAMED, path=after.place, old=before.place)

    async def _index_run(self, run: RunDir, indexed: IndexedRun) -> None:
        before = self._knowledge.run_at(self._storage, run.place)
        if before is None:
            if indexed.config is not None:
                await self._identify(run, indexed.config, indexed)
            return
        was_finished = before.finished

        def updated(now: RunRecord) -> RunRecord:
            nonlocal was_finished
            was_finished = now.finished
            return self._completed(updated_record(now, run, indexed, self._host))

        after = await self._context.catalogue.change_run(before.key, updated)
        if after is not None and after.finished and not was_finished and not is_part(after, self._knowledge):
            self._log_finished(after)

    def _completed(self, record: RunRecord) -> RunRecord:
        """Return the record of a part of a run, with the end of the run as only the disk with the log shows it."""
        if record.final_version is not None or not is_part(record, self._knowledge):
            return record
        return replace(record, final=principal(record, self._knowledge).final)

    def _parsed(self, run: RunDir, contents: Mapping[Source, bytes]) -> IndexedRun:
        final: TrainingInfo | None = None
        raw = contents.get(run.final_info) if run.final_info else None
        if raw is not None and run.final_info is not None:
            try:
                final = parse_training_info(raw)
            except InvalidFacts as e:
                # A file that is being written does not parse yet; this is normal, not an error.
                get_logger().debug(Event.PLAN_WAITING, host=self._host.name, path=run.final_info.place, reason=str(e))
        raw = contents.get(run.config) if run.config else None
        config_hash = None if raw is None else hashlib.sha256(raw).hexdigest()
        head = self._head(run, contents)
        return IndexedRun(self._parsed_config(run.config, contents), final, config_hash=config_hash, head=head)

    def _head(self, run: RunDir, contents: Mapping[Source, bytes]) -> str | None:
        log = self._log_of(run)
        raw = contents.get(log) if log else None
        if run.may_be_part:
            return NO_LOG
        if log is None or raw is None:
            return None
        head = head_of(raw)
        if head is None:
            self._invalid[log.place] = log.version  # no whole line yet: not read again until it grows
        return head

    def _parsed_config(self, source: Source | None, contents: Mapping[Source, bytes]) -> ConfigFacts | None:
        """Return the contents of a config.yaml, empty if it can't be parsed; None if it was not read in this scan.

        It is complete when it is read, so an invalid one stays invalid: the run is fetched under what else is known of
        it.
        """
        raw = contents.get(source) if source else None
        if raw is None or source is None:
            return None
        try:
            return parse_config(raw)
        except InvalidFacts as e:
            self._reject(source, e)
            return ConfigFacts()

    async def _identify(self, run: RunDir, config: ConfigFacts, indexed: IndexedRun) -> None:
        """Record a run as one that another storage shows, or as a new one, or leave it for a later scan."""
        async with self._context.catalogue.discovering.hold(run.name.name):
            if self._knowledge.run_at(self._storage, run.place) is None:
                await self._identify_locked(run, config, indexed)

    async def _identify_locked(self, run: RunDir, config: ConfigFacts, indexed: IndexedRun) -> None:
        seen = Fingerprint(indexed.config_hash or "", indexed.head)
        others = self._context.states.evals_of_others(self._storage)
        same_run = same_run_elsewhere(run.name.name, self._storage, seen, self._knowledge, others)
        if isinstance(same_run, Undecidable):
            self.undecided[run.place] = undecided_because(seen, same_run)
            return
        self.undecided.pop(run.place, None)
        if same_run is None:
            await self._discover(run, config, indexed)
        elif run.config is not None:
            record = self._record(run, run.config, config, indexed, same_run.experiment)
            async with self._context.catalogue.files.loaded(self._knowledge.sections_of(same_run.experiment)):
                record = self._completed(record)
            await self._context.catalogue.add_run(record)
            self._context.changes.touch([same_run.experiment])
            log = get_logger().bind(host=self._host.name, run_id=record.name, path=run.place)
            log.info(Event.RUN_DISCOVERED, same_as=f"{same_run.host}:{same_run.place}")

    def _record(
        self, run: RunDir, source: Source, config: ConfigFacts, indexed: IndexedRun, experiment: str | None
    ) -> RunRecord:
        return RunRecord(
            id=uuid.uuid4().hex,
            storage=self._storage,
            place=run.place,
            host=self._host.name,
            identity=self._host.identity,
            name=run.name.name,
            config=config,
            config_version=source.version,
            experiment=experiment,
            final=indexed.final,
            final_version=run.final_info.version if indexed.final and run.final_info else None,
            base_model=indexed.base_model,
            writer=run.writer,
            config_hash=indexed.config_hash,
            head=indexed.head,
        )

    async def _discover(self, run: RunDir, config: ConfigFacts, indexed: IndexedRun) -> None:
        if run.config is None:
            return
        facts = NamingFacts(config, indexed.final, indexed.base_model, indexed.backbones)
        facts = dated(with_parents(facts, self._knowledge.runs_named, self._context.settings.naming.models), run)
        name = name_run(run.name, facts, self._context.naming_of(self._host, self._gpu_names, run.writer))
        name = free_name(name, run.name, self._host.name, self._knowledge.is_directory_taken)
        experiment = ExperimentRecord(uuid.uuid4().hex, name)
        record = self._record(run, run.config, config, indexed, experiment.id)
        await self._context.catalogue.save_discovery(experiment, record)
        self._context.changes.touch([experiment.id])
        log = get_logger().bind(host=self._host.name, run_id=record.name, experiment=experiment.directory)
        log.info(Event.RUN_DISCOVERED, path=run.place)
        sources = {part: found.source for part, found in name.parts.items()}
        log.info(Event.EXPERIMENT_NAMED, path=experiment.directory, sources=sources)
        if record.finished:
            self._log_finished(record)

    def _log_finished(self, run: RunRecord) -> None:
        steps = run.final.step if run.final else None
        directory = self._knowledge.experiment(run.experiment).directory if run.experiment else None
        get_logger().info(
            Event.RUN_FINISHED, host=self._host.name, run_id=run.name, experiment=directory, path=run.place, steps=steps
        )

    async def _index_tunings(self, evals: Iterable[EvalDir]) -> None:
        for eval_dir in evals:
            if eval_dir.run is None or not eval_dir.finetuned:
                continue
            for run in self._knowledge.runs_named(eval_dir.run.name):
                if run.storage == self._storage:
                    await self._context.catalogue.change_run(run.key, partial(tuned, found=eval_dir.finetuned))

    def _reject(self, source: Source, error: InvalidFacts) -> None:
        self._invalid[source.place] = source.version
        get_logger().warning(Event.FILE_REJECTED, host=self._host.name, path=source.place, error=str(error))
