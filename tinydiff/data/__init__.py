"""Pictures as one uint8 array (N,H,W,C): read from a folder or an archive, or drawn here.

load_images  any pictures that Pillow can open -> ImageSet
load_image   one picture from a file
drawn_cats   cartoon cat faces, as many as wanted, when there is no data at hand -> ImageSet
Rows         some of the pictures of an array, without a copy of them
to_model     uint8 -> float32 in [-1, 1], what the network sees; to_uint8 is the way back

oxford_pets.load_oxford_pets  photographs of cats' heads, downloaded once -> ImageSet; imported only where asked for, with all that the web needs

Read first: nothing.
"""
from tinydiff.data.drawn_cats import drawn_cats
from tinydiff.data.image_set import ImageSet, Rows, to_model, to_uint8
from tinydiff.data.loading import load_image, load_images

__all__ = ["ImageSet", "Rows", "drawn_cats", "load_image", "load_images", "to_model", "to_uint8"]
