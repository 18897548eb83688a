"""report.html: whole in itself, true to the run, unmoved by hostile names, and there even while the run goes on."""
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.report.runs import CONFIG, made_up_log, write_run
from tinydiff.diffusion import TARGETS, WEIGHTS
from tinydiff.report import denoising_frame, gif, grid, strip, write_page
from tinydiff.report.fragments import data_uri
from tinydiff.report.page import TARGET_WORDS, WEIGHT_WORDS

VOID = {"meta", "img", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Every element with its attributes, the visible text, and whether each element that opens is closed in order."""

    def __init__(self, path):
        super().__init__()
        self.source, self.elements, self.open, self.text = path.read_text(encoding="utf-8"), [], [], ""
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture
def run_dir(tmp_path):
    """A finished run of noise pictures, in a folder whose name has to be escaped."""
    folder = write_run(tmp_path / "a&b <i>")
    images = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    for name in ("input.png", "samples.png", "neighbours.png", "samples/epoch_005.png", "samples/epoch_006.png"):
        (folder / "samples").mkdir(exist_ok=True)
        grid(images, scale=1).save(folder / name)
    for name in ("forward.png", "reverse.png"):
        strip(images, [f"t = {i}" for i in range(8)], scale=1).save(folder / name)
    (folder / "neighbours.json").write_text(json.dumps({"samples": [40.0, 30.0, 8.0], "held_out": [41.0, 39.0]}))
    gif([denoising_frame(images, images, 9, 0.5)] * 2, folder / "reverse.gif")
    return folder


def test_the_page_needs_nothing_but_itself(run_dir):
    page = Page(write_page(run_dir))
    assert {attrs["src"].partition(":")[0] for attrs in page.all("img")} == {"data"}
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert all(attrs["href"].startswith("#") for attrs in page.all("a"))
    assert set(re.findall(r"url\(([^)]{5})", page.source)) == {"data:"}
    assert "http://" not in page.source and "https://" not in page.source and "@import" not in page.source


def test_every_picture_of_the_run_is_in_it(run_dir):
    source = write_page(run_dir).read_text(encoding="utf-8")
    for name in ("input.png", "forward.png", "samples/epoch_005.png", "samples/epoch_006.png", "reverse.gif", "reverse.png", "samples.png",
                 "neighbours.png"):
        assert data_uri(run_dir / name) in source, name
    assert 'class="missing"' not in source


def test_the_four_stages_have_the_runs_shapes_and_figures(run_dir):
    page, log = Page(write_page(run_dir)), made_up_log()
    stages = re.split(r"<h2><b>\d</b> ", page.source)[1:]
    assert [stage.partition("<")[0] for stage in stages] == ["Input", "Add noise", "Train", "Generate"]
    for stage, words in zip(stages, (["(4321, 24, 24, 3)"], ["(24, 24, 3)", "1,000 times"],
                                     ["(16, 24, 24, 40)", "(16, 3, 3, 160)", "60 times so far"], ["37 DDIM steps"])):
        for word in words:
            assert word in stage
    rows = re.findall(r"<tr><td>(\d+)</td><td>([\d.]+)</td><td>([\d.]+)</td><td><b>([a-z -]+)</b>", page.source)
    assert [(int(epoch), loss, held_out) for epoch, loss, held_out, _ in rows] == [
        (row["epoch"], f"{row['loss']:.4f}", f"{row['held_out_loss']:.4f}") for row in log.history()]
    assert rows[0][3] == "still noise"
    assert len(page.all("polyline")) == 2 and len(page.all("circle")) == 6


def test_it_ends_with_the_insight_and_three_folded_questions(run_dir):
    page = Page(write_page(run_dir))
    insight, questions = page.source.index('id="insight"'), page.source.index('id="quiz"')
    assert page.source.index('id="generate"') < insight < questions
    quiz = page.source[questions:].partition("</section>")[0]
    assert quiz.count("<details><summary>") == 3 and "open" not in quiz.partition("<p>")[0]
    assert "1,728 random numbers" in quiz and "37 steps" in quiz                                 # 24 x 24 x 3


def test_names_from_outside_stay_text(run_dir):
    hostile = '<script>alert("x")</script>.jpg: no & picture'
    (run_dir / "skipped.txt").write_text(hostile + "\n", encoding="utf-8")
    config = json.loads((run_dir / "config.json").read_text())
    config["train"]["schedule"] = "<img src=http://x>"
    (run_dir / "config.json").write_text(json.dumps(config))
    page = Page(write_page(run_dir))
    assert not page.all("script") and not page.all("i") or all(not attrs for attrs in page.all("i"))
    assert hostile in page.text and "1 file was skipped" in page.text and "<img src=http://x>" in page.text
    assert all(attrs["src"].startswith("data:") for attrs in page.all("img"))
    assert "a&b <i>" in page.text


def test_a_run_that_still_goes_on_has_sentences_where_pictures_will_be(tmp_path):
    page = Page(write_page(write_run(tmp_path / "young", log=made_up_log(steps=0, epochs=1))))
    assert not page.all("img") and not page.all("svg")
    for name in ("input.png", "forward.png", "reverse.gif", "reverse.png", "samples.png"):
        assert f"{name} is not there yet" in page.text
    assert "No step has been taken yet" in page.text and "0 of 6" in page.text


def test_the_page_of_a_run_that_goes_on_loads_itself_anew_and_says_what_is_left(tmp_path):
    run = write_run(tmp_path / "run")
    going, done = Page(write_page(run, 754.0)), Page(write_page(run))
    assert ("meta", {"http-equiv": "refresh", "content": "15"}) in going.elements and "left to train13 min" in going.text
    assert "refresh" not in done.source and "left to train" not in done.text
    assert sorted(path.name for path in run.glob("report*")) == ["report.html"]


def test_a_picture_that_a_killed_run_has_not_finished_is_not_there_yet(run_dir):
    whole = (run_dir / "reverse.png").read_bytes()
    for part in (b"", whole[:10]):
        (run_dir / "reverse.png").write_bytes(part)
        assert "reverse.png is not there yet" in write_page(run_dir).read_text(encoding="utf-8")
    (run_dir / "reverse.png").write_bytes(whole)


def test_without_held_out_pictures_the_page_says_so(tmp_path):
    config = CONFIG | {"train": CONFIG["train"] | {"held_out": 0.0, "target": "eps"}}
    page = Page(write_page(write_run(tmp_path / "all", made_up_log(held_out=False), config)))
    assert "No pictures are held out" in page.text and not page.all("circle")


@pytest.mark.parametrize("target, weight, words", [
    ("v", None, "(min-SNR)"), ("eps", None, "from the truth;"), ("edm", None, "from the truth;"), ("v", "simple", "from the truth;"),
    ("flow", "p2", "(P2)"), ("edm", "edm", "as in EDM"),
])
def test_the_page_names_the_weight_of_the_loss(target, weight, words, tmp_path):
    config = CONFIG | {"train": CONFIG["train"] | {"target": target, "weight": weight}}
    assert words in Page(write_page(write_run(tmp_path / "run", made_up_log(), config))).text


def test_every_target_and_weight_has_words():
    assert set(TARGET_WORDS) == set(TARGETS) and set(WEIGHT_WORDS) == set(WEIGHTS)


def test_classes_self_conditioning_and_the_gaussian_are_told(tmp_path, run_dir):
    config = {**CONFIG, "train": CONFIG["train"] | {"label_dropout": 0.2, "gaussian": True},
              "data": CONFIG["data"] | {"label_names": ["tabby", "<b>"]}, "unet": CONFIG["unet"] | {"self_condition": True}}
    page, plain = Page(write_page(write_run(tmp_path / "run", config=config))), Page(write_page(run_dir))
    for words in ("which of 2 classes a picture is of: tabby, <b>. For\n20% of the pictures", "16 times t and 16 labels", "it guesses twice",
                  "measured, not learnt", "(a Gaussian start)"):
        assert words in page.text and words not in plain.text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        write_page(tmp_path)


def test_the_style_covers_dark_mode_and_narrow_screens(run_dir):
    source = write_page(run_dir).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in source and "max-width: 640px" in source and 'name="viewport"' in source


def test_it_is_told_whether_the_new_pictures_are_copies(run_dir):
    told = Page(write_page(run_dir)).text.partition("Are they copies?")[2]
    for words in ("Of 3 new pictures", "30.0 grey levels away", "nearest of all is 8.0 away", "For 2 held-out pictures", "the median is 40.0",
                  "1 of 3 is, so look at the first pairs"):
        assert words in told
    (run_dir / "neighbours.json").write_text(json.dumps({"samples": [40.0, 30.0, 28.0], "held_out": [41.0, 39.0]}))
    assert "none of 3 is." in Page(write_page(run_dir)).text
    (run_dir / "neighbours.json").write_text(json.dumps({"samples": [40.0], "held_out": []}))
    assert "nothing to compare that with" in Page(write_page(run_dir)).text


def test_of_very_many_skipped_files_some_are_named(run_dir):
    (run_dir / "skipped.txt").write_text("".join(f"{i:04}.png: the file is empty\n" for i in range(1000)))
    page = Page(write_page(run_dir))
    assert "1000 files were skipped" in page.text and "0199.png" in page.text and "0200.png" not in page.text and "and 800 more" in page.text


def test_few_pictures_are_a_warning(run_dir):
    for images, few in ((500, False), (499, True)):
        config = json.loads((run_dir / "config.json").read_text())
        config["data"]["images"] = images
        (run_dir / "config.json").write_text(json.dumps(config))
        assert ("the model will tend to repeat them" in Page(write_page(run_dir)).text) == few


def test_what_does_not_show_is_escaped(run_dir):
    """Names with line breaks, terminal commands, a turned direction of writing, or bytes that are no UTF-8."""
    (run_dir / "skipped.txt").write_bytes(b"a\x1b[2J.png: empty\nb\xe2\x80\xaegnp.exe: empty\nc\xff.png: empty\n")
    config = json.loads((run_dir / "config.json").read_text())
    config["data"]["label_names"], config["train"]["label_dropout"] = ["x\ny", "\udcff\u202e"], 0.1
    (run_dir / "config.json").write_text(json.dumps(config))
    page = Page(write_page(run_dir))
    assert "3 files were skipped" in page.text and "a\\x1b[2J.png" in page.text and "b\\u202egnp.exe" in page.text
    assert "x\\ny, \\udcff\\u202e" in page.text and not set(page.text) & {"\x1b", "\u202e", "\udcff"}
