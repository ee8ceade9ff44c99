"""Data sets as the configuration describes them: what their index is built from, and where it is."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from wsss.errors import WsssError
from wsss.plan.code import stage_code
from wsss.plan.layers import Raw
from wsss.provenance.sources import digest_of_sources

TEST_LISTS = {"test": "test.txt"}
VOC, VOC_TEST = "voc12", "voc2012-test"  # folders of downloads


def index_config(name: str, spec: Raw, results: Path) -> Raw:
    """Return the settings of a data set's index. Without a folder of the user's own, VOC comes from the download."""
    config = {
        "name": name,
        "builder": spec["builder"],
        "splits": spec["splits"],
        **spec["options"],
    }
    downloaded = _downloaded(spec, spec["options"])
    if downloaded:
        config["root"] = _download(results, VOC)
    return _completed(config, downloaded)


def test_config(name: str, spec: Raw, results: Path) -> Raw:
    """Return the settings of the index of the test images. It is an index of its own: adding it makes nothing stale."""
    config = index_config(name, spec, results)
    for key in ("sources", "splits"):
        config.pop(key, None)
    unknown = ["masks"]
    if spec["builder"] == "voc":
        unknown += ["instances", "labels"]
    if spec["builder"] == "folder" and spec["options"].get("classes"):
        unknown += ["labels"]
    config |= dict.fromkeys(unknown)
    config["lists"] = TEST_LISTS
    config |= test_options(name, spec)
    if config["root"]:
        return _completed(config, downloaded=False)
    config["root"] = _download(results, VOC_TEST)
    return _completed(config, downloaded=True)


def _download(results: Path, folder: str) -> str:
    """Return the folder of a download."""
    return str(results / "downloads" / folder)


def test_options(name: str, spec: Raw) -> Raw:
    """Read from a data set's entry the options of images without public masks."""
    if "test" not in spec:
        raise WsssError(f"config.yaml, datasets.{name}: names no test images; give it test: {{root: <folder>}}")
    return dict(spec["test"])


def source(
    name: str,
    spec: Raw,
    results: Path,
    test: bool = False,
) -> list[str]:
    """Return the marker of the download that a data set needs; none where a folder is given.

    Args:
        name: the data set.
        spec: its entry in the configuration.
        results: the folder of results.
        test: ask for that of its test images instead.
    """
    options = spec["options"]
    if test:
        options = {"root": ".", **test_options(name, spec)}
    if not _downloaded(spec, options):
        return []
    folder = _download(results, VOC_TEST if test else VOC)
    return [f"{folder}/.complete"]


def absent(name: str, spec: Raw) -> str | None:
    """Say why there are no images of a data set: nobody has said where they are."""
    drawn_or_downloaded = spec["builder"] in ("shapes", "voc")
    given = spec["options"].get("root")
    if drawn_or_downloaded or given:
        return None
    return f"no folder of {name} is given (config.yaml, datasets.{name}.options.root)"


def has_objects(spec: Raw) -> bool:
    """Tell whether a data set has masks of objects, by which instances are measured."""
    if spec["builder"] == "shapes":
        return True
    return bool(spec["options"].get("instances"))


def parts(spec: Raw, *roles: str) -> list[str]:
    """Return the disjoint parts that make up the images of roles; ``train`` is ``measured`` and, if any, ``rest``."""
    splits = spec["splits"]
    of_train = ["measured"]
    if splits["train"] != splits["measured"]:
        of_train.append("rest")
    found: list[str] = []
    for role in roles:
        found += of_train if role == "train" else [role]
    return found


def _downloaded(spec: Raw, options: Raw) -> bool:
    """Tell whether images come from the download: where no folder of the user's own is given."""
    given = options.get("root")
    return spec["builder"] == "voc" and given is None


def _completed(config: Raw, downloaded: bool) -> Raw:
    """Add to the settings of an index all that makes it stale: its code, and the files that a user's own folder holds.

    The lists, label tables and annotations of a download cannot change.
    """
    found = dict(config)
    found["stage"] = "index"
    found["code"] = stage_code("index", config)
    if downloaded:
        return found
    sources = _digest_of_sources(json.dumps(config))
    if sources:
        found["sources"] = sources
    return found


@functools.cache
def _digest_of_sources(config: str) -> str | None:
    """Return the digest of what an index with these settings is built from; it is read once in a process."""
    return digest_of_sources(json.loads(config))
