from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framebench.classes import CIFAR10
from framebench.domains import data_root, default_domain, load_domain
from framebench.domains.base import Domain
from framebench.domains.cifar import load_cifar10
from framebench.domains.pickles import read_batch
from framebench.errors import InputError
from tests.conftest import write_class_folders


def test_the_samples_are_foolboxs(monkeypatch):
    foolbox = pytest.importorskip("foolbox")
    samples = load_domain("samples")
    x, y = samples.load(range(20))
    assert x.shape == (20, 3, 32, 32) and x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    model = foolbox.PyTorchModel(torch.nn.Flatten().eval(), bounds=(0, 1), device="cpu")
    images, labels = foolbox.samples(model, dataset="cifar10", batchsize=20)
    assert torch.equal(x, images) and torch.equal(y, labels.long())


def test_class_folders_are_decoded_once(data_root, monkeypatch):
    first = load_domain("cifar10", data_root)
    assert first.title == "CIFAR-10 test (lossless class folders), partial: 30 of 10000 images"
    assert first.labels.tolist() == sorted(list(range(10)) * 3)
    path = data_root / "cifar10" / "test" / "ship" / "0001.png"
    np.testing.assert_array_equal(first.images[8 * 3 + 1], np.asarray(Image.open(path)))

    monkeypatch.setattr("framebench.domains.folder.decode", lambda *_: pytest.fail("decoded again"))
    assert load_domain("cifar10", data_root).digest == first.digest


def test_a_changed_or_damaged_cache_is_not_used(data_root, tmp_path):
    first = load_domain("cifar10", data_root)
    (cached,) = (path for path in (tmp_path / "cache" / "decoded").iterdir() if "sizes" not in path.name)
    good = cached.read_bytes()
    for damaged in (good[:300], good[:5000] + bytes([good[5000] ^ 1]) + good[5001:]):
        cached.write_bytes(damaged)
        assert load_domain("cifar10", data_root).digest == first.digest and cached.read_bytes() == good
    path = data_root / "cifar10" / "test" / "cat" / "0000.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    os.utime(path, ns=(1, 1))
    assert load_domain("cifar10", data_root).digest != first.digest


def test_jpeg_is_said(tmp_path):
    write_class_folders(tmp_path, 1, "test", ".jpg")
    assert load_domain("cifar10", tmp_path).title.startswith("CIFAR-10 test (JPEG class folders)")


def test_an_image_of_another_size_is_refused(data_root):
    Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(data_root / "cifar10" / "test" / "cat" / "x.png")
    with pytest.raises(InputError, match="is 32x16, not 32x32"):
        load_domain("cifar10", data_root)


def _write_batches(root: Path, n: int = 20) -> np.ndarray:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (n, 3072), dtype=np.uint8)
    for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        with open(folder / name, "wb") as out:  # like the official files: Python 2's protocol and byte strings
            pickle.dump({b"data": data, b"labels": [i % 10 for i in range(n)], b"batch_label": b"x"}, out, protocol=2)
    return data


def test_the_official_layout(tmp_path):
    data = _write_batches(tmp_path)
    test, train = (load_cifar10(tmp_path, split) for split in ("test", "train"))
    assert test.title == "CIFAR-10 test (not the official files), partial: 20 of 10000 images"
    assert len(train) == 100 and test.labels.tolist() == [i % 10 for i in range(20)]
    x, _ = test.load([3])
    np.testing.assert_array_equal((x[0].numpy() * 255).round(), data[3].reshape(3, 32, 32))


class _Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


@pytest.mark.parametrize(("content", "message"), [
    (pickle.dumps({b"data": _Bomb()}), "refers to builtins.exec"),
    (pickle.dumps([1, 2]), "is not a batch"),
    (b"\x80\x02}q\x00(", "is not a batch"),
    (b"", "is not a batch"),
    (pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}), "is not a batch of CIFAR"),
    (pickle.dumps({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}), "is not a batch of CIFAR"),
    (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}), "is not a batch of CIFAR"),
    (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [[0], [1, 2]]}), "is not a batch of CIFAR"),
    (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}), "labels from 0 to 10"),
    (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]}), "label -1"),
])
def test_damaged_and_hostile_batches_are_refused_and_never_run(tmp_path, content, message):
    _write_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_cifar10(tmp_path)


def test_a_missing_batch_is_named(tmp_path):
    _write_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(InputError, match="can't read .*data_batch_3"):
        load_cifar10(tmp_path, "train")


def test_arrays_are_all_that_a_batch_can_hold(tmp_path):
    path = tmp_path / "batch"
    with open(path, "wb") as out:
        pickle.dump({b"data": np.arange(3), b"names": ["a"]}, out, protocol=2)
    batch = read_batch(path)
    assert batch["data"].tolist() == [0, 1, 2] and batch["names"] == ["a"]


