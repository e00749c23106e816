"""The systemd unit in deploy/: what it lets the server ask of the kernel, and its settings."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import GUNICORN, await_ready, give_up, launched

from config import ROOT

SETS = {
    "@resources": "ioprio_set mbind migrate_pages move_pages nice sched_setaffinity sched_setattr "
    "sched_setparam sched_setscheduler set_mempolicy set_mempolicy_home_node setpriority setrlimit",
    "@privileged": "_sysctl acct adjtimex bpf capset chroot clock_adjtime clock_settime "
    "delete_module fanotify_init fanotify_mark finit_module init_module ioperm iopl kexec_load "
    "nfsservctl open_by_handle_at pivot_root quotactl reboot setdomainname setfsuid setgroups "
    "sethostname setresuid setreuid settimeofday setuid swapoff swapon vhangup",
}
"""Sets of systemd, without the calls that change owners: SQLite asks for those as root only."""


def test_the_unit_denies_no_system_call_of_the_server(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "threads.service").read_text()
    lines = re.findall(r"^SystemCallFilter=(.+)$", unit, re.MULTILINE)
    denied = [name for line in lines if line[0] == "~" for name in line[1:].split()]
    allowed = {name for line in lines if line[0] != "~" for name in line.split()}
    calls = {call for name in denied for call in SETS[name].split()} - allowed
    assert denied
    assert not called(calls, tmp_path)
    assert called({"sched_setaffinity"}, tmp_path)  # or this would see nothing


def test_the_unit_keeps_temporary_files_out_of_memory() -> None:
    unit = (ROOT / "deploy" / "threads.service").read_text()
    environment = dict(re.findall(r"^Environment=(\w+)=(.+)$", unit, re.MULTILINE))
    program = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    folder = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    assert folder.stdout == "/var/tmp\n"  # /tmp may be memory


def called(calls: set[str], folder: Path) -> set[str]:
    """Return those of some system calls that a server of two workers makes."""
    if shutil.which("strace") is None:
        give_up("strace is missing.")
    trace = folder / "trace"
    names = ",".join(f"?{call}" for call in sorted(calls))
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={names}", *GUNICORN]
    with launched(folder / "log", command, WORKERS=2) as process:
        server = await_ready(process, folder / "log")
        assert server.call("POST", "/v1/threads", {}).status == 200
        assert server.call("GET", "/admin/").status == 200
    return set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)) & calls
