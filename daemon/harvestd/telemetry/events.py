"""The names of all events that harvestd reports: a stable interface for readers of the stream.

Names are dotted and in the past tense, and they are never changed or reused. A poll that changed nothing raises no
event at info; a host that stays down raises one, not one an attempt. Every event carries `timestamp`, `level` and
`event`; its other fields are listed with its name. Files that are fetched together, as of an eval or a checkpoint, are
one `transfer`: the events of its files and of its completion carry the same value, and again when it is fetched anew.
"""

from enum import StrEnum


class Event(StrEnum):
    """What happened."""

    SERVICE_STARTED = "service.started"
    """The daemon holds the data root and begins. Fields: version, pid, config, data_root, hosts."""

    SERVICE_WAITING = "service.waiting"
    """A command holds the data root; the daemon begins once it has ended. Fields: pid (the command's), data_root."""

    SERVICE_STOPPING = "service.stopping"
    """A signal or a fatal error asks the daemon to end; transfers wind up. Fields: reason."""

    SERVICE_STOPPED = "service.stopped"
    """The last event of a process. Fields: exit_code, duration_seconds."""

    SERVICE_WOKE = "service.woke"
    """The workstation slept; every link is taken for dead and made anew. Fields: seconds (of sleep)."""

    SERVICE_STUCK = "service.stuck"
    """A task is past its own deadline: the service manager gets no more messages, so that it starts the daemon anew.
    Fields: what."""

    SERVICE_FAILED = "service.failed"
    """A part of the daemon beside the hosts (reports, manifests, job files, requests, a provider, ...) failed with
    an unexpected exception, and is run again after a pause; all others go on. Each kind of failure once an hour.
    Fields: service, error, exception (the traceback's lines), hint; where one thing of it is concerned that one's."""

    HOST_APPEARED = "host.appeared"
    """A provider names a host that was not there. Fields: host, address, source, hardware."""

    HOST_REPLACED = "host.replaced"
    """A provider names another box by the name, or in the place, of one that is gone.
    Fields: host, address, source, identity, old."""

    HOST_GONE = "host.gone"
    """No provider names a host any more; what came from it stays. Fields: host, address, source."""

    INVENTORY_FAILED = "inventory.failed"
    """A provider can't learn its hosts and keeps the last ones: once until it can, or for other reasons.
    Fields: source, error, hint, hosts, and where files are to blame problems."""

    INVENTORY_RECOVERED = "inventory.recovered"
    """A provider that failed learns its hosts again. Fields: source, hosts."""

    HOST_CONNECTED = "host.connected"
    """A box answered, is authenticated and can be read; where it comes and goes, once it has settled.
    Fields: host, address, method, duration_seconds, attempt, probe_error (why it is read by SFTP alone)."""

    HOST_POLLED = "host.polled"
    """A look at a box and what small things it asked for are done (at debug only). Fields: host, duration_seconds."""

    HOST_LOST = "host.lost"
    """A box can't be reached any more, or never could: once until it is back. Fields: host, error, hint, attempt."""

    HOST_QUARANTINED = "host.quarantined"
    """A box refuses us or broke a rule, and is left alone. Fields: host, error, hint."""

    HOST_FAILED = "host.failed"
    """The work on a box ended by an unexpected exception: a defect of harvestd. It is tried again after a
    pause; the other boxes go on. Each kind of failure once an hour. Fields: host, error, exception (the traceback's
    lines), attempt."""

    HOST_DRAINED = "host.drained"
    """The verdict of a box turned to safe. Fields: host, verdict, losses, verdict_document (as in `safe --json`)."""

    HOST_RELEASED = "host.released"
    """A box was terminated through the cloud, since all that is wanted of it is here. Fields: host, identity, reason,
    cost (hundredths of the cloud's currency since nothing moved there), cents_per_hour, by_hand."""

    HOST_RELEASE_PLANNED = "host.release_planned"
    """A box would have been released, were `release.terminate` not "dry-run".
    Fields: host, identity, reason, cost, cents_per_hour, by_hand."""

    HOST_RELEASE_REFUSED = "host.release_refused"
    """A box was to be released and was not: each reason once. Fields: host, identity, reason."""

    HOST_ENDING = "host.ending"
    """A box that is watched is being terminated, was preempted or is unhealthy; what it has is brought by value, as
    long as it answers. Fields: host, status, bytes (outstanding)."""

    HOST_LOST_DATA = "host.lost_data"
    """A box is gone with something that was wanted and is not here. Fields: host, files, bytes, what."""

    HOST_IDLE = "host.idle"
    """A box has stood idle for hours: nothing moved and no GPU process ran, as far as it was watched; once until
    something does. Fields: host, idle_seconds, cents_per_hour, cost (hundredths of the cloud's currency so far)."""

    HOST_UNWATCHED = "host.unwatched"
    """A host that its provider lists could not be read for `notify.unwatched_after`: once until it can, over restarts
    too. Fields: host, seconds, error, cents_per_hour."""

    HOST_ROOT_MISSING = "host.root_missing"
    """A configured root is not on the box, another file system is mounted there, or nothing is left in it.
    Fields: host, path, error."""

    HOST_INODES_IGNORED = "host.inodes_ignored"
    """A tree lies on a file system whose inodes and change times change by themselves: name, size and modification time
    of a file decide there; once for each connection. Fields: host, path, filesystem."""

    HOST_PINNED = "host.pinned"
    """A box's key was seen for the first time and is trusted from now on. Fields: host, address, fingerprint."""

    SSH_AGENT_SILENT = "ssh.agent_silent"
    """An ssh-agent does not answer or can't be asked: its keys are not used; once until it answers.
    Fields: socket, error."""

    SSH_KEY_WARNING = "ssh.key_warning"
    """A file beside a private key is left out, such as a certificate of another key: once for each. Fields: message."""

    RUN_DISCOVERED = "run.discovered"
    """A training run was seen for the first time. Fields: host, run_id, path, experiment."""

    RUN_RENAMED = "run.renamed"
    """The directory of a run has another name or place on its host, and is known by its content. Fields: host, run_id,
    path, old."""

    RUN_FINISHED = "run.finished"
    """A run ended, and all that is wanted of it is here. Fields: host, run_id, experiment, steps, provisional."""

    RUN_STALLED = "run.stalled"
    """A run that is not known to have ended shows no step for many times as long as one takes: once until it goes on.
    Fields: host, run_id, step, seconds, usual_seconds."""

    RUN_DIED = "run.died"
    """A run that has not finished never will: nothing of it moves, and nothing works there any more.
    Fields: host, run_id, step, seconds (for which it has been silent)."""

    RUN_DIVERGED = "run.diverged"
    """The loss of a run is no number any more, and was one before: once until it is again.
    Fields: host, run_id, step, what."""

    EVAL_DISCOVERED = "eval.discovered"
    """An eval was seen for the first time. Fields: host, run_id, path, experiment."""

    EVAL_COMPLETED = "eval.completed"
    """An eval is sealed, and all that is wanted of it is here. Fields: host, run_id, path, experiment, bytes."""

    EVAL_RENAMED = "eval.renamed"
    """The directory of an eval, or one in it, has another name or place on its host, and is known by its metrics.
    Fields: host, path, old."""

    CHECKPOINT_COMPLETED = "checkpoint.completed"
    """A checkpoint is sealed and here as a whole. Fields: host, run_id, path, bytes, duration_seconds, provisional."""

    CHECKPOINT_REMOVED = "checkpoint.removed"
    """A checkpoint that was here only until a newer one is was removed here. Fields: host, run_id, path, bytes, newer.
    """

    FILE_DOWNLOADED = "file.downloaded"
    """A file, or the next part of a growing one, is at its final path; a warning where it comes as it is.
    Fields: host, run_id, path, bytes, duration_seconds, error."""

    FILE_COPIED = "file.copied"
    """A file that has another place on its host now was copied from what is here of it, in place of a download.
    Fields: host, path, old, bytes."""

    FILE_REJECTED = "file.rejected"
    """A name or a content that harvestd will not take; the others go on. Fields: host, run_id, path, error."""

    FILE_CONFLICT = "file.conflict"
    """A local file is not what was published there; it was put aside or left.
    Fields: host, run_id, path, error, kept."""

    FILE_FILED = "file.filed"
    """A file that waited in `_unfiled` moved to the experiment of its run, or one of a renamed eval to its new place.
    Fields: host, path, old."""

    EXPERIMENT_NAMED = "experiment.named"
    """An experiment got its directory. Fields: host, run_id, experiment, path, sources."""

    EXPERIMENT_GONE = "experiment.gone"
    """A person took an experiment's directory away. Fields: experiment, path, hint."""

    EXPERIMENT_RENAMED = "experiment.renamed"
    """An experiment's directory follows the facts or the operator. Fields: run_id, experiment, old, path, sources."""

    JOB_SYNCED = "job.synced"
    """All results of a remote eval job are here, and its file says so. Fields: job_id, run_id, path."""

    JOB_WAITING = "job.waiting"
    """A remote eval job has finished, and not all that its box shows is here. Fields: job_id, run_id, error."""

    JOB_REJECTED = "job.rejected"
    """The file of a remote eval job, or their directory, can't be used. Fields: job_id, path, error, hint."""

    JOB_FAILED = "job.failed"
    """A remote eval job that was to be synced by hand was not. Fields: job_id, error, hint."""

    CONFIG_RELOADED = "config.reloaded"
    """A changed configuration applies from now on. Fields: config, added, removed, changed (keys, never values)."""

    CONFIG_REJECTED = "config.rejected"
    """A changed configuration is invalid and changes nothing. Fields: config, problems, hint."""

    REQUEST_TAKEN = "request.taken"
    """What a person asked for by hand is being worked on from now on.
    Fields: run_id, path, kind, what; host where a verdict on it is asked for."""

    REQUEST_SETTLED = "request.settled"
    """All that a request names is here, or never will be, or the verdict that it asks for is made.
    Fields: run_id, path, host, kind, what, reason."""

    DISK_LOW = "disk.low"
    """Less than `limits.free_space` is free: fetching pauses. Fields: path, free_bytes, needed_bytes."""

    DISK_RECOVERED = "disk.recovered"
    """There is room again: fetching goes on. Fields: path, free_bytes."""

    PLAN_WAITING = "plan.waiting"
    """Debug only: something wanted is not complete yet. Fields: host, run_id, path, reason."""

    CATALOGUE_REBUILT = "catalogue.rebuilt"
    """The catalogue was gone, and was made anew from manifests and files.
    Fields: path, experiments, runs, files, bytes, skipped, hint."""

    CATALOGUE_REPAIRED = "catalogue.repaired"
    """Rows whose experiment was not on record were put right at a start.
    Fields: path, experiments (made anew), runs, files, dropped (files), error."""

    NOTIFY_FAILED = "notify.failed"
    """A receiver of alarms, or the URL of the heartbeat, does not take what it is sent: once until it does. It is tried
    again after a pause. Fields: receiver, error, hint, waiting."""

    NOTIFY_RECOVERED = "notify.recovered"
    """A receiver that failed takes what it is sent. Fields: receiver."""

    NOTIFY_DROPPED = "notify.dropped"
    """Alarms were not delivered within three days, and are given up. Fields: receiver, count."""

    REPORT_WRITTEN = "report.written"
    """Debug only: an experiment's README, its scripts or its pictures were made anew. Fields: experiment, path."""

    REPORT_FAILED = "report.failed"
    """Something of an experiment's report can't be made. Fields: experiment, path, script, error, hint."""

    REPORT_PLAIN = "report.plain"
    """Said once: no pictures are made, since matplotlib is not installed. Fields: hint."""

    LOG_FORWARDED = "log.forwarded"
    """A library had something to say, at warning or above. Fields: logger, message, exception."""

    LOG_LOST = "log.lost"
    """The stream of events could not be written for a while (disk full, reader gone). Fields: lines."""