def test_arrays_of_numpy_1_and_2_are_read(tmp_path):
    whole = pickle.dumps({b"data": np.arange(3)}, protocol=2)
    for new, old in ((b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")):
        (tmp_path / "batch").write_bytes(whole.replace(new, old))
        assert read_batch(tmp_path / "batch")["data"].tolist() == [0, 1, 2]


def test_the_order_is_balanced_nested_and_the_same_for_all():
    labels = np.repeat(np.arange(10), 7)
    domain = Domain("d", "d", CIFAR10, np.zeros((70, 4, 4, 3), np.uint8), labels)
    assert sorted(domain.order) == list(range(70))
    for n in (10, 30, 70):
        assert set(np.bincount(labels[domain.first(n)])) == {n // 10}
    assert domain.first(15).tolist() == domain.first(40)[:15].tolist()
    again = Domain("e", "e", CIFAR10, np.ones((70, 4, 4, 3), np.uint8), labels)
    assert again.order.tolist() == domain.order.tolist()
    assert domain.order.tolist() != sorted(domain.order)


def test_where_data_lie(data_root_folder, monkeypatch):
    assert data_root(None) is None and default_domain(None) == "samples"
    assert default_domain(data_root_folder) == "cifar10"
    monkeypatch.setenv("BENCH_DATA", str(data_root_folder))
    assert data_root(None) == data_root_folder
    with pytest.raises(InputError, match="is not a folder"):
        data_root("/no/such/folder")


def test_a_data_root_without_the_usual_images_is_refused_and_the_right_one_named(data_root_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty has neither cifar-10-batches-py/ nor cifar10/test/.*--domain"):
        default_domain(tmp_path / "empty")
    for below in ("cifar10", "cifar10/test"):
        with pytest.raises(InputError, match=f"{data_root_folder} has it"):
            default_domain(str(data_root_folder / below))
        with pytest.raises(InputError, match=f"{data_root_folder} has it"):
            load_domain("cifar10", data_root_folder / below)


def test_the_path_of_a_folder_is_answered_with_its_name(data_root_folder):
    with pytest.raises(InputError, match=f"folder:{data_root_folder}/cifar10/test"):
        load_domain(f"{data_root_folder}/cifar10/test")


def test_the_environments_data_root_may_be_for_other_images(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert default_domain(None) == "samples"
    assert "cifar-10-batches-py/" in caplog.text and "samples" in caplog.text


def test_the_data_root_may_be_text_a_path_or_the_environments(data_root_folder, monkeypatch):
    digest = load_domain("cifar10", data_root_folder).digest
    assert load_domain("cifar10", str(data_root_folder)).digest == digest
    monkeypatch.setenv("BENCH_DATA", str(data_root_folder))
    assert load_domain("cifar10").digest == digest
    with pytest.raises(InputError, match="is not a folder"):
        load_domain("cifar10", "/no/such/folder")


def test_a_path_is_a_folder_of_images(data_root_folder):
    folder = data_root_folder / "cifar10" / "test"
    assert load_domain(folder).digest == load_domain(f"folder:{folder}").digest
    with pytest.raises(InputError, match="nowhere"):
        load_domain(folder / "nowhere")
    with pytest.raises(InputError, match="by its name or path, not by a Domain"):
        load_domain(load_domain(folder))


@pytest.fixture
def data_root_folder(tmp_path):
    write_class_folders(tmp_path / "root", 1, "test")
    return tmp_path / "root"


@pytest.mark.parametrize(("images", "labels", "message"), [
    (np.zeros((2, 4, 4, 3), np.float32), [0, 1], "must be uint8"),
    (np.zeros((2, 3, 4, 4), np.uint8), [0, 1], "must be uint8"),
    (np.zeros((2, 4, 4, 3), np.uint8), [0], "2 images but labels of shape"),
    (np.zeros((0, 4, 4, 3), np.uint8), [], "there are no images"),
    (np.zeros((2, 4, 4, 3), np.uint8), [-1, 0], "labels from -1"),
])
def test_arrays_that_are_no_domain_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        Domain("d", "d", CIFAR10, images, np.array(labels, dtype=np.int64))


@pytest.mark.parametrize("form", [
    lambda x, y: (x, y.tolist()), lambda x, y: (torch.from_numpy(x), torch.from_numpy(y)),
    lambda x, y: (list(x), tuple(y)),
], ids=["a list of labels", "tensors", "a list of images"])
def test_arrays_may_have_any_form(form):
    x, y = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([1, 0])
    domain = Domain("mine", "mine", ["a", "b"], *form(x, y))
    assert domain.digest == Domain("mine", "mine", ("a", "b"), x, y).digest and domain.classes == ("a", "b")
    assert domain.load([0])[1].tolist() == [1] and len(domain.first(2)) == 2


def test_the_chosen_logits_tell_a_domain_from_others():
    x, y = np.zeros((2, 4, 4, 3), np.uint8), [0, 1]
    digests = {Domain("d", "d", ("a", "b"), x, y, logits=logits).digest for logits in (None, (0, 1), (2, 3))}
    assert len(digests) == 3


def test_labels_that_are_no_integers_are_refused():
    with pytest.raises(InputError, match="integers"):
        Domain("d", "d", CIFAR10, np.zeros((2, 4, 4, 3), np.uint8), [0.0, 1.0])


@pytest.mark.parametrize("name", ["samples-c", "samples-c/fog", "cifar10-c"])
def test_a_corrupted_set_is_no_domain_and_the_message_says_how_to_name_a_cell(name):
    with pytest.raises(InputError, match="-c/fog/3"):
        load_domain(name)
