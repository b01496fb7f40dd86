"""What the page's gallery gets, and the figures of those who see no gallery."""

from __future__ import annotations

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

import framebench.reports.gallery
from bench.analysis.findings import Findings
from bench.analysis.measured import measure
from bench.options.report import ReportSettings
from bench.rows.pictures import Picture, Pictures
from bench.running.cells import Cell, picture_of
from framebench.attacks.base import MarginPath
from framebench.domains.base import Domain
from framebench.reports.document import Plot, walk
from framebench.reports.gallery import POINTS, attacked_part, gallery_payload, shifted_part
from framebench.reports.plots import attacked_images
from tests.bench.analysis.making import cell_of, kept, run_of

LONG = "German short-haired pointer, a dog of many words"


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def found_of(stored):
    measured = measure(stored)
    shifts = [cell for cell in measured if cell.facts.traits is None]
    return Findings(ReportSettings(), attacks=[run for run in measured if run.facts.traits], shifts=shifts,
                    clean_of={"c10-c": "c10"})


@pytest.fixture
def attacked(tmp_path):
    """Two models' pictures of six images of two classes: broken at 4, never, and misclassified from the start."""
    def make(paths=True, **more):
        stored = []
        for model in ("one", "two"):
            rows = kept(run_of(tmp_path, [4, -1, 0, 4, -1, 0], model=model, columns={"label": [1, 1, 1, 2, 2, 2]},
                               **more))
            pictures = Pictures(rows.folder)
            for example in range(6):
                clean = np.full((3, 2, 2), example / 255)
                path = MarginPath([1, *range(3, 203)], list(np.linspace(2, -1, 201))) if paths else None
                pictures.add(example, Picture(clean, clean + 16 / 255, 0.75 if paths else np.nan, path))
            pictures.flush()
            stored.append(rows)
        return found_of(stored)
    return make


def test_a_card_says_what_became_of_an_image(attacked):
    made = gallery_payload(attacked())["attacked"]
    assert made["kept"] == len(made["cards"]) == 12
    cards = {(card["model"], card["example"]): card for card in made["cards"]}
    assert [cards["one", example]["outcome"] for example in range(3)] == ["broken", "unbroken", "start"]
    card = cards["two", 3]
    assert (card["label"], card["before"], card["after"]) == ("c", ["b", 0.75], ["a", 0.5])
    assert (card["iterations"], card["queries"], card["l2"], card["linf"]) == (4, 5, pytest.approx(0.4), 0.2)
    assert cards["one", 1]["iterations"] is None and card["goal"] is None
    assert (decoded(made["originals"][card["original"]]) == 3).all() and (decoded(card["attacked"]) == 19).all()
    assert len(made["originals"]) == 6, "an image is there once, however many models saw it"


def test_classes_take_turns_and_all_models_have_the_same_images(attacked, monkeypatch):
    cards = gallery_payload(attacked())["attacked"]["cards"]
    assert [card["example"] for card in cards] == [0, 0, 3, 3, 1, 1, 4, 4, 2, 2, 5, 5]
    monkeypatch.setattr(framebench.reports.gallery, "SIZE", 3 * len(cards[0]["attacked"]) * 2 + 10)
    bounded = gallery_payload(attacked())["attacked"]
    assert [card["example"] for card in bounded["cards"]] == [0, 0, 3, 3] and bounded["kept"] == 12


def test_paths_are_thinned_and_keep_their_ends(attacked):
    queries, margins = gallery_payload(attacked())["attacked"]["cards"][0]["path"]
    assert len(queries) == len(margins) == POINTS
    assert (queries[0], queries[-1], margins[0], margins[-1]) == (1, 202, 2, -1)
    assert queries == sorted(set(queries)) and margins == sorted(margins, reverse=True)


def test_without_a_path_there_is_none(attacked):
    for card in gallery_payload(attacked(paths=False))["attacked"]["cards"]:
        assert card["path"] is None and np.isnan(card["before"][1])


