"""Mean and standard deviation of the pixels that published networks expect, per channel: red, green, blue."""

from __future__ import annotations

LEVELS = 255  # the highest value of a pixel
RGB_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, pixels from 0 to 1
RGB_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (122.675, 116.669, 104.008)  # of ImageNet in Caffe's models, pixels from 0 to 255, which are not scaled

Colour = tuple[float, ...]


def _of_levels(shares: Colour) -> Colour:
    return tuple(round(LEVELS * share, 3) for share in shares)


# Mean and scale of each pixel convention, pixels from 0 to 255. ``vgg_bgr`` also reverses the channels.
PIXELS: dict[str, tuple[Colour, Colour]] = {
    "rgb": (_of_levels(RGB_MEAN), _of_levels(RGB_STD)),
    "vgg_bgr": (CAFFE_MEAN, (1.0, 1.0, 1.0)),
}
