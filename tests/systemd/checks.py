"""What must hold for harvestd on a machine with systemd: one function for each, in the order of a unit's life.

Each leaves the daemon running and well for the next one, and raises `Failed` where the behaviour is broken.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harvestd.demo.writers import RunWriter
from support.large_checkpoints import checkpoint, write_large_checkpoint
from support.openssh import OpenSSHServer
from systemd.machine import Failed, Machine, quoted, until

MIB = 1024 * 1024
CONFIG = "/etc/harvestd/harvestd.toml"
DROP_INS = "/etc/systemd/system/harvestd.service.d"
HARVESTD = "/opt/harvestd/bin/harvestd"
DATA = "var/lib/harvestd/data/downloaded_runs"
SYSTEMD = Path(__file__).parents[2] / "systemd"
_MOST_COMMANDS = 5


@dataclass
class Scene:
    """A machine, and a box that trains: a real sshd beside it, with its root in a directory of ours."""

    machine: Machine
    box: OpenSSHServer
    root: Path
    writer: RunWriter | None = None


def commands() -> list[str]:
    """Return the commands that README names for a newcomer, as they stand there."""
    blocks = re.findall(r"```sh\n(.*?)```", (SYSTEMD.parent / "README.md").read_text(), re.DOTALL)
    found = [block.splitlines() for block in blocks if "harvestd install" in block]
    if len(found) != 1:
        raise Failed("README does not say how to install a unit")
    return [str(line) for line in found[0]]


def a_newcomer_has_a_running_unit(scene: Scene) -> None:
    """Come from a bare Debian with python3 to an active unit by the commands as they are written down."""
    if scene.machine.run("command -v pip pip3 gcc make").stdout:
        raise Failed("the machine is not bare")
    lines = commands()
    if len(lines) > _MOST_COMMANDS:
        raise Failed(f"{len(lines)} commands")
    for line in lines:
        scene.machine.say(f"cd /root/harvestd && {line}")
    # It was started by `systemctl`, which returns once READY=1 was heard.
    expect(scene.machine.show("ActiveState"), "active")
    expect(scene.machine.show("SubState"), "running")
    expect(scene.machine.say("systemctl is-enabled harvestd"), "enabled")
    until(lambda: scene.machine.show("StatusText").startswith("0 of 0 hosts"), "a line of status")


def its_files_are_in_order(scene: Scene) -> None:
    """Have systemd read the unit, and each example as a drop-in of it, without a word of complaint."""
    machine = scene.machine
    for example in sorted((SYSTEMD / "examples").iterdir()):
        machine.write("/root/verified/harvestd.service.d/example.conf", example.read_text())
        machine.say("cp /etc/systemd/system/harvestd.service /root/verified/")
        machine.say(f"cp {DROP_INS}/10-install.conf /root/verified/harvestd.service.d/")
        said_of_it = machine.run("SYSTEMD_UNIT_PATH=/root/verified: systemd-analyze verify harvestd.service")
        if said_of_it.returncode or "harvestd" in said_of_it.stderr + said_of_it.stdout:
            raise Failed(f"{example.name}: {said_of_it.stderr}{said_of_it.stdout}")


def it_pulls_from_a_box(scene: Scene) -> None:
    """Bring files home, and have them grow, with a key as a credential and a box in the configuration."""
    machine = scene.machine
    machine.write("/etc/harvestd/ssh-key", scene.box.client_key.read_text())
    machine.say("chmod 600 /etc/harvestd/ssh-key")
    machine.write(f"{DROP_INS}/key.conf", (SYSTEMD / "examples/ssh-key-credential.conf").read_text())
    # A name is looked up from within the unit's walls.
    machine.write("/etc/hosts", "127.0.0.1 localhost gpu-a.example\n")
    machine.write(CONFIG, configuration(scene))
    again = machine.say(f"{HARVESTD} install")
    if f"left as it is: {CONFIG}" not in again or "written:" in again:
        raise Failed(f"installing again is not safe: {again}")
    machine.say("systemctl restart harvestd")
    writer = write_large_checkpoint(scene.root, MIB)
    scene.writer = writer
    until(lambda: is_home(scene), "a run and its checkpoint are here")
    writer.log_until(5)
    until(lambda: here(scene, "train_log.jsonl") == [writer.train_log.read_bytes()], "the log grows")
    until(lambda: machine.show("StatusText").startswith("1 of 1 hosts connected; last success"), "the line of status")
    expect(machine.say(f"stat -c %U /{DATA}"), "harvestd")


def it_can_be_asked(scene: Scene) -> None:
    """Ask as root, as the service's account, as a third one: an answer, or a sentence with the command that works."""
    machine = scene.machine
    machine.say("useradd -m bob")
    as_service = f"runuser -u harvestd -- {HARVESTD}"
    as_bob = f"runuser -u bob -- env HOME=/home/bob {HARVESTD}"
    # HOME is still root's: `~` in the configuration must be the account's own.
    found = json.loads(machine.say(f"{as_service} status --json"))
    expect((found["daemon"]["running"], found["data_root"]), (True, f"/{DATA}"))
    expect([(host["name"], host["state"]) for host in found["hosts"]], [("gpu-a", "connected")])
    machine.say(f"{as_service} events --json")
    for asking in (HARVESTD, as_bob):
        for line in ("status --json", "safe gpu-a", "once", "run", "experiments", "check"):
            done = machine.run(f"{asking} {line}")
            expect((done.returncode, done.stdout), (2, ""))
            if "bug:" in done.stderr or "runs as harvestd" not in done.stderr:
                raise Failed(f"{asking} {line}: {done.stderr}")
    # What the hint says, root can paste.
    hint = machine.run(f"{HARVESTD} status --json").stderr.partition("ask as that account: ")[2].strip()
    expect(json.loads(machine.say(hint))["daemon"], found["daemon"])
    named = f"_HARVESTD_COMPLETE=bash_complete COMP_WORDS='harvestd show ' COMP_CWORD=2 {HARVESTD}"
    done = machine.run(f"runuser -u bob -- env {named}")
    expect((done.returncode, done.stderr), (0, ""))
    expect(machine.run("ls -A /root/data /home/bob/data").stdout, "")


