"""An audit is linear: chains of thousands of records, indices of tens of thousands of images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from provenance_files import read

from wsss.provenance import content, images
from wsss.provenance.audit import audit
from wsss.provenance.findings import Finding
from wsss.provenance.hashes import Hasher
from wsss.provenance.place import Place

pytest_plugins = ("provenance_fixtures",)

LINKS, IMAGES = 1500, 10_000
LINEAR = 2.3  # times the work of twice as many; quadratic work is four times as much


def forge(place: Place, template: content.Content, at: int, below: tuple[str, str] | None) -> tuple[str, str]:
    """A record of one file, made from the file of the record below; returns the file and the record's identity."""
    key, name = f"toy/tables/t_{at}/table.html", f"toy/tables/t_{at}/record.json"
    entry = {"sha256": "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9", "size": 1}  # of "0"
    path = place.path(key)
    path.parent.mkdir(parents=True)
    path.write_text("0")
    path.with_name("attempts.jsonl").write_bytes(b"")
    said = {"self": name, "command": "import-weights", "config": None, "outputs": {key: entry}, "external": {}}
    said |= {"inputs": {below[0]: entry} if below else {}, "parents": {below[0]: below[1]} if below else {}}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    attempts = {**template["attempts"], "ledger_bytes": 0, "ledger_sha256": empty}
    found = {**template, **said, "attempts": attempts}
    found["identity"] = content.identity(found)
    found["seal"] = content.seal(found)
    place.path(name).write_text(content.text_of(found))
    return key, found["identity"]


def test_a_chain_of_thousands_of_records_is_followed_to_its_end(finished, tmp_path):
    template = read(finished.path("tables/seam_table2/record.json"))
    place, below = Place(tmp_path / "results"), None
    for at in range(LINKS):
        below = forge(place, template, at, below)
    found = audit(place.path(f"toy/tables/t_{LINKS - 1}/table.html"), cold=True, code=False)
    assert not found.findings
    assert len(found.chain.links) == LINKS
    place.path("toy/tables/t_0/table.html").write_text("1")
    (finding,) = audit(place.path(f"toy/tables/t_{LINKS - 1}"), cold=True, code=False).findings
    assert len(finding.rests) == LINKS - 1


def work(job: Callable[[], object]) -> int:
    """Count the functions that a job calls: a measure of its work that no busy machine changes."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        job()
    finally:
        sys.setprofile(before)
    return number


def test_the_work_grows_with_the_number_of_records_and_no_faster(finished, tmp_path):
    template = read(finished.path("tables/seam_table2/record.json"))
    place, below, done = Place(tmp_path / "results"), None, {}
    for at in range(400):
        below = forge(place, template, at, below)
        target = place.path(below[0])
        if at in (199, 399):
            place.path("toy/tables/t_0/table.html").write_text("1")  # all rest on it
            done[at] = work(lambda target=target: audit(target, cold=True, code=False))
            place.path("toy/tables/t_0/table.html").write_text("0")
    assert done[399] < LINEAR * done[199]


def missing(folder: Path, number: int) -> tuple[Place, str]:
    """Write an index of images that are not there."""
    data = folder / "toy/data"
    (data / "VOC").mkdir(parents=True)
    rows = [f"{i},{i}.jpg,,train,cat,1,1,{'0' * 64}," for i in range(number)]
    (data / "index.csv").write_text("\n".join(["id,image,mask,split,labels,width,height,sha256,mask_sha256", *rows]))
    (data / "dataset.json").write_text('{"root": "VOC"}')
    return Place(folder), "toy/data/index.csv"


def check(place: Place, index: str) -> tuple[int, list[Finding]]:
    return images.check(place, index, Hasher([place.root], cold=True), None)


def test_thousands_of_missing_images_are_counted(tmp_path):
    number, findings = check(*missing(tmp_path, IMAGES))
    assert number == IMAGES
    assert len(findings) == images.EACH + 1
    assert f"{IMAGES - images.EACH} more files" in findings[-1].line()


def test_the_work_grows_with_the_number_of_images_and_no_faster(tmp_path):
    few, many = (missing(tmp_path / str(number), number) for number in (1000, 2000))
    assert work(lambda: check(*many)) < LINEAR * work(lambda: check(*few))


def test_the_folder_of_the_images_can_be_named(finished, tmp_path: Path):
    import shutil

    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    data = tmp_path / "results/toy/data"
    shutil.move(data / "VOC", tmp_path / "images")
    table = tmp_path / "results/toy/tables/seam_table2"
    found = audit(table, cold=True, code=False)
    assert [(finding.kind, "--images" in finding.text) for finding in found.findings] == [("missing", True)]
    assert not audit(table, cold=True, code=False, images_folder=tmp_path / "images").findings
