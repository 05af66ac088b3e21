"""Files over a network that stalls, breaks off and lies."""

from __future__ import annotations

import gzip
import hashlib
import os

import numpy as np
import pytest
import scanpy as sc

from scapp import _download
from scapp._download import RemoteFile, WrongFileError, fetch

CONTENT = b"PK" + np.random.default_rng(0).bytes(300_000)
HASH = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def remote(site):
    """The file as it is published, sent by a behaviour."""

    def published(behaviour=None, known_hash=HASH):
        return RemoteFile("bundle.npz", site.add("bundle.npz", CONTENT, behaviour), known_hash)

    return published


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_a_file_is_downloaded_once(site, remote, tmp_path):
    folder = tmp_path / "new" / "folder"
    path = fetch(remote(), folder=folder)
    assert path == folder / "bundle.npz"
    assert path.read_bytes() == CONTENT
    assert fetch(remote(), folder=folder) == path
    assert len(site.requests) == 1
    assert left_in(folder) == ["bundle.npz"]


def test_a_file_in_a_folder_inside_is_found_and_not_downloaded(remote, tmp_path):
    path = fetch(remote(), folder=tmp_path / "sorted" / "networks")
    assert fetch(remote(), folder=tmp_path / "sorted") == path
    assert left_in(tmp_path / "sorted") == ["bundle.npz", "networks"]


def test_progress_is_shown_unless_it_is_not_wanted(remote, tmp_path, capsys):
    fetch(remote(), folder=tmp_path / "a")
    assert "300.0/300.0 kB" in capsys.readouterr().err
    fetch(remote(), folder=tmp_path / "b", progress_bar=False)
    assert "kB" not in capsys.readouterr().err


@pytest.fixture
def scanpy_folder(tmp_path):
    before = sc.settings.datasetdir
    sc.settings.datasetdir = tmp_path / "scanpy"
    yield tmp_path / "scanpy"
    sc.settings.datasetdir = before


def test_files_go_where_scanpy_keeps_its_own_or_the_environment_says(remote, tmp_path, scanpy_folder, monkeypatch):
    assert fetch(remote()).parent == scanpy_folder
    monkeypatch.setenv("SCAPP_DATA_DIR", str(tmp_path / "environment"))
    assert fetch(remote()).parent == tmp_path / "environment"
    assert fetch(remote(), folder=tmp_path / "argument").parent == tmp_path / "argument"


def test_a_mirror_stands_for_the_public_host(site, tmp_path, monkeypatch):
    elsewhere = RemoteFile("bundle.npz", "http://127.0.0.1:9/never/asked", HASH)
    site.add("mirror/bundle.npz", CONTENT)
    assert fetch(elsewhere, folder=tmp_path / "a", base_url=f"{site.url}/mirror/").read_bytes() == CONTENT
    monkeypatch.setenv("SCAPP_DATA_URL", f"{site.url}/mirror")
    assert fetch(elsewhere, folder=tmp_path / "b").read_bytes() == CONTENT


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(site, remote, tmp_path):
    def breaks_twice(handler, content, n):
        site.send(handler, content, n=100_000 if n < 2 else None)

    assert fetch(remote(breaks_twice), folder=tmp_path).read_bytes() == CONTENT
    first, second, third = (asked for _, asked in site.requests)
    assert first is None
    assert second == f"bytes={_download.CHUNK}-"
    assert int(third.removeprefix("bytes=").rstrip("-")) > _download.CHUNK


def test_a_long_transfer_may_break_off_more_often_than_it_is_tried_in_one_place(site, remote, tmp_path, monkeypatch):
    def breaks_often(handler, content, n):
        site.send(handler, content, n=70_000 if n < 4 else None)

    with pytest.raises(ConnectionError, match="in 3 tries"):
        fetch(remote(breaks_often), folder=tmp_path, retries=2)
    site.requests.clear()
    monkeypatch.setattr(_download, "RETRY_RESET_BYTES", 50_000)
    assert fetch(remote(breaks_often), folder=tmp_path, retries=2).read_bytes() == CONTENT
    assert len(site.requests) == 5


def test_a_server_that_goes_on_elsewhere_is_not_believed(site, remote, tmp_path):
    def elsewhere(handler, content, n):
        if n == 1:
            handler.headers.replace_header("Range", "bytes=7-")
        site.send(handler, content, n=100_000 if n == 0 else None)

    assert fetch(remote(elsewhere), folder=tmp_path).read_bytes() == CONTENT
    assert [asked is None for _, asked in site.requests] == [True, False, True]


def test_a_server_that_cannot_go_on_begins_anew(site, remote, tmp_path):
    def knows_no_ranges(handler, content, n):
        del handler.headers["Range"]
        site.send(handler, content, n=100_000 if n == 0 else None)

    assert fetch(remote(knows_no_ranges), folder=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_server_that_stalls_is_given_up(site, remote, tmp_path, keep):
    def stalls(handler, content, n):
        site.send(handler, content, n=keep)
        site.stop_stalling.wait(10)

    with pytest.raises(ConnectionError, match=r"'bundle.npz'.*2 tries: the server stopped sending.*folder=.*base_url="):
        fetch(remote(stalls), folder=tmp_path, timeout=0.2, retries=1)
    assert len(site.requests) == 2
    assert left_in(tmp_path) == []


def test_a_transfer_that_always_breaks_off_leaves_nothing(site, remote, tmp_path):
    def breaks(handler, content, n):
        site.send(handler, content[:200_000], n=10) if n else site.send(handler, content, n=1000)

    with pytest.raises(ConnectionError, match="could not be downloaded .* 3 tries"):
        fetch(remote(breaks), folder=tmp_path, retries=2)
    assert left_in(tmp_path) == []


def test_a_busy_server_is_asked_again(site, remote, tmp_path, caplog):
    def busy(handler, content, n):
        handler.send_error(503) if n < 2 else site.send(handler, content)

    assert fetch(remote(busy), folder=tmp_path).read_bytes() == CONTENT
    assert "the server answered 503 (Service Unavailable). Trying again (2 of 3)" in caplog.text


def test_a_file_that_is_not_there_is_asked_for_once(site, remote, tmp_path):
    gone = RemoteFile("bundle.npz", f"{site.url}/gone.npz", HASH)
    with pytest.raises(ConnectionError, match=r"gone.npz in 1 try: the server answered 404"):
        fetch(gone, folder=tmp_path)
    assert len(site.requests) == 1
    assert left_in(tmp_path) == []


def test_a_host_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "PAUSE", 0.0)
    with pytest.raises(ConnectionError, match="bundle.npz.*http://127.0.0.1:9/x in 2 tries: no connection to the host"):
        fetch(RemoteFile("bundle.npz", "http://127.0.0.1:9/x", HASH), folder=tmp_path, retries=1)