def it_waits_for_a_command(scene: Scene) -> None:
    """Restart it while a command holds the data root: it comes up once that has ended, and does not stay down."""
    machine = scene.machine
    machine.say("systemctl stop harvestd")
    hold = (
        "import sys, time; from pathlib import Path; from harvestd.store.lock import DataRootLock; "
        "from harvestd.store.root import DataRoot; root = DataRoot.open(Path(sys.argv[1])); "
        "lock = DataRootLock.take(root); print('held', flush=True); time.sleep(600)"
    )
    python = HARVESTD.replace("bin/harvestd", "bin/python")
    machine.say(f"systemd-run --quiet --unit=held --property=User=harvestd {python} -c {quoted(hold)} /{DATA}")
    journal_of_it = "journalctl --unit=held --output=cat --no-pager"
    until(lambda: "held" in machine.say(journal_of_it).splitlines(), "the command holds the data root")
    machine.say("systemctl start --no-block harvestd")
    until(lambda: event_log(scene, "service.waiting"), "service.waiting")
    expect(machine.show("ActiveState"), "activating")
    machine.say("systemctl stop held")
    until(lambda: machine.show("ActiveState") == "active", "it is active")
    expect(machine.show("NRestarts"), "0")


def it_reloads(scene: Scene) -> None:
    """Reload by `systemctl`: the file is read, it is said, and nothing is restarted."""
    process = scene.machine.show("MainPID")
    scene.machine.say("systemctl reload harvestd")
    until(lambda: event_log(scene, "config.reloaded"), "config.reloaded")
    until(lambda: scene.machine.show("SubState") == "running", "the reload is over")
    expect(scene.machine.show("MainPID"), process)


