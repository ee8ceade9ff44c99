"""An audit is of the place it is pointed at: copies, moved folders, other working folders, links."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from provenance_chain import DATA, TABLE, index, make_chain, working_in
from provenance_files import rewrite

from wsss.provenance.audit import audit
from wsss.provenance.place import Home, Place, is_key, root_of

pytest_plugins = ("provenance_fixtures",)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("results/shapes/seam/seam/seed0/cam/measured-0-of-1.npz", "results"),
        ("/a/results/shapes/seam/seam/seed0/train", "/a/results"),
        ("results/shapes/tables/seam_table2/table.csv", "results"),
        ("results/shapes/tables/seam_table2", "results"),
        ("results/shapes/claims/claims/table.csv", "results"),
        ("results/shapes/claims/claims", "results"),
        ("results/shapes/claims/seam_claims/figure.pdf", "results"),
        ("results/shapes/report/index.html", "results"),
        ("results/shapes/data/index.csv", "results"),
        ("results/shapes/data/test/index.csv", "results"),
        ("results/shapes/data", "results"),
        ("shapes/tables/seam_table2/table.csv", "."),
        ("somewhere/model.pt", "somewhere"),
        ("/data/weights.pth", "/data"),
    ],
)
def test_the_root_follows_from_the_layout(path, root):
    assert root_of(path) == Path(root)


def test_files_have_the_same_name_wherever_the_results_are(tmp_path):
    place = Place.of(tmp_path / "results/shapes/tables/seam_table2/table.csv")
    assert place.root == tmp_path / "results"
    assert place.key(tmp_path / "results/shapes/data/index.csv") == "shapes/data/index.csv"
    assert place.key("/etc/passwd") is None
    assert Home.of("shapes/seam/seam/seed3/cam/x.npz") == Home("shapes", "seam", "seam", 3, "cam")


@pytest.mark.parametrize("text", ["/etc/passwd", "../x", "a/../b", "a//b", "", "a\nb", "a\\b", "a/./b", "a\x1b[31m"])
def test_names_that_lead_elsewhere_are_refused(text):
    assert not is_key(text)


def test_a_moved_copy_is_audited_in_its_own_place(finished, tmp_path):
    shutil.copytree(finished.folder / "results", tmp_path / "elsewhere")
    table = tmp_path / "elsewhere/toy/tables/seam_table2/table.csv"
    assert not audit(table, cold=True, code=False).findings
    table.write_text(table.read_text().replace("55.41", "99.00"))
    with working_in(finished.folder):  # whose own files are as they should be
        assert [finding.kind for finding in audit(table, cold=True, code=False).findings] == ["modified"]
    assert not finished.audit().findings


def test_a_relative_path_is_of_the_working_folder(chain):
    with working_in(chain.folder / "results/toy"):
        assert not audit("tables/seam_table2/table.csv", cold=True, code=False).findings
        assert not audit("tables/seam_table2", cold=True, code=False).findings


def test_results_of_another_folder_have_the_same_content_digest(finished, tmp_path):
    other = make_chain(tmp_path)
    one, two = finished.audit(), other.audit()
    assert one.content == two.content
    assert one.root != two.root  # made at another time


def test_results_behind_a_link_are_audited(chain, tmp_path):
    (tmp_path / "link").symlink_to(chain.folder / "results")
    assert not audit(tmp_path / "link/toy/tables/seam_table2/table.csv", cold=True, code=False).findings


def test_images_in_a_folder_that_is_a_link_are_compared(tmp_path, tmp_path_factory):
    with working_in(tmp_path):
        index()
    outside = tmp_path_factory.mktemp("disk")
    images = tmp_path / DATA / "VOC/JPEGImages"
    shutil.move(images, outside)
    images.symlink_to(outside / images.name)
    chain = make_chain(tmp_path)
    assert images.is_symlink()
    assert chain.kinds() == set()
    harmed = next((outside / images.name).iterdir())
    harmed.write_bytes(harmed.read_bytes() + b" ")
    assert {kind for kind, _ in chain.kinds()} == {"modified"}


def test_a_link_out_of_the_results_is_not_followed(chain, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "model.pt"
    model = chain.path("seam/seam/seed0/train/model.pt")
    shutil.move(model, outside)
    model.symlink_to(outside)
    assert ("foreign", "toy/seam/seam/seed0/train/model.pt") in chain.kinds()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_not_opened(chain, kind):
    path = chain.folder / TABLE / "table.html"
    path.unlink()
    {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    assert any(finding[1].endswith("table.html") for finding in chain.kinds())


@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/self/environ", "/dev/zero", "/etc/mtab"])
def test_what_is_the_kernels_is_not_opened_though_a_record_names_it(chain, path):
    opened = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    rewrite(chain.path("seam/seam/seed0/train/record.json"), external={path: {"sha256": "0" * 64, "size": 0}})
    assert ("foreign", path) in chain.kinds()
    assert not {path, os.path.realpath(path)} & set(opened)


@pytest.mark.parametrize("root", ["/", "/dev", "../../../../../../../../../../etc"])
def test_an_index_cannot_send_the_audit_through_the_machine(chain, root):
    path = chain.path("data/dataset.json")
    path.write_text(path.read_text().replace('"VOC"', f'"{root}"'))
    found = chain.audit()
    assert found.findings
    assert not any("/etc/" in finding.line() and finding.kind == "modified" for finding in found.findings)
