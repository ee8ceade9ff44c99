"""Run roc-validator on a crate without a network: the two JSON-LD contexts come from local files.

    python provenance_validator.py CRATE

Printed are the identifiers of the REQUIRED checks that fail, one a line. Python is that of an environment with
roc-validator and rocrate 0.11, whose context is that of RO-Crate 1.1.
"""

from __future__ import annotations

import io
import json
import sys
import urllib.request
from importlib.resources import files
from typing import Any
from urllib.parse import urlparse

TERMS = {"@context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}}  # those that crates here use
REACHABILITY = ("ro-crate-1.1_3.1", "ro-crate-1.1_3.2")  # whether contexts can be downloaded
PROFILES = ("ro-crate-1.1", "process-run-crate-0.5", "workflow-run-crate-0.5", "provenance-run-crate-0.5")


def context(url: str) -> bytes:
    """The text of a context by its address."""
    if "workflow-run" in urlparse(url).path:
        return json.dumps(TERMS).encode()
    return files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()


class Answer(io.BytesIO):
    """An answer that a server would have answered."""

    status = code = 200

    def __init__(self, url: str):
        super().__init__(context(url))
        self.url = url
        self.headers = {"Content-Type": "application/ld+json"}

    def info(self) -> dict[str, str]:
        return self.headers

    def geturl(self) -> str:
        return self.url


def opened(request: Any, *_: object, **__: object) -> Answer:
    return Answer(request if isinstance(request, str) else request.full_url)


def main() -> None:
    from rocrate_validator import models, services

    urllib.request.urlopen = opened  # type: ignore[assignment]
    urllib.request.OpenerDirector.open = lambda _, request, *a, **k: opened(request)  # type: ignore[method-assign]
    for profile in PROFILES:
        settings = models.ValidationSettings(
            rocrate_uri=sys.argv[1],
            profile_identifier=profile,
            requirement_severity=models.Severity.REQUIRED,
            skip_checks=list(REACHABILITY),
            skip_availability_check=True,
            no_cache=True,
        )
        for issue in services.validate(settings).get_issues():
            print(profile, issue.check.identifier, " ".join(str(issue.message).split()))
    print("done")


if __name__ == "__main__":
    main()
