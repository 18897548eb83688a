"""Each rule of the observation, just where it begins and just where it doesn't."""
import pytest

from tinydiff.report import observation


def history(losses, held_out=None):
    held_out = held_out or [None] * len(losses)
    return [{"epoch": i, "loss": loss, "held_out_loss": held} for i, (loss, held) in enumerate(zip(losses, held_out), start=1)]


@pytest.mark.parametrize("losses, held_out, start, word", [
    ([0.9], None, 1.0, "still noise"),
    ([0.2], None, 1.0, "learning"),
    ([0.9, 0.5, 0.31], None, 1.0, "still noise"),
    ([0.9, 0.5, 0.29], None, 1.0, "learning"),
    ([0.9, 0.5, 0.4], None, None, "still noise"),                                   # without a start, the first epoch is the measure
    ([0.9, 0.5, 0.2], None, None, "learning"),
    ([0.2, 0.100, 0.097, 0.094, 0.091], None, 1.0, "learning"),                        # 9 % in three epochs
    ([0.2, 0.100, 0.098, 0.096, 0.094], None, 1.0, "stabilising"),                     # 6 %
    ([0.1, 0.1, 0.1, 0.109], None, 1.0, "stabilising"),
    ([0.1, 0.1, 0.1, 0.111], None, 1.0, "getting worse"),
    ([0.5, 0.6, 0.8, 0.9], None, 1.0, "getting worse"),
    ([0.10, 0.09, 0.08, 0.07], [0.2, 0.10, 0.102, 0.104], 1.0, "over-fitting"),
    ([0.10, 0.09, 0.08, 0.07], [0.2, 0.10, 0.102, 0.102], 1.0, "learning"),            # up by less than 3 %
    ([0.10, 0.09, 0.08, 0.07], [0.2, 0.11, 0.10, 0.104], 1.0, "learning"),             # the lowest is only one epoch ago
    ([0.10, 0.09, 0.09, 0.10], [0.1, 0.099, 0.102, 0.104], 1.0, "stabilising"),        # the training loss doesn't fall
    ([0.30, 0.20, 0.10, 0.05], [0.1, 0.1, 0.1, 0.1], 1.0, "stabilising"),              # the held-out loss decides, not the training loss
])
def test_each_rule(losses, held_out, start, word):
    assert observation(history(losses, held_out), start).partition(":")[0] == word


def test_the_figures_are_the_histories_own():
    assert observation(history([0.8, 0.4]), 1.0) == "still noise: 40% of the first step's loss is left"
    assert observation(history([0.2, 0.15]), 1.0) == "learning: loss down 25% in 1 epoch"
    text = observation(history([0.10, 0.09, 0.08, 0.07], [0.2, 0.10, 0.11, 0.12]), 1.0)
    assert text == "over-fitting: held-out loss up 20% since epoch 2, training loss still falling"


def test_nothing_can_be_said_of_nothing():
    with pytest.raises(ValueError, match="no epochs"):
        observation([])
