"""Has schemathesis hold a real server to its own OpenAPI document: `python -m tests.contract.run`, from an environment with the dev extra.

Every operation of every API is sent what its schema allows and what it does not, alone and along the links of `links.py`, from an enqueue
to a conclude. No answer may be a 5xx; every status, header, type and body must be as the document says; and the token is asked for.

GET /events is left out, since a stream has no end; tests/api/test_events.py reads it. Two of schemathesis's checks are left out too: that
all else than the schema allows is refused (a batch answers 200 and names the bad item; the dialects are as lax as what they stand for),
and that all that it allows is taken (some fields exclude each other, which no schema here says).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

from .links import linked

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
TOKEN = "a-token-for-this-run"
SECONDS_MAX = 300
"""A run takes about 20 s; this only ends one that hangs."""


def main() -> int:
    """Run it; the exit code of schemathesis, or 1 if the server had a defect or did not end well."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        flags = ["--port", "0", "--token", TOKEN, "--default-wait", "0.05", "--max-wait", "0.2"]
        server = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "jobqueue", "serve", *flags], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            document = Path(folder, "openapi.json")
            with urlopen(f"{address}/openapi.json", timeout=10) as answer:
                document.write_text(json.dumps(linked(json.load(answer))))
            code = subprocess.run(
                [
                    str(Path(sys.executable).with_name("schemathesis")),
                    *("run", document.name, "--url", address),
                    *("--header", f"Authorization: Bearer {TOKEN}"),
                    *("--exclude-path", "/events"),
                    *("--checks", ",".join(CHECKS)),
                    *("--max-examples", "10"),
                    # More would parse Python in several threads at once, which fails in CPython 3.11 (AST recursion depth mismatch).
                    *("--workers", "1"),
                    *("--seed", "1"),
                    *("--request-timeout", "10"),
                    *("--warnings", "off"),
                    "--continue-on-failure",
                    *sys.argv[1:],
                ],
                cwd=folder,
                check=False,
                timeout=SECONDS_MAX,
            ).returncode
        finally:
            server.terminate()
            ended = server.wait(30)
        log.seek(0)
        told = log.read()
    if ended != 0 or "Traceback" in told:
        print(f"the server ended with {ended} and said:\n{told[-4_000:]}")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