def it_survives_an_invalid_reload(scene: Scene) -> None:
    """See that a file with a mistake changes nothing, and that the warning names the key."""
    process, good = scene.machine.show("MainPID"), scene.machine.read(CONFIG)
    scene.machine.write(CONFIG, good.replace("[poll]", "[poll]\nintervall = 1"))
    scene.machine.say("systemctl reload harvestd")
    until(lambda: "poll.intervall" in str(event_log(scene, "config.rejected")), "config.rejected names the key")
    scene.machine.write(CONFIG, good)
    expect(scene.machine.show("MainPID"), process)
    expect(scene.machine.show("ActiveState"), "active")


def the_journal_has_levels(scene: Scene) -> None:
    """See that what went well is filed as info, and what was refused as a warning."""
    found = {event["event"]: level for level, event in journal(scene)}
    expect(found.get("service.started"), "6")
    expect(found.get("config.rejected"), "4")
    warnings = scene.machine.say("journalctl --unit=harvestd --priority=warning --output=cat")
    if "service.started" in warnings or "config.rejected" not in warnings:
        raise Failed(f"by priority: {warnings}")


def it_is_closed_in(scene: Scene) -> None:
    """See the score of the running unit, and the file system as the daemon does: nothing to write but its own."""
    machine = scene.machine
    machine.say("systemd-analyze security harvestd --threshold=20 --no-pager")
    inside = f"nsenter --target={machine.show('MainPID')} --mount"
    for place in ("/etc", "/usr", "/var", "/var/log", "/opt/harvestd", "/root", "/home", "/srv"):
        # Even root can't, in there: the daemon's account could not outside, either.
        if machine.run(f"{inside} touch {place}/harvestd-was-here").returncode == 0:
            raise Failed(f"{place} can be written")
    machine.say(f"{inside} touch /{DATA}/.harvestd/was-here")
    machine.say(f"rm /{DATA}/.harvestd/was-here")
    if machine.say(f"{inside} ls -A /root /home").split() not in ([], ["/home:", "/root:"], ["/root:", "/home:"]):
        raise Failed("homes can be read")


def it_writes_elsewhere_only_when_installed_so(scene: Scene) -> None:
    """Refuse another data root until `harvestd install` opened it to the unit."""
    machine, good = scene.machine, scene.machine.read(CONFIG)
    machine.say("install -d -o harvestd /srv/runs")
    machine.write(CONFIG, re.sub("^data_root = .*$", 'data_root = "/srv/runs"', good, flags=re.MULTILINE))
    if machine.run("systemctl restart harvestd").returncode == 0:
        raise Failed("it started with a data root that the unit does not open")
    expect(machine.show("ExecMainStatus"), "2")
    if "read-only" not in machine.say("journalctl --unit=harvestd --lines=20 --output=cat").casefold():
        raise Failed("it does not say that the data root is read-only")
    machine.say(f"{HARVESTD} install --now")
    expect(machine.show("ActiveState"), "active")
    until(lambda: list((machine.tree / "srv/runs").glob("*/manifest.json")), "the new data root is filled")
    machine.write(CONFIG, good)
    machine.say(f"{HARVESTD} install --now")
    expect(machine.show("ActiveState"), "active")


def a_wedged_daemon_is_started_anew(scene: Scene) -> None:
    """Stop its loop: the watchdog kills it, it is started again, and goes on."""
    machine = scene.machine
    machine.write(f"{DROP_INS}/quick.conf", QUICK)
    machine.say("systemctl daemon-reload && systemctl restart harvestd")
    process = machine.signal("STOP")
    until(lambda: machine.show("NRestarts") == "1", "systemd starts it anew", 90)
    if "watchdog" not in machine.say("journalctl --unit=harvestd --output=cat --lines=60").casefold():
        raise Failed("it was not the watchdog")
    goes_on(scene, process)


def a_killed_daemon_is_started_anew(scene: Scene) -> None:
    """Kill it: it is there again, and settles what was half done."""
    goes_on(scene, scene.machine.signal("KILL"))


