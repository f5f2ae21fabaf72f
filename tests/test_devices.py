"""The command of the preflight: what it prints and how it leaves."""
import subprocess
import sys

import pytest

from futures_nb import cli, devices


def test_command_prints_a_table_and_leaves_with_nothing():
    done = subprocess.run([sys.executable, "-c", "from futures_nb.cli import main; main(['preflight', '--devices', 'cpu', '--budget', '0.5'])"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Preflight: sound as far as tested") and "not tested" in done.stdout


def test_fault_leaves_with_status_one(monkeypatch, capsys):
    sound = devices.preflight
    monkeypatch.setattr(devices, "preflight", lambda names, budget: sound(names, budget=budget, sizes=(4,), copy=lambda x, device: x ^ 1))
    with pytest.raises(SystemExit) as leave: cli.main(["preflight", "--devices", "cpu", "--budget", "0.5"])
    assert leave.value.code == 1
    assert "COPY_BITFLIP" in (said := capsys.readouterr().out) and "iommu=pt" in said


def test_unknown_device_is_one_clear_line(capsys):
    with pytest.raises(SystemExit) as leave: cli.main(["preflight", "--devices", "cuda:99"])
    assert leave.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_help_tells_the_exit_status():
    assert "exit status 1" in cli.parser()._subparsers._group_actions[0].choices["preflight"].format_help()
