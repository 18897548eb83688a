"""The sheet of samples beside their neighbours: each pair together, the nearest first."""
import numpy as np
import pytest

from tinydiff.report import neighbour_sheet


@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_is_beside_its_neighbour_and_the_nearest_pair_comes_first(channels):
    samples, neighbours = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 8, channels), dtype=np.uint8)
    sheet = np.asarray(neighbour_sheet(samples, neighbours, [30.0, 10.0, 50.0, 20.0, 40.0], columns=2, scale=2))
    pairs = np.broadcast_to(np.concatenate([samples, neighbours], axis=2), (5, 8, 16, 3)).repeat(2, 1).repeat(2, 2)     # (5,16,32,3)
    places = []
    for pair in pairs:
        windows = np.lib.stride_tricks.sliding_window_view(sheet, pair.shape)[:, :, 0]
        place = np.argwhere((windows[..., 0, :, :] == pair[0]).all((2, 3)))[0]       # by its first row of pixels
        assert (windows[tuple(place)] == pair).all()
        places.append(tuple(place))
    in_reading_order = sorted(range(5), key=lambda i: places[i])
    assert in_reading_order == [1, 3, 0, 4, 2]
    assert len({y for y, _ in places}) == 3 and len({x for _, x in places}) == 2


def test_what_does_not_fit():
    pictures = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"samples \(3, 8, 8, 3\), neighbours \(2, 8, 8, 3\), distances \(3,\)"):
        neighbour_sheet(pictures, pictures[1:], np.zeros(3))
    with pytest.raises(ValueError, match=r"distances \(2,\)"):
        neighbour_sheet(pictures, pictures, np.zeros(2))
    with pytest.raises(TypeError, match="neighbour_sheet: pictures are uint8"):
        neighbour_sheet(pictures / 255, pictures, np.zeros(3))