def it_stops_in_order(scene: Scene) -> None:
    """Stop it in the middle of a transfer: it is over in seconds, exit code 0, and the rest comes after the start."""
    machine = scene.machine
    good = machine.read(CONFIG)
    machine.write(CONFIG, f'{good}\n[limits]\nfree_space = "1MiB"\nbandwidth = "2MiB/s"\n')
    machine.say("systemctl reload harvestd")
    scene.writer = write_large_checkpoint(scene.root / "second", 24 * MIB)
    machine.write(CONFIG, machine.read(CONFIG).replace(f'"{scene.root}"', f'"{scene.root}", "{scene.root / "second"}"'))
    until(lambda: staged(scene), "the checkpoint is on its way")
    before = machine.say("cut -d' ' -f1 /proc/uptime")
    machine.say("systemctl stop harvestd")
    took = float(machine.say("cut -d' ' -f1 /proc/uptime")) - float(before)
    expect((machine.show("Result"), machine.show("ExecMainStatus")), ("success", "0"))
    if took > 7 or not event_log(scene, "service.stopping") or not event_log(scene, "service.stopped"):
        raise Failed(f"it did not stop in order, within {took:.1f} s")
    machine.write(CONFIG, machine.read(CONFIG).replace("2MiB/s", "unlimited"))
    machine.say("systemctl start harvestd")
    until(lambda: is_home(scene), "the checkpoint is here", 90)


def uninstalling_leaves_what_is_ours(scene: Scene) -> None:
    """Take unit and drop-in away; data, configuration, and a drop-in of the operator's stay."""
    machine = scene.machine
    answer = machine.say(f"{HARVESTD} uninstall")
    unit = "/etc/systemd/system/harvestd.service"
    for place in (unit, f"{DROP_INS}/10-install.conf", "/etc/sysusers.d/harvestd.conf"):
        if f"removed: {place}" not in answer or (machine.tree / place.lstrip("/")).exists():
            raise Failed(f"{place} was not removed: {answer}")
    for place in (CONFIG, f"{DROP_INS}/key.conf", f"/{DATA}"):
        if not (machine.tree / place.lstrip("/")).exists():
            raise Failed(f"{place} is gone")
    if machine.run("systemctl is-active harvestd").stdout.strip() == "active":
        raise Failed("it runs still")


def it_works_for_a_person(scene: Scene) -> None:
    """Run it as Alice: her key is read in her home, and her data root there is all that it can write to."""
    machine = scene.machine
    home = machine.tree / "home/alice"
    machine.say("useradd -m alice && install -d -o alice -m 700 /home/alice/.ssh")
    machine.say("install -o alice -m 600 /etc/harvestd/ssh-key /home/alice/.ssh/key")
    config = machine.read(CONFIG).replace("/run/credentials/harvestd.service/ssh-key", "~/.ssh/key")
    machine.write(CONFIG, config.replace("/var/lib/harvestd/", "~/"))
    machine.say(f"{HARVESTD} install --run-as alice --now")
    expect(machine.show("ActiveState"), "active")
    until(lambda: list((home / "data/downloaded_runs").glob("*/manifest.json")), "files come into her home")
    expect(machine.say("stat -c %U /home/alice/data/downloaded_runs/*/manifest.json").split()[0], "alice")
    inside = f"nsenter --target={machine.show('MainPID')} --mount"
    if machine.run(f"{inside} touch /home/alice/.ssh/was-here").returncode == 0:
        raise Failed("her keys can be written")
    machine.say("systemd-analyze security harvestd --threshold=20 --no-pager")
    again = machine.say(f"{HARVESTD} install")
    if "written:" in again:
        raise Failed(f"installing again forgot who it runs as: {again}")


