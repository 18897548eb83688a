"""Small runs for the tests of training: pictures of random colours, the smallest of U-Nets."""
import numpy as np

from tinydiff import nn
from tinydiff.data import ImageSet
from tinydiff.training import TrainConfig, Trainer

UNET = dict(image_size=4, channels=16, channel_mults=(1,), blocks_per_level=1, attention_resolutions=(), heads=2, groups=4)
RUN = TrainConfig(epochs=3, batch=4, held_out=0.2)  # 13 pictures: 10 to train on, 3 steps an epoch, the last of 2 pictures


def pictures(n=13, size=4, labels=None):
    return ImageSet(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8), labels, ["a", "b"] if labels is not None else [])


def network(seed=0, dtype=np.float32, **changes):
    return nn.UNet(nn.UNetConfig(**UNET | changes), rng=np.random.default_rng(seed), dtype=dtype)


def trainer(out_dir, config=RUN, image_set=None, model=None):
    return Trainer(model or network(), image_set or pictures(), config, out_dir)
