"""ImageSet refuses parts that do not fit; bytes survive the way to the network's space and back."""
import dataclasses

import numpy as np
import pytest

from tinydiff.data import ImageSet, to_model, to_uint8

TWO = np.zeros((2, 4, 4, 3), dtype=np.uint8)


def test_every_byte_survives_the_round_trip():
    everything = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = to_model(everything)
    assert x.dtype == np.float32 and x.min() == -1 and x.max() == 1
    np.testing.assert_array_equal(to_uint8(x), everything)
    np.testing.assert_array_equal(to_uint8(x.astype(np.float64)), everything)


def test_to_uint8_clips_and_rounds_to_the_nearest():
    x = np.array([-np.inf, -3.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 1 - 0.49 / 127.5, 1.001, np.inf])
    assert to_uint8(x).tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert to_uint8(x).dtype == np.uint8


def test_to_uint8_refuses_nan():
    with pytest.raises(ValueError, match=r"1 NaN among its 2 values .*diverged"):
        to_uint8(np.array([0.0, np.nan]))


def test_to_model_refuses_what_is_converted_already():
    with pytest.raises(TypeError, match=r"must be uint8, not float32 \(shape \(2, 4, 4, 3\)\)"):
        to_model(to_model(TWO))


def test_image_set_has_a_length_and_is_frozen():
    pictures = ImageSet(TWO)
    assert len(pictures) == 2 and pictures.labels is None and pictures.names == [] and pictures.skipped == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        pictures.images = TWO


@pytest.mark.parametrize("error, match, parts", [
    (TypeError, "must be uint8, not float64", dict(images=np.zeros((2, 4, 4, 3)))),
    (ValueError, r"\(N,H,W,C\), not \(2, 4, 4\)", dict(images=TWO[..., 0])),
    (ValueError, "3 names for 2 images", dict(images=TWO, names=["a", "b", "c"])),
    (ValueError, r"labels must be \(2,\) int64, not \(3,\)", dict(images=TWO, labels=np.zeros(3, np.int64), label_names=["a"])),
    (ValueError, "not .* int32", dict(images=TWO, labels=np.zeros(2, np.int32), label_names=["a"])),
    (ValueError, "run from 0 to 1, but label_names has 1", dict(images=TWO, labels=np.array([0, 1]), label_names=["a"])),
    (ValueError, "run from -1 to 0", dict(images=TWO, labels=np.array([0, -1]), label_names=["a"])),
])
def test_image_set_refuses_parts_that_do_not_fit(error, match, parts):
    with pytest.raises(error, match=match):
        ImageSet(**parts)
