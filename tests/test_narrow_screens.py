"""What commands print in a window of 80 columns: held against a terminal of that width, as a person has it."""

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
COLUMNS = 80


def screen(*words, tmp_path):
    """The lines that a command prints on a terminal of 80 columns, without styles."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    env |= {"HF_HUB_OFFLINE": "1", "TERM": "xterm", "PYTHONIOENCODING": "utf-8", "XDG_DATA_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "vram", *words], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=env) as running:
        os.close(theirs)
        read = b""
        # Linux ends what a terminal gives with an error.
        try:
            while some := os.read(ours, 65536):
                read += some
        except OSError:
            pass
    os.close(ours)
    assert running.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read.decode()).replace("\r", "").split("\n")


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "deepseek-ai/DeepSeek-V3", "--gpu", "8x H200", "--engine", "vllm", "--concurrency", "16"),
        ("plan", "deepseek-ai/DeepSeek-V3", "--gpu", "8x H200", "--engine", "vllm"),
        ("prices",),
        ("cost", "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct", "--gpu", "8x H100"),
        ("simulate", "--rate", "2", "--duration", "60", "--model", "Qwen/Qwen3-8B", "--gpu", "L40S"),
        ("size", "--model", "Qwen/Qwen3-8B", "--rate", "2", "--duration", "60", "--gpu", "L40S"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_nothing_is_wider_than_the_window(words, tmp_path):
    """No line is wider but for an address, which is to be copied whole."""
    lines = screen(*words, tmp_path=tmp_path)
    assert len(lines) > 5
    assert not [line for line in lines if len(line) > COLUMNS and "https://" not in line]


def test_keys_and_what_they_used_fit_the_window(tmp_path):
    """Keys with long names, limits and budgets: no line is wider."""
    for name in ("a", "the-search-team-of-the-second-floor"):
        screen("keys", "add", name, "--dollars-per-month", "1234.56", "--tokens-per-minute", "1000000", "--model", "llama-3.1-70b", tmp_path=tmp_path)
    lines = screen("keys", "list", tmp_path=tmp_path)
    assert any("1,000,000" in line for line in lines)
    assert max(map(len, lines)) <= COLUMNS