def test_no_network_is_said_in_a_sentence(tmp_path):
    gone = RemoteFile("bundle.npz", "http://nowhere.invalid/bundle.npz", HASH)
    with pytest.raises(ConnectionError, match="1 try: the name of the host cannot be resolved.*no network") as caught:
        fetch(gone, folder=tmp_path, retries=0)
    assert "Pool" not in str(caught.value)


@pytest.mark.parametrize("mirror", ["file:///data", "/data/mirror", "mirror.org/data"])
def test_a_mirror_that_is_no_address_is_refused_before_any_try(mirror, tmp_path, monkeypatch):
    file = RemoteFile("bundle.npz", "http://127.0.0.1:9/x", HASH)
    with pytest.raises(ValueError, match=r"begins with http:// or https://, found .*folder=… or \$SCAPP_DATA_DIR"):
        fetch(file, folder=tmp_path, base_url=mirror)
    monkeypatch.setenv("SCAPP_DATA_URL", mirror)
    with pytest.raises(ValueError, match="found"):
        fetch(file, folder=tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(remote, tmp_path):
    mine = tmp_path / "bundle.npz"
    mine.write_bytes(CONTENT)
    for folder in (mine, mine / "below"):
        with pytest.raises(NotADirectoryError, match="bundle.npz' is a file, and the folder .*folder="):
            fetch(remote(), folder=folder)
    assert mine.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("known_hash", [HASH, None])
def test_an_error_page_with_status_200_is_no_file(site, remote, tmp_path, kind, known_hash):
    def page(handler, content, n):
        site.send(handler, b"\n<!DOCTYPE html><html>Down for maintenance</html>", kind=kind)

    with pytest.raises(WrongFileError, match="web page|begins with b.*DOCTYPE"):
        fetch(remote(page, known_hash), folder=tmp_path)
    assert len(site.requests) == 1
    assert left_in(tmp_path) == []


def test_a_wrong_file_is_removed(site, remote, tmp_path):
    def wrong(handler, content, n):
        site.send(handler, content[:-1] + b"!")

    with pytest.raises(WrongFileError, match=r"not 'bundle.npz': its hash is not sha256:.*removed.*\$SCAPP_DATA_URL"):
        fetch(remote(wrong), folder=tmp_path)
    assert left_in(tmp_path) == []


def test_a_file_of_the_user_is_never_written_over(site, remote, tmp_path):
    mine = tmp_path / "bundle.npz"
    mine.write_bytes(b"mine")
    with pytest.raises(WrongFileError, match="is not the published 'bundle.npz'.*Move it away"):
        fetch(remote(), folder=tmp_path)
    assert mine.read_bytes() == b"mine"
    assert site.requests == []


def compressed_on_the_way(site, packed):
    """A server that sends other bytes than the file, and says so; the first time only a part of them."""

    def behaviour(handler, content, n):
        sent = packed(content)
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(sent)))
        handler.end_headers()
        handler.wfile.write(sent if n else sent[: len(sent) // 2])

    return behaviour


def test_a_server_that_compresses_unasked_sends_the_file_all_the_same(site, remote, tmp_path):
    path = fetch(remote(compressed_on_the_way(site, gzip.compress)), folder=tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_packed_file_that_is_called_compressed_text_stays_packed(site, tmp_path):
    content = gzip.compress(b"protein1 protein2\n" * 50_000 + np.random.default_rng(1).bytes(200_000))
    url = site.add("links.txt.gz", content, compressed_on_the_way(site, bytes))
    assert fetch(RemoteFile("links.txt.gz", url, header="protein1 "), folder=tmp_path).read_bytes() == content


def test_a_full_disk_leaves_nothing(site, remote, tmp_path, monkeypatch):
    write = _download.Downloader._write

    def full(self, response, path, have):
        write(self, response, path, have)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(_download.Downloader, "_write", full)
    with pytest.raises(OSError, match="'bundle.npz' does not fit. Nothing was kept.*folder=") as caught:
        fetch(remote(), folder=tmp_path)
    assert caught.value.errno == 28
    assert left_in(tmp_path) == []


def test_a_download_says_its_address_and_no_folder_or_hash_of_the_moment(site, tmp_path, caplog, capfd):
    url = site.add("table.tsv", b"a\tb\n")
    fetch(RemoteFile("table.tsv", url), folder=tmp_path, progress_bar=False)
    assert f"Downloading table.tsv from {url}." in caplog.text
    said = caplog.text + "".join(capfd.readouterr())
    assert str(tmp_path) not in said and "known_hash" not in said
