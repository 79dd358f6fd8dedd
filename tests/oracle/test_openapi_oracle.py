"""The OpenAPI documents held against two programs that did not write them: a validator of OpenAPI 3.1, and schemathesis at a live gateway."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
validator = pytest.importorskip("openapi_spec_validator", reason="the oracle extra is not installed")
pytest.importorskip("schemathesis", reason="the oracle extra is not installed")

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway_thread import serving  # noqa: E402
from test_gateway import pools  # noqa: E402

TOKEN = "a-token-of-administrators"  # noqa: S105  (of this test)


@pytest.mark.parametrize("name", ["gateway-admin"])
def test_the_document_is_openapi(name):
    """It is a valid OpenAPI 3.1 document."""
    validator.validate(json.loads((files("vram") / "schemas" / f"{name}.json").read_text()))


def test_the_administrators_door_keeps_its_document(tmp_path):
    """Thousands of requests, sound and broken, made from the document: every answer is one that it describes."""
    with serving(tmp_path, pools, admin_port=0, admin_token=TOKEN) as (gateway, _):
        url = f"http://127.0.0.1:{gateway.admin_port}"
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--url", url, "-H", f"Authorization: Bearer {TOKEN}"]
        done = subprocess.run(
            [*command, "--max-examples", "50", "--seed", "1", "--no-color"], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=500
        )
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