def a_user_has_one_too(scene: Scene) -> None:
    """Install one without root, and take it away again."""
    machine = scene.machine
    machine.say("apt-get install -y libpam-systemd >/dev/null 2>&1; true")
    machine.say("loginctl enable-linger alice")
    until(lambda: machine.run("test -S /run/user/$(id -u alice)/bus").returncode == 0, "alice's manager runs")
    as_alice = "runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) HOME=/home/alice"
    machine.say(f"{as_alice} {HARVESTD} install --user --now")
    expect(machine.say(f"{as_alice} systemctl --user is-active harvestd"), "active")
    machine.say(f"{as_alice} {HARVESTD} uninstall --user")
    if (machine.tree / "home/alice/.config/systemd/user/harvestd.service").exists():
        raise Failed("her unit is left")


CHECKS: Sequence[Callable[[Scene], None]] = (
    a_newcomer_has_a_running_unit,
    its_files_are_in_order,
    it_pulls_from_a_box,
    it_can_be_asked,
    it_waits_for_a_command,
    it_reloads,
    it_survives_an_invalid_reload,
    the_journal_has_levels,
    it_is_closed_in,
    it_writes_elsewhere_only_when_installed_so,
    a_wedged_daemon_is_started_anew,
    a_killed_daemon_is_started_anew,
    it_stops_in_order,
    it_works_for_a_person,
    uninstalling_leaves_what_is_ours,
    a_user_has_one_too,
)

QUICK = """\
[Service]
WatchdogSec=5
TimeoutAbortSec=2
RestartSec=1
"""
"""What a watchdog does, in the time of a test."""


def configuration(scene: Scene) -> str:
    """Return a configuration that names the box, quick in everything."""
    return f"""\
version = 1
data_root = "~/data/downloaded_runs"
ssh = {{ user = "{scene.box.user}", agent = false, identity_files = ["/run/credentials/harvestd.service/ssh-key"] }}
remote = {{ roots = ["{scene.root}"] }}
hosts = [{{ name = "gpu-a", address = "gpu-a.example", port = {scene.box.port} }}]
report = {{ pictures = false }}

[poll]
interval = "1s"
settle = "300ms"
"""


def expect(found: object, wanted: object) -> None:
    """Raise `Failed` where two values differ."""
    if found != wanted:
        raise Failed(f"{found!r}, not {wanted!r}")


def journal(scene: Scene) -> list[tuple[str, dict[str, object]]]:
    """Return the daemon's events, as the journal has them, each with its priority."""
    lines = scene.machine.say("journalctl --unit=harvestd --output=json --no-pager").splitlines()
    entries = [json.loads(line) for line in lines]
    ours = [each for each in entries if str(each.get("MESSAGE", "")).startswith("{")]
    return [(each["PRIORITY"], json.loads(each["MESSAGE"])) for each in ours]


def event_log(scene: Scene, event: str) -> list[dict[str, object]]:
    """Return the events of one name."""
    return [each for _, each in journal(scene) if each["event"] == event]


def here(scene: Scene, name: str) -> list[bytes]:
    """Return the contents of the files of one name at home."""
    return [path.read_bytes() for path in (scene.machine.tree / DATA).glob(f"*/**/{name}")]


def is_home(scene: Scene) -> bool:
    """Return whether the newest checkpoint on the box is at home, byte for byte."""
    assert scene.writer is not None
    return all(content in here(scene, path.name) for path, content in checkpoint(scene.writer).items())


def staged(scene: Scene) -> bool:
    """Return whether bytes of a file lie in staging."""
    staging = scene.machine.tree / DATA / ".harvestd/staging"
    return any(path.is_file() and path.stat().st_size for path in staging.rglob("*"))


def goes_on(scene: Scene, old: str) -> None:
    """Return when another process is active and brings what is new."""
    machine, writer = scene.machine, scene.writer
    assert writer is not None
    until(lambda: machine.show("MainPID") not in {old, "0"}, "another process")
    until(lambda: machine.show("ActiveState") == "active", "it is active")
    lines = len(writer.train_log.read_text().splitlines())
    writer.log_until(lines + 2)
    until(lambda: writer.train_log.read_bytes() in here(scene, "train_log.jsonl"), "the log grows again")
    machine.say(f"test -d {quoted(f'/{DATA}')}")
