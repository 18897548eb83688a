"""Layers and the U-Net: parameters, how they start, and wiring. The mathematics is in `tinydiff.ops`.

Read first: `ops/__init__.py`.
"""
from tinydiff.nn.blocks import Attention, ResBlock
from tinydiff.nn.layers import Conv2d, Dropout, Embedding, GroupNorm, Linear, Sequential
from tinydiff.nn.module import Module
from tinydiff.nn.unet import UNet, UNetConfig

__all__ = ["Attention", "Conv2d", "Dropout", "Embedding", "GroupNorm", "Linear", "Module", "ResBlock", "Sequential", "UNet", "UNetConfig"]
