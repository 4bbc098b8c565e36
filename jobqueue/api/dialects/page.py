"""simplequeue's page: one self-contained file; the hashes in its Content-Security-Policy permit nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources


def _hash(page: bytes, tag: bytes) -> str:
    """The content of the page's only such element as a CSP source (W3C CSP Level 3, section 2.3.1)."""
    (content,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


PAGE = resources.files("jobqueue.api.dialects").joinpath("simplequeue.html").read_bytes()
PAGE_HEADERS = (
    "Content-Security-Policy: default-src 'none'; connect-src 'self'; "
    f"script-src {_hash(PAGE, b'script')}; style-src {_hash(PAGE, b'style')}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n"
).encode()
