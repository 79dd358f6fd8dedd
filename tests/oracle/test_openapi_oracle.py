"""The OpenAPI documents held against two programs that did not write them: a validator of OpenAPI 3.1, and schemathesis at a live gateway."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("httptools", reason="the gateway's extra is not installed")
validator = pytest.importorskip("openapi_spec_validator", reason="the oracle extra is not installed")
pytest.importorskip("schemathesis", reason="the oracle extra is not installed")

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway_thread import serving  # noqa: E402
from test_gateway import pools  # noqa: E402

from vram.gateway.store import Store  # noqa: E402

TOKEN = "a-token-of-administrators"  # noqa: S105  (of this test)


@pytest.mark.parametrize("name", ["gateway", "gateway-admin"])
def test_the_document_is_openapi(name):
    """It is a valid OpenAPI 3.1 document."""
    validator.validate(json.loads((files("vram") / "schemas" / f"{name}.json").read_text()))


def schemathesis(tmp_path, document, url, *args):
    command = [sys.executable, "-m", "schemathesis.cli", "run", document, "--url", url, "--max-examples", "50", "--seed", "1", "--no-color", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=500)
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_clients_door_keeps_its_document(tmp_path):
    """The same at the clients' port, with a key: no error of ours, no status, content type, form or header that the document does not have.

    What the engine alone can judge (the inside of messages) is forwarded, so a broken body need not be refused here.
    """
    store = Store(tmp_path / "gateway.db")
    key = store.add_key("tests")
    store.close()
    with serving(tmp_path, pools) as (gateway, _):
        url = f"http://127.0.0.1:{gateway.port}"
        with urlopen(f"{url}/openapi.json") as answer:  # noqa: S310  (of the gateway that was just started)
            document = json.load(answer)
        # Of a model that is served, or hardly any request would come past the first check.
        for name in ("Chat", "Completion", "Responses", "Embeddings"):
            document["components"]["schemas"][name]["properties"]["model"] = {"enum": ["m"]}
        (tmp_path / "document.json").write_text(json.dumps(document))
        schemathesis(
            tmp_path,
            "document.json",
            url,
            *("-H", f"Authorization: Bearer {key}", "--exclude-checks", "negative_data_rejection,positive_data_acceptance"),
        )


def test_the_administrators_door_keeps_its_document(tmp_path):
    """Thousands of requests, sound and broken, made from the document: every answer is one that it describes."""
    with serving(tmp_path, pools, admin_port=0, admin_token=TOKEN) as (gateway, _):
        url = f"http://127.0.0.1:{gateway.admin_port}"
        schemathesis(tmp_path, f"{url}/openapi.json", url, "-H", f"Authorization: Bearer {TOKEN}")
