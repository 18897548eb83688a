"""The download and the reading of the Oxford-IIIT Pet archives, from a local server that has small ones of the same layout and misbehaves."""
import hashlib
import http.server
import io
import re
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from tinydiff.data import download as web
from tinydiff.data.oxford_pets import ANNOTATIONS, IMAGES, Source, head_box, load_oxford_pets, square_around

# name: (species, box or None); each picture is grey, and red within the box grown by half.
PETS = {"Bombay_1": (1, (20, 10, 40, 30)), "Bombay_2": (1, None), "Maine_Coon_1": (1, (60, 20, 76, 40)), "Maine_Coon_10": (1, (2, 2, 20, 22)),
        "Maine_Coon_2": (1, (30, 30, 50, 48)), "beagle_1": (2, (10, 10, 30, 30)), "beagle_2": (2, None)}
WIDTH, HEIGHT = 100, 70


def picture(box):
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    if box:
        left, top, right, bottom = box
        grow = (right - left) // 2
        pixels[max(0, top - grow):bottom + grow, max(0, left - grow):right + grow] = (200, 0, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def xml(box):
    left, top, right, bottom = box
    return (f"<annotation><filename>x.jpg</filename><size><width>{WIDTH}</width></size><object><name>cat</name><bndbox><xmin>{left}</xmin>"
            f"<ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object></annotation>").encode()


def archive(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


LIST = "#Image CLASS-ID SPECIES BREED ID\n" + "".join(f"{name} 1 {species} 1\n" for name, (species, _) in PETS.items())
FILES = {
    "/images.tar.gz": archive({f"images/{name}.jpg": picture(box) for name, (_, box) in PETS.items()} | {"images/Bombay_1.mat": b"not a picture"}),
    "/annotations.tar.gz": archive({"annotations/list.txt": LIST.encode(), "annotations/README": b"text"} |
                                   {f"annotations/xmls/{name}.xml": xml(box) for name, (_, box) in PETS.items() if box}),
}


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES. behaviour: how, for the images; ranges: what was asked for."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour, self.ranges, self.files = "well", [], dict(FILES)

    def source(self, name):
        return Source(f"http://127.0.0.1:{self.server_port}/{name}", hashlib.md5(FILES["/" + name]).hexdigest())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        data, how = self.server.files[self.path], self.server.behaviour if "images" in self.path else "well"
        asked = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        self.server.ranges.append((self.path, int(asked[1]) if asked else None))
        if how in (404, 503):
            return self.send_error(how)
        if how == "away":
            self.send_response(302, "x" * 60_000)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        begin = int(asked[1]) if asked and how != "ignores ranges" else 0
        if asked and begin >= len(data):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if how == "nothing":
            data = b""
        elif how == "cuts once":
            data, self.server.behaviour = data[:begin + (len(data) - begin) // 2], "well"
        elif how == "cuts always":
            data = data[:begin + 100]
        self.wfile.write(data[begin:])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def load(server, folder, said=None, **options):
    say = [].append if said is None else said.append
    images, annotations = server.source("images.tar.gz"), server.source("annotations.tar.gz")
    return load_oxford_pets(16, folder=folder, say=say, images=images, annotations=annotations, **options)


def test_cats_with_a_box_are_cropped_to_it_and_the_others_counted(server, tmp_path):
    said, shown = [], []
    cats = load(server, tmp_path / "pets", said, progress=shown.append)
    assert cats.names == ["Bombay_1", "Maine_Coon_1", "Maine_Coon_10", "Maine_Coon_2"] and cats.skipped == []
    assert cats.label_names == ["Bombay", "Maine Coon"] and cats.labels.tolist() == [0, 1, 1, 1]
    assert np.abs(cats.images.astype(int) - (200, 0, 0)).max() < 30                # JPEG's error at the colour's edge; grey would be 128 away
    assert said == [f"The Oxford-IIIT Pet photographs (licence CC BY-SA 4.0) are downloaded once, to {tmp_path / 'pets'}.",
                    "Oxford-IIIT Pet: 4 cats with a box around the head; left out: 1 without one and 2 dogs."]
    size = len(FILES["/images.tar.gz"]) / 1e6
    assert f"images.tar.gz: {size:.1f} of {size:.1f} MB" in shown and shown[-1] == "cats read: 4 of 4"


def test_the_second_time_nothing_is_downloaded(server, tmp_path):
    first = load(server, tmp_path)
    asked, said = list(server.ranges), []
    again = load(server, tmp_path, said)
    assert server.ranges == asked and len(asked) == 2 and len(said) == 1
    np.testing.assert_array_equal(first.images, again.images)
    (tmp_path / "images.tar.gz").write_bytes(b"damaged on the disk")
    np.testing.assert_array_equal(load(server, tmp_path).images, first.images)


def test_a_limit_gives_every_breed_its_share(server, tmp_path):
    assert load(server, tmp_path, limit=2).names == ["Bombay_1", "Maine_Coon_1"]


def arrives(server, tmp_path):
    assert len(load(server, tmp_path)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.tar.gz", "images.tar.gz"]
    assert (tmp_path / "images.tar.gz").read_bytes() == FILES["/images.tar.gz"]


def test_a_connection_that_is_cut_half_way_is_taken_up_again(server, tmp_path):
    server.behaviour = "cuts once"
    arrives(server, tmp_path)
    assert server.ranges[1:] == [("/images.tar.gz", None), ("/images.tar.gz", len(FILES["/images.tar.gz"]) // 2)]


def test_one_that_is_cut_again_and_again_keeps_what_has_arrived(server, tmp_path):
    server.behaviour = "cuts always"
    with pytest.raises(OSError, match="images.tar.gz can't be had .the connection was cut.. 0.0 MB have arrived and are kept: run it again"):
        load(server, tmp_path)
    assert (tmp_path / "images.tar.gz.part").read_bytes() == FILES["/images.tar.gz"][:100 * web.TRIES]
    server.behaviour = "well"
    arrives(server, tmp_path)
    assert server.ranges[-1] == ("/images.tar.gz", 100 * web.TRIES)


def test_a_server_that_knows_no_ranges_sends_it_all_again(server, tmp_path):
    (tmp_path / "images.tar.gz.part").write_bytes(FILES["/images.tar.gz"][:333])
    server.behaviour = "ignores ranges"
    arrives(server, tmp_path)
    assert len(server.ranges) == 2


@pytest.mark.parametrize("rest", [b"of another file", FILES["/images.tar.gz"], FILES["/images.tar.gz"] + b"and more"])
def test_a_rest_that_is_wrong_whole_or_too_long(server, tmp_path, rest):
    (tmp_path / "images.tar.gz.part").write_bytes(rest)
    arrives(server, tmp_path)


def fails(server, tmp_path, match):
    with pytest.raises(OSError, match=match) as error:
        load(server, tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path / "images.tar.gz") in str(error.value)
    assert not (tmp_path / "images.tar.gz").exists()


def test_a_wrong_file_is_thrown_away(server, tmp_path):
    server.files["/images.tar.gz"] = FILES["/images.tar.gz"][:-1] + b"?"
    fails(server, tmp_path, "sent another file than it should .its MD5 is not [0-9a-f]{32}., which was thrown away")
    assert not (tmp_path / "images.tar.gz.part").exists()


@pytest.mark.parametrize("code, words", [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_an_answer_that_is_no_file(server, tmp_path, code, words):
    server.behaviour = code
    fails(server, tmp_path, f"the server answers {words}. The file may also be fetched in another way and put at")
    assert len(server.ranges) == 2


def test_a_server_that_sends_nothing(server, tmp_path):
    server.behaviour = "nothing"
    fails(server, tmp_path, "the connection was cut.. Are you online")


def test_an_empty_file(server, tmp_path):
    server.files["/images.tar.gz"] = b""
    fails(server, tmp_path, "an empty file was sent.. Are you online")


def test_a_server_that_sends_us_to_our_own_files_with_a_long_reason(server, tmp_path):
    server.behaviour = "away"
    with pytest.raises(OSError, match="images.tar.gz can't be had: the server answers 302 xxx") as caught:
        load(server, tmp_path)
    assert len(str(caught.value)) < 1000


def test_a_server_that_sends_us_to_what_is_no_address(tmp_path, monkeypatch):
    def nowhere(*_):
        raise ValueError("Invalid IPv6 URL")                # as urllib says of a redirection to http://[
    monkeypatch.setattr(web, "_fetch", nowhere)
    with pytest.raises(OSError, match=r"http://x can't be had \(Invalid IPv6 URL\). Are you online"):
        web.download("http://x", tmp_path / "x", "")


def test_offline(tmp_path):
    with Server() as server:
        nobody = Source(server.source("annotations.tar.gz").url, "0" * 32)
    with pytest.raises(OSError, match=r"annotations.tar.gz can't be had \(.*refused.*\). Are you online. The file may also") as error:
        load_oxford_pets(folder=tmp_path, say=lambda _: None, annotations=nobody)
    assert "\n" not in str(error.value)


def test_another_process_that_writes_the_same_part(server, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PIECE", 1000)

    def interfere(words):
        if words.startswith("images"):
            with open(tmp_path / "images.tar.gz.part", "ab") as file:
                file.write(b"!")

    with pytest.raises(OSError, match="images.tar.gz.part is being written by another process"):
        load(server, tmp_path, progress=interfere)


def test_a_server_that_sends_for_ever(server, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "MAX_BYTES", 2000)
    monkeypatch.setattr(web, "PIECE", 1000)
    with pytest.raises(OSError, match="and the server goes on sending"):
        load(server, tmp_path)


LAUGHS = (b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "' + b"lol" * 1000 + b'">'
          + b"".join(b'<!ENTITY %c "%s">' % (c, b"&%c;" % (c - 1) * 10) for c in range(98, 108)) + b"]><annotation><object><bndbox><xmin>&k;</xmin>"
          b"</bndbox></object></annotation>")


@pytest.mark.parametrize("text", [
    LAUGHS, LAUGHS.decode().replace('version="1.0"', 'version="1.0" encoding="utf-16"').encode("utf-16"),
    b'<!DOCTYPE a [<!ENTITY n "5">]>' + xml((1, 2, "&n;", 4)), b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', b"", b"no xml",
    b"<annotation>", b"<annotation/>", xml(("a", 2, 3, 4)), xml((5, 2, 3, 4)), xml(("nan", 2, 3, 4)), b"<a>" * 100_000])
def test_an_annotation_without_a_box_that_can_be_trusted(text):
    assert head_box(text) is None


def test_boxes():
    assert head_box(xml((1, 2, 33, 44))) == (1, 2, 33, 44)
    assert square_around((40, 30, 60, 50), 100, 80) == (37, 27, 26)              # 1.3 * 20, about (50, 40)
    assert square_around((0, 0, 20, 10), 100, 80) == (0, 0, 26)                  # moved into the picture
    assert square_around((80, 70, 100, 80), 100, 80) == (74, 54, 26)
    assert square_around((0, 0, 90, 79), 100, 80) == (5, 0, 80)                  # no larger than the picture
    with pytest.raises(ValueError, match="is not within 100 x 80 pixels"):
        square_around((90, 70, 130, 80), 100, 80)


def test_the_real_sources():
    """As torchvision states them too."""
    assert IMAGES == ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c")
    assert ANNOTATIONS == ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f")
