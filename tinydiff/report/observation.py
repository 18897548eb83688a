"""Remarks on a run: one on each epoch, said from the losses alone, and one on how many pictures there are.

Read first: `log.py`.
"""
from typing import Sequence

STILL_NOISE = 0.3        # of the loss of a network that knows nothing
WINDOW = 3               # epochs looked back over
LEARNING = 0.08          # fall of the loss over the window that counts as learning
TURNED_UP = 0.03         # rise of the held-out loss above its lowest that counts as a turn
FEW = 500                # pictures below which a network is likely to learn them by heart
WORSE = 0.10             # rise of the loss over the window that counts as getting worse


def observation(history: Sequence[dict], start: float | None = None) -> str:
    """What the last row of a history shows.

    history: rows dict(epoch, loss, held_out_loss), one for each epoch, oldest first; held_out_loss may be None. start: the loss of the
    very first step, where the network, whose last layer starts at zero, has learnt nothing; left out, the first epoch's.
    The loss judged is the held-out one, or the training loss where there are no held-out pictures; "before" is WINDOW epochs earlier, or
    the first epoch. The first rule that holds speaks:
      over-fitting     the held-out loss is TURNED_UP above its lowest, which is two epochs or more ago; the training loss has fallen since
      getting worse    the loss is WORSE above what it was before
      still noise      the loss is above STILL_NOISE of `start`: samples would be noise or blots of colour
      learning         the loss fell by LEARNING or more since before
      stabilising      none of these: the loss moves little
    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("observation: the history has no epochs")
    row = history[-1]
    losses = [_judged(r) for r in history]
    loss, before = losses[-1], losses[max(0, len(losses) - 1 - WINDOW)]
    start, whose = (history[0]["loss"], "first epoch") if start is None else (start, "first step")
    fall, epochs = 1 - loss / before, min(WINDOW, len(history) - 1)
    if row["held_out_loss"] is not None:
        best = min(range(len(history)), key=losses.__getitem__)
        rise = loss / losses[best] - 1
        if rise > TURNED_UP and len(history) - 1 - best >= 2 and row["loss"] < history[best]["loss"]:
            return f"over-fitting: held-out loss up {rise:.0%} since epoch {history[best]['epoch']}, training loss still falling"
    if fall < -WORSE:
        return f"getting worse: loss up {-fall:.0%} in {_count(epochs)}; a lower --lr may help"
    if loss > STILL_NOISE * start:
        return f"still noise: {loss / start:.0%} of the {whose}'s loss is left"
    if fall >= LEARNING:
        return f"learning: loss down {fall:.0%} in {_count(epochs)}"
    if epochs == 0:
        return f"learning: {loss / start:.0%} of the {whose}'s loss is left"
    return f"stabilising: loss {'down' if fall >= 0 else 'up'} {abs(fall):.1%} in {_count(epochs)}"


def few_pictures(n: int) -> str:
    """What to expect of only n pictures; "" where they are enough."""
    if n >= FEW:
        return ""
    return (f"These are few pictures: with fewer than {FEW}, the model will tend to repeat them instead of drawing new ones. "
            "More pictures help, or fewer epochs.")


def _judged(row):
    return row["loss"] if row["held_out_loss"] is None else row["held_out_loss"]


def _count(epochs):
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"
