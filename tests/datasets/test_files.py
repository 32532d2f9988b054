"""Where well-known datasets are looked for, and what happens when they are not there, or not what they should be."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_makers import idx, tar_of, write_cifar, write_idx, write_parquet

from amla.datasets import files, load
from amla.datasets.cifar import CIFAR10, CIFAR100
from amla.datasets.fashion_mnist import FashionMNIST, read_idx
from amla.errors import DataError
from amla.spec.data import DatasetSpec


class Quiet(http.server.SimpleHTTPRequestHandler):
    #: Files of which only a half is sent, though the whole is announced.
    cut_short: frozenset[str] = frozenset()

    def log_message(self, *arguments: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        whole = source.read()
        outputfile.write(whole[: len(whole) // 2] if Path(self.path).name in self.cut_short else whole)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that a web server on the loopback serves, as the mirror of all datasets."""
    root = tmp_path / "site"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Quiet(*given, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("AMLA_DATASETS_URL", f"http://127.0.0.1:{server.server_port}/")
    yield root
    server.shutdown()
    server.server_close()
    thread.join()


def checksums(place: Path) -> dict[str, str]:
    return {file.name: f"md5:{hashlib.md5(file.read_bytes()).hexdigest()}" for file in sorted(place.iterdir())}


@pytest.fixture
def fashion_site(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small Fashion-MNIST to download, and no other one on this machine."""
    home = site / "fashion-mnist"
    write_idx(home)
    monkeypatch.setattr(FashionMNIST, "wanted", replace(FashionMNIST.wanted, downloads=checksums(home), system=()))
    return home


def fashion(**options) -> FashionMNIST:
    return FashionMNIST(DatasetSpec(name="fashion-mnist", **options))


def test_fashion_mnist_is_downloaded_once_with_a_progress_bar(fashion_site, capfd):
    first = fashion()
    assert "100%" in capfd.readouterr().err
    assert first.info.sizes == {"train": 54, "valid": 6, "test": 20}
    assert first.info.classes[9] == "Ankle boot"
    shutil.rmtree(fashion_site)
    assert fashion().info == first.info
    assert capfd.readouterr().err == ""


def test_another_checksum_is_refused_and_not_kept(fashion_site):
    bad = fashion_site / "t10k-labels-idx1-ubyte.gz"
    good = bad.read_bytes()
    bad.write_bytes(good[:-1] + b"x")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: .*another checksum.*--data-dir") as caught:
        fashion()
    assert "\n" not in str(caught.value)
    bad.write_bytes(good)
    assert fashion().info.num_classes == 10


def test_a_download_cut_short_is_refused(fashion_site, monkeypatch):
    monkeypatch.setattr(Quiet, "cut_short", frozenset({"train-images-idx3-ubyte.gz"}))
    with pytest.raises(DataError, match=r"cannot be downloaded|another checksum"):
        fashion()
    monkeypatch.setattr(Quiet, "cut_short", frozenset())
    assert fashion().info.num_classes == 10


def test_a_file_that_the_server_lacks(fashion_site):
    (fashion_site / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"^fashion-mnist cannot be downloaded from http.*HTTPError.*--data-dir"):
        fashion()


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100"])
def test_no_server_says_to_give_a_directory(name, monkeypatch):
    monkeypatch.setenv("AMLA_DATASETS_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(FashionMNIST, "wanted", replace(FashionMNIST.wanted, system=()))
    with pytest.raises(DataError, match=rf"^{name} cannot be downloaded .*ConnectionError.*--data-dir") as caught:
        load(DatasetSpec(name=name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cls", "count"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_cifar_is_downloaded_and_unpacked(cls, count, site, tmp_path, monkeypatch):
    write_cifar(tmp_path / "files", count)
    (site / cls.wanted.name).mkdir()
    (site / cls.wanted.name / cls.layout.archive).write_bytes(tar_of(tmp_path / "files", cls.layout.folder))
    monkeypatch.setattr(cls, "wanted", replace(cls.wanted, downloads=checksums(site / cls.wanted.name)))
    spec = DatasetSpec(name=cls.wanted.name)
    info = cls(spec).info
    assert info.num_classes == count
    assert info.classes[3] == "thing3"
    assert (files.cache_dir() / cls.wanted.name / cls.layout.folder / cls.layout.test).is_file()
    shutil.rmtree(site)
    assert cls(spec).info == info


@pytest.mark.parametrize("below", ["", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_a_directory_may_hold_the_files_or_their_folder(below, tmp_path, monkeypatch):
    write_cifar(tmp_path / below, 10)
    given = load(DatasetSpec(name="cifar10", data_dir=str(tmp_path)))
    monkeypatch.setenv("AMLA_DATA_DIR", str(tmp_path))
    assert load(DatasetSpec(name="cifar10")).info == given.info


def test_a_directory_may_hold_the_archive(tmp_path):
    write_cifar(tmp_path / "files", 100)
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(tar_of(tmp_path / "files", "cifar-100-binary"))
    info = load(DatasetSpec(name="cifar100", data_dir=str(tmp_path))).info
    assert info.sizes == {"train": 270, "valid": 30, "test": 100}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cifar-100-binary.tar.gz", "files"]
    assert not files.cache_dir().exists()


def test_a_broken_archive(tmp_path):
    write_cifar(tmp_path / "files", 10)
    whole = tar_of(tmp_path / "files", "cifar-10-batches-bin")
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: cannot be unpacked"):
        load(DatasetSpec(name="cifar10", data_dir=str(tmp_path)))


def test_planes_become_pixels(tmp_path):
    write_cifar(tmp_path, 10)
    record = np.fromfile(tmp_path / "test_batch.bin", np.uint8)[: 1 + 3072]
    images, labels = load(DatasetSpec(name="cifar10", data_dir=str(tmp_path))).arrays("test")
    assert labels[0] == record[0]
    assert images[0, 2, 5].tolist() == [record[1 + plane * 1024 + 2 * 32 + 5] for plane in range(3)]


def test_pickled_cifar_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match=r"cifar-10-batches-py: .*no pickles.*cifar-10-binary\.tar\.gz"):
        load(DatasetSpec(name="cifar10", data_dir=str(tmp_path)))


def test_cifar_in_parquet(tmp_path):
    write_parquet(tmp_path / "train.parquet", 60)
    with pytest.raises(DataError, match=r"holds 3 classes, cifar10 has 10"):
        load(DatasetSpec(name="cifar10", data_dir=str(tmp_path)))


def test_a_given_directory_is_the_only_place(tmp_path, fashion_site):
    with pytest.raises(DataError, match=r"no fashion-mnist here; --data-dir must hold the four IDX files"):
        fashion(data_dir=str(tmp_path / "nowhere"))


def test_the_environments_directory_comes_before_the_download(tmp_path, monkeypatch, fashion_site):
    monkeypatch.setenv("AMLA_DATA_DIR", str(tmp_path))
    assert fashion().info.sizes["test"] == 20
    write_idx(tmp_path / "fashion-mnist", test=30)
    assert fashion().info.sizes["test"] == 30


def test_debians_folder(monkeypatch):
    if not FashionMNIST.wanted.holds(FashionMNIST.wanted.system[0]):
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    dataset = fashion()
    assert dataset.info.sizes == {"train": 54000, "valid": 6000, "test": 10000}
    images, labels = dataset.arrays("test")
    assert labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert images.shape == (10000, 28, 28, 1)


def test_an_argument_is_refused():
    with pytest.raises(DataError, match=r"^cifar10:/data: cifar10 takes nothing behind a colon"):
        load(DatasetSpec(name="cifar10:/data"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01" + bytes(4), "not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x03\x00\x00", "header is cut short"),
        (idx(np.zeros((3, 4)))[:-1], r"holds 11 values where its header says \(3, 4\)"),
        (b"\x1f\x8b" + bytes(20), "cannot be read"),
    ],
)
def test_bad_idx_files(content, message, tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_and_labels_that_do_not_match(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5)))
    with pytest.raises(DataError, match=r"do not match"):
        fashion(data_dir=str(tmp_path))


def test_a_record_cut_short(tmp_path):
    write_cifar(tmp_path, 10)
    whole = (tmp_path / "data_batch_2.bin").read_bytes()
    (tmp_path / "data_batch_2.bin").write_bytes(whole[:-7])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: 61,453 bytes are no whole number of records"):
        load(DatasetSpec(name="cifar10", data_dir=str(tmp_path)))


def test_an_archive_cannot_write_elsewhere(tmp_path):
    from amla.datasets.cifar import unpack

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "evil").write_text("x")
    (tmp_path / "a.tar.gz").write_bytes(tar_of(tmp_path / "in", "../../out"))
    unpack(tmp_path / "a.tar.gz", tmp_path / "deep" / "home")
    assert [file.name for file in (tmp_path / "deep" / "home").iterdir()] == ["evil"]
    assert not (tmp_path / "out").exists()