def test_targets_are_named(attacked):
    cards = gallery_payload(attacked(targeted=True))["attacked"]["cards"]
    assert {card["goal"] for card in cards} == {"b"}
    assert {card["words"] for card in cards if card["outcome"] == "start"} == {"at the target from the start"}


def test_every_run_has_a_figure_for_those_without_scripts(attacked):
    figures = [block for block in walk(attacked_part(attacked().attacks, lambda run: run.name))
               if isinstance(block, Plot)]
    assert [figure.caption.split(",")[0] for figure in figures] == ["one", "two"]
    assert attacked_part([], lambda run: run.name) == []


def test_captions_of_long_names_do_not_overlap():
    image = np.zeros((4, 4, 3))
    words = f"{LONG}\nmisclassified from the start\n1 query"
    figure = attacked_images([(f"{i}: {LONG}", image, image, words) for i in range(8)], 0.1)
    figure.draw_without_rendering()
    grid = np.array(figure.axes).reshape(3, 8)
    for row, text in ((grid[0], "title"), (grid[2], "xaxis")):
        boxes = [(axes.title if text == "title" else axes.xaxis.label).get_window_extent() for axes in row]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def images(size, n=10):
    pixels = np.random.default_rng(size).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return Domain("c10", "images", ("cat", "dog"), pixels, np.arange(n) % 2)


@pytest.fixture
def shifted(tmp_path):
    """A clean set and two corruptions of it, seen by two models."""
    domain, stored = images(8), []
    for model, (name, corruption, severity) in itertools.product(("one", "two"), (
            ("c10", "", 0), ("c10-c", "fog", 1), ("c10-c", "fog", 3), ("c10-c", "snow", 1))):
        cell = Cell(name, "images", name, domain, corruption, severity)
        correct = np.arange(10) != (domain.order[0] if model == "two" else -1)
        stored.append(kept(cell_of(tmp_path, correct, model=model, domain=name, corruption=corruption,
                                   severity=severity, picture=picture_of(cell.images))))
    return domain, found_of(stored)


def test_shifted_images_have_every_models_prediction(shifted):
    domain, found = shifted
    clean, corrupted = gallery_payload(found)["shifted"]
    ids = domain.order[:6].tolist()
    assert [example for example, _ in corrupted["examples"]] == ids
    assert [label for _, label in corrupted["examples"]] == [("cat", "dog")[example % 2] for example in ids]
    assert [(cell["corruption"], cell["severity"]) for cell in corrupted["cells"]] == [
        ("fog", 1), ("fog", 3), ("snow", 1)]
    assert corrupted["clean"] == clean["cells"][0], "what severity 0 is"
    for cell in corrupted["cells"]:
        right = [["cat", "dog"][example % 2] for example in ids]
        assert [name for name, _ in cell["models"]["one"]] == right
        assert [name for name, _ in cell["models"]["two"]][1:] == right[1:]
        assert cell["models"]["two"][0] == [("dog", "cat")[ids[0] % 2], 1.0]
        np.testing.assert_array_equal(decoded(cell["strip"]), np.concatenate(list(domain.pixels(ids)), axis=1))


def test_images_without_a_row_have_no_prediction(tmp_path):
    domain = images(8)
    picture = picture_of(domain)
    rows = kept(cell_of(tmp_path, [True, True], examples=domain.order[:2], picture=picture))
    (own,) = gallery_payload(found_of([rows]))["shifted"]
    assert [said is None for said in own["cells"][0]["models"]["m"]] == [False] * 2 + [True] * 4


@pytest.mark.parametrize("picture", ["", "data:image/png;base64,AAAA", "data:text/html;ids=1;base64,AAAA",
                                     'data:image/png;ids=1;base64,AA"><script>'])
def test_pictures_that_name_no_images_are_not_browsed(tmp_path, picture):
    rows = kept(cell_of(tmp_path, [True, False], picture=picture))
    found = found_of([rows])
    assert gallery_payload(found)["shifted"] == []
    assert "<script>" not in str(shifted_part(found))


def test_large_images_are_reduced():
    picture = picture_of(images(224))
    assert decoded(picture).shape == (96, 4 * 96, 3)
