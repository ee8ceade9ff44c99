"""Downloads from a real server on the loopback interface that behaves as badly as servers do."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from wsss.data import build, download, transfer
from wsss.data.download import Source, augment, fetch, sbd_mask, train_aug
from wsss.data.index import Dataset
from wsss.errors import WsssError
from wsss.stores import png_bytes

CONTENT = np.random.default_rng(0).bytes(300_000)


def md5(data: bytes) -> str:
    return f"md5:{hashlib.md5(data).hexdigest()}"


class Server:
    """Serves ``content``. ``cuts``: after how many body bytes it hangs up, one entry per request."""

    def __init__(self, content: bytes):
        self.content, self.cuts, self.ranges, self.status = content, [], True, None
        self.requests: list[str | None] = []  # the Range header of each

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if self.status:
            handler.send_error(self.status)
        elif start >= len(self.content) and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            self._send(handler, start)

    def _send(self, handler: BaseHTTPRequestHandler, start: int) -> None:
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@pytest.fixture
def serve(monkeypatch):
    """A running server; its address is ``server.url``. Attempts follow each other quickly."""
    monkeypatch.setattr(transfer, "PAUSE", 0.001)
    running = []

    def start(content: bytes) -> Server:
        server = Server(content)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        httpd.daemon_threads = False
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}).start()
        running.append(httpd)
        server.url = f"http://127.0.0.1:{httpd.server_port}/data.tar"
        return server

    yield start
    for httpd in running:
        httpd.shutdown()
        httpd.server_close()


# ---- transfer


def test_a_cut_line_is_resumed_where_it_broke(serve, tmp_path):
    server = serve(CONTENT)
    server.cuts = [100_000, 50_000]
    transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["data.tar"]


def test_a_later_run_goes_on(serve, tmp_path):
    server = serve(CONTENT)
    (tmp_path / "data.tar.part").write_bytes(CONTENT[:200_000])
    transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.requests == ["bytes=200000-"]


def test_a_server_without_ranges_starts_again(serve, tmp_path):
    server = serve(CONTENT)
    server.ranges, server.cuts = False, [200_000, 250_000]
    transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=200000-", "bytes=250000-"]


def test_everything_was_there_already(serve, tmp_path):
    """The server answers 416: there is no byte after the last one."""
    server = serve(CONTENT)
    (tmp_path / "data.tar.part").write_bytes(CONTENT)
    transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.requests == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("stale", [CONTENT + b"more", b"x" * len(CONTENT), b"x" * 1000])
def test_a_stale_part_does_not_spoil_the_file(serve, tmp_path, stale):
    server = serve(CONTENT)
    (tmp_path / "data.tar.part").write_bytes(stale)
    transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert server.requests[-1] is None


def test_wrong_bytes_are_not_kept(serve, tmp_path):
    server = serve(b"<html>please log in</html>")
    with pytest.raises(WsssError, match=r"sent 26 bytes that do not match md5:.*WSSS_MIRROR"):
        transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_a_dead_line_gives_up_and_keeps_what_came(serve, tmp_path):
    server = serve(CONTENT)
    server.cuts = [70_000] + [0] * 20
    with pytest.raises(WsssError, match=r"interrupted 6 times in a row.*go on after 70000 bytes"):
        transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar.part").read_bytes() == CONTENT[:70_000]
    assert len(server.requests) == transfer.ATTEMPTS


def test_a_slow_but_steady_line_is_not_given_up(serve, tmp_path):
    server = serve(CONTENT)
    server.cuts = [20_000] * 14
    transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, transfer.ATTEMPTS)])
def test_refusals(serve, tmp_path, status, attempts):
    server = serve(CONTENT)
    server.status = status
    with pytest.raises(WsssError, match=f"answers {status}"):
        transfer.download(server.url, tmp_path / "data.tar", md5(CONTENT))
    assert len(server.requests) == attempts


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.001)
    with pytest.raises(WsssError, match="interrupted 6 times"):
        transfer.download("http://127.0.0.1:1/data.tar", tmp_path / "data.tar", md5(CONTENT))


# ---- archives


def tar_of(members: dict[str, bytes], mode: str = "w", link: tuple[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return buffer.getvalue()


@contextmanager
def offered(monkeypatch, content: bytes, url: str):
    monkeypatch.setitem(download.SOURCES, "toy", Source(url, md5(content), len(content), "none"))
    yield


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_fetch_verifies_unpacks_and_is_done_once(serve, tmp_path, monkeypatch, mode):
    content = tar_of({"VOCdevkit/VOC2012/a.txt": b"hello", "VOCdevkit/b.txt": b""}, mode)
    server = serve(content)
    server.cuts = [100]
    with offered(monkeypatch, content, server.url):
        fetch("toy", tmp_path / "out")
        assert (tmp_path / "out" / "VOCdevkit" / "VOC2012" / "a.txt").read_bytes() == b"hello"
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["VOCdevkit", "source.json"]
        served = len(server.requests)
        fetch("toy", tmp_path / "out")
        assert len(server.requests) == served


def test_url_and_mirror_replace_the_address(serve, tmp_path, monkeypatch):
    content = tar_of({"a.txt": b"hello"})
    server = serve(content)
    with offered(monkeypatch, content, "http://127.0.0.1:1/path/data.tar"):
        fetch("toy", tmp_path / "by_url", url=server.url)
        monkeypatch.setenv("WSSS_MIRROR", server.url.removesuffix("data.tar"))
        fetch("toy", tmp_path / "by_mirror")
    for name in ("by_url", "by_mirror"):
        assert (tmp_path / name / "a.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["../escape.txt", "inside/../../escape.txt", "/escape.txt"])
def test_no_member_leaves_the_folder(serve, tmp_path, monkeypatch, name):
    content = tar_of({"fine.txt": b"", name: b"harm"})
    server = serve(content)
    with (
        offered(monkeypatch, content, server.url),
        pytest.raises(WsssError, match=rf"data\.tar: member '{name}' points out of the folder"),
    ):
        fetch("toy", tmp_path / "out")
    assert not (tmp_path / "escape.txt").exists()
    assert not (tmp_path / "out" / "source.json").exists()


def test_no_link_leads_out_of_the_folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of({}, link=("link", "../secret")))
    with pytest.raises(WsssError, match="member 'link' is refused"):
        transfer.unpack(tmp_path / "a.tar", tmp_path / "out")


def test_an_archive_that_finds_no_room_is_no_damaged_one(tmp_path):
    """With a limit on the size of files, set in a process of its own."""
    (tmp_path / "a.tgz").write_bytes(tar_of({"a.bin": bytes(100_000)}, "w:gz"))
    code = "import sys; from wsss.data.transfer import unpack; unpack(sys.argv[1], sys.argv[2])"
    command = ["prlimit", "--fsize=50000", sys.executable, "-c", code, str(tmp_path / "a.tgz"), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "a.tgz: cannot be unpacked" in result.stderr
    assert result.stderr.rstrip().endswith("; make room on the disk and run it again")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no archive"])
def test_a_damaged_archive(tmp_path, damage):
    data = tar_of({"a.bin": CONTENT}, "w:gz")
    (tmp_path / "a.tgz").write_bytes(damage(data))
    with pytest.raises(WsssError, match=r"a\.tgz: cannot be unpacked.*download it again"):
        transfer.unpack(tmp_path / "a.tgz", tmp_path / "out")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path, one_line):
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path / "mine", tmp_path / "mine/voc"):
        one_line(lambda folder=folder: fetch("voc2012", folder), f"{folder}: cannot be written", "in the way")


def test_unknown_name():
    with pytest.raises(
        WsssError, match=r"unknown data set to download 'voc2007': choose one of sbd, voc2012, voc2012-test"
    ):
        fetch("voc2007", "unused")


def test_sources_are_complete():
    for source in download.SOURCES.values():
        algorithm, _, digest = source.checksum.partition(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
        assert source.url.startswith(("http://", "https://"))
        assert source.terms


# ---- train_aug


@pytest.fixture
def voc_and_sbd(tmp_path):
    """VOC: train v1, val v2 and v3, SBD: train v1, v2, s1, val s2. So train_aug is s1, s2, v1."""
    voc, sbd = tmp_path / "voc" / "VOCdevkit" / "VOC2012", tmp_path / "sbd" / "benchmark_RELEASE" / "dataset"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / name).mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    for image_id in ("v1", "v2", "v3", "s1", "s2"):
        grey = 40 * len(list((voc / "JPEGImages").iterdir()))
        Image.new("RGB", (6, 4), (grey,) * 3).save(voc / "JPEGImages" / f"{image_id}.jpg")
        shown = {"v1": "aeroplane", "v2": "bicycle", "v3": "bird", "s1": "horse", "s2": "motorbike"}[image_id]
        objects = f"<object><name>{shown}</name></object>"
        (voc / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    for value, image_id in enumerate(("v1", "v2", "v3"), start=1):
        (voc / "SegmentationClass" / f"{image_id}.png").write_bytes(png_bytes(np.full((4, 6), value)))
    for value, image_id in enumerate(("v1", "v2", "s1", "s2"), start=11):
        segmentation = np.full((4, 6), value, np.uint8)
        savemat(sbd / "cls" / f"{image_id}.mat", {"GTcls": {"Segmentation": segmentation, "CategoriesPresent": value}})
    for folder, name, ids in (
        (voc / "ImageSets/Segmentation", "train", "v1"),
        (voc / "ImageSets/Segmentation", "val", "v2 v3"),
        (sbd, "train", "v1 v2 s1"),
        (sbd, "val", "s2"),
    ):
        (folder / f"{name}.txt").write_text("\n".join(ids.split()) + "\n")
    return voc, sbd


def test_train_aug_is_sbd_and_voc_train_without_voc_val(voc_and_sbd):
    voc, sbd = voc_and_sbd
    assert train_aug(sbd, voc, expected=3) == ["s1", "s2", "v1"]
    with pytest.raises(WsssError, match="give 3 images, not 10582"):
        train_aug(sbd, voc, expected=download.TRAIN_AUG)


def test_augment_makes_a_voc_folder_that_can_be_indexed(voc_and_sbd, tmp_path):
    augment(tmp_path / "voc", tmp_path / "sbd", tmp_path / "results" / "voc12", expected=3)
    lists = {name: f"{name}.txt" for name in ("train", "val", "train_aug")}
    options = {"root": str(tmp_path / "results" / "voc12"), "masks": "SegmentationClassAug", "lists": lists}
    build({"name": "voc12", "builder": "voc", **options}, tmp_path / "index")
    dataset = Dataset.load(tmp_path / "index")
    assert dataset.split("train_aug").ids == ["v1", "s1", "s2"]
    values = {i: np.unique(dataset.mask(i)).tolist() for i in dataset.ids}
    assert values == {"v1": [1], "v2": [2], "v3": [3], "s1": [13], "s2": [14]}  # VOC's own where it has one
    assert not (tmp_path / "results" / "voc12" / "JPEGImages").readlink().is_absolute()
    augment(
        tmp_path / "voc", tmp_path / "sbd", tmp_path / "results" / "voc12", expected=3
    )  # a second time does no harm
    with pytest.raises(WsssError, match=r"10582"):
        augment(tmp_path / "voc", tmp_path / "sbd", tmp_path / "results" / "voc12")


def test_what_is_no_sbd(voc_and_sbd, tmp_path):
    _, sbd = voc_and_sbd
    with pytest.raises(WsssError, match="has no benchmark_RELEASE/dataset/cls"):
        augment(tmp_path / "voc", tmp_path / "voc", tmp_path / "out")
    (sbd / "cls" / "s1.mat").write_bytes(b"broken")
    with pytest.raises(WsssError, match=r"s1\.mat: not a class mask of SBD"):
        sbd_mask(sbd / "cls" / "s1.mat")
