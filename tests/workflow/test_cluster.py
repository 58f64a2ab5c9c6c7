"""The smoke workflow through a real SLURM of one node, started here and stopped again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from featurespeed.pipeline.config import TrainingSettings, jobs_together, owners_of
from featurespeed.pipeline.registry import ARTEFACTS
from tests.conftest import REPOSITORY, SYSTEM_PATH, run_snakemake
from tests.workflow.test_own import write_files
from tests.workflow.test_workflow import smoke_config

pytestmark = pytest.mark.slow

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
CLUSTER_PATH = os.pathsep.join([SYSTEM_PATH, "/usr/sbin"])
CONFIGURATION = Path("/etc/slurm")

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=300
KillWait=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GRES_CONF = "NodeName={host} Name=gpu Count=1 File=/dev/null\n"
CGROUP_CONF = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\n"


def why_not() -> str:
    """Why a cluster cannot be started here; empty if it can."""
    if os.geteuid() != 0:
        return "starting SLURM daemons needs root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=CLUSTER_PATH) is None]
    if missing:
        return f"SLURM is not installed here (no {', '.join(missing)})"
    if subprocess.run(["pgrep", "-x", "slurmctld"], capture_output=True).returncode == 0:
        return "another SLURM controller runs on this machine"
    return ""


def call(*command: str) -> str:
    environment = {**os.environ, "PATH": CLUSTER_PATH}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def wait_until(condition, what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def start_munge() -> int | None:
    """Its process id, or None if it was running already."""
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return None
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    call("runuser", "-u", "munge", "--", "munged")
    wait_until(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0, "munged")
    return int(Path("/run/munge/munged.pid").read_text())


def stop(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running SLURM whose state lies in a folder of its own; an existing configuration is put back at the end."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    texts = {
        "slurm.conf": SLURM_CONF.format(host=host, folder=folder, cpus=os.cpu_count()),
        "gres.conf": GRES_CONF.format(host=host),
        "cgroup.conf": CGROUP_CONF,
    }
    CONFIGURATION.mkdir(exist_ok=True)
    saved = {name: (CONFIGURATION / name).read_bytes() for name in texts if (CONFIGURATION / name).exists()}
    pids: list[int] = []
    try:
        for name, text in texts.items():
            (CONFIGURATION / name).write_text(text)
        munge = start_munge()
        pids += [munge] if munge else []
        for daemon in ("slurmctld", "slurmd"):
            call(daemon)
            pid_file = folder / f"{daemon}.pid"
            wait_until(lambda file=pid_file: file.exists() and file.read_text().strip(), str(pid_file))
            pids.append(int(pid_file.read_text()))
        wait_until(lambda: call("sinfo", "-h", "-o", "%t").strip() in ("idle", "mix"), "an idle node")
        yield folder
    finally:
        for pid in reversed(pids):
            stop(pid)
        for name in texts:
            (CONFIGURATION / name).unlink(missing_ok=True)
        for name, content in saved.items():
            (CONFIGURATION / name).write_bytes(content)


def tables(results: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every Parquet and CSV file."""
    files = [path for path in results.rglob("*") if path.suffix in (".parquet", ".csv")]
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


# One artefact of each kind: a stage alone, one that trains by itself, and one of shared training and measuring jobs.
TARGETS = ("fsf_fig1a", "sc_fig28", "sc_fig01")


def processes(jobs_of: Callable, data_of: Callable, training: TrainingSettings) -> int:
    """How many processes do the jobs of Figure 1: together are those that its paper needs first, by their data."""
    jobs = jobs_of()
    owners = owners_of(jobs, {name: jobs_of(name) for name in ARTEFACTS}, training.together)
    together = {name: (owners[name], data_of(job)) for name, job in jobs.items()}
    groups = jobs_together(together, training.sizes_per_process)
    return sum(bool(set(names) & set(jobs_of("sc_fig01"))) for names in groups)


OFTEN = ("--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1")
SLURM = ("--profile", str(REPOSITORY / "workflow/profiles/slurm"), *OFTEN)


def test_smoke_workflow_through_slurm(cluster, smoke_results, tmp_path):
    arguments = (*SLURM, "--config", "scale=smoke", "--", *TARGETS)
    done = run_snakemake(*arguments, directory=tmp_path, PATH=CLUSTER_PATH)
    assert done.returncode == 0, done.stderr[-5000:]
    submitted = done.stderr.count("has been submitted with SLURM jobid")
    config = smoke_config()
    trained = processes(config.training_runs, lambda run: run.data.name, config.training)
    measured = processes(config.sharpness_runs, lambda spec: spec.training.data.name, config.training)
    assert submitted == len(TARGETS) + trained + measured
    finished = [line for line in call("scontrol", "show", "job").split() if line.startswith("JobState=")]
    assert finished and set(finished) == {"JobState=COMPLETED"} and len(finished) == submitted
    made, expected = tables(tmp_path / "results/smoke"), tables(smoke_results)
    assert {f"tables/{name}.csv" for name in TARGETS} < set(made)
    assert made == {name: expected[name] for name in made}
    again = run_snakemake("-n", *arguments, directory=tmp_path, PATH=CLUSTER_PATH)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_model_of_ones_own_through_slurm(cluster, tmp_path):
    arguments = (*SLURM, "own", "--configfile", str(write_files(tmp_path / "mine")))
    done = run_snakemake(*arguments, directory=tmp_path / "run", PATH=CLUSTER_PATH)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stderr.count("has been submitted with SLURM jobid") == 4  # two sizes trained, then measured
    assert "octaves" in (tmp_path / "run/results/smoke/own/verdict.txt").read_text()
    again = run_snakemake("-n", *arguments, directory=tmp_path / "run", PATH=CLUSTER_PATH)
    assert "Nothing to be done" in again.stdout + again.stderr
