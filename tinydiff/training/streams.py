"""The streams of random numbers: what each draw is for.

A draw is made by `np.random.default_rng([seed, STREAM, step, i])`, i the picture's index in the batch. So every number of a training run
is known from the seed and from where in the run it is used; nothing about randomness has to be saved, a resumed run draws what the unbroken
run would have drawn, and processes that share a batch draw what one alone would. (Stream 6 belongs to the samplers, 40 to
49 to `metrics` and the likelihoods.)

Read first: `__init__.py`.
"""
INIT = 0        # the network's first weights: [seed, INIT]
ORDER = 1       # the order of the pictures: [seed, ORDER, epoch]
TIME = 2        # the times t of a batch: [seed, TIME, step]
NOISE = 3       # the noise eps of a picture: [seed, NOISE, step, i]
FLIP = 4        # whether a picture is mirrored: [seed, FLIP, step, i]
DROPOUT = 5     # what a Dropout, module number k, drops of a picture: [seed, DROPOUT, step, i, k]
HELD_OUT = 7    # which pictures are held out: [seed, HELD_OUT]; and their noise: [seed, HELD_OUT, i]
LABEL_DROPOUT = 10   # whether a picture's label is left out: [seed, LABEL_DROPOUT, step, i]
SELF_CONDITION = 11  # whether a batch is given a first guess: [seed, SELF_CONDITION, step]
