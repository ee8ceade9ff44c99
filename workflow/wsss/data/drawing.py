"""Pictures for the embedded data set: cluttered backgrounds, and objects with a badge on a plain body.

Only its badge shows the class of an object. The body is larger and of one even colour. Its colour and outline say
nothing of the class, so a classifier learns the badge and its CAM misses most of the body. Colour and affinity can
recover the body. Lengths are pixels unless a comment says otherwise.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

CREAM, COAL = (0.97, 0.95, 0.88), (0.09, 0.08, 0.13)


@dataclass(frozen=True)
class Badge:
    """The mark of a class: ``ink`` where ``pattern(u, v)`` is true, else ``paper``; u and v run from -1 to 1."""

    pattern: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ink: tuple[float, float, float]
    paper: tuple[float, float, float]


BADGES = {
    "stripes": Badge(lambda u, v: np.sin(8 * u) > 0, (0.84, 0.08, 0.14), CREAM),
    "checks": Badge(lambda u, v: np.sin(6 * u) * np.sin(6 * v) > 0, COAL, (0.98, 0.82, 0.10)),
    "rings": Badge(lambda u, v: np.sin(9 * np.hypot(u, v)) > 0, (0.08, 0.22, 0.82), CREAM),
    "dots": Badge(lambda u, v: np.hypot((u * 1.7) % 1 - 0.5, (v * 1.7) % 1 - 0.5) < 0.3, CREAM, (0.04, 0.42, 0.20)),
    "cross": Badge(lambda u, v: np.minimum(abs(u), abs(v)) < 0.22, CREAM, (0.72, 0.05, 0.55)),
    "rays": Badge(lambda u, v: np.sin(6 * np.arctan2(v, u)) > 0, COAL, (0.98, 0.50, 0.04)),
    "zigzag": Badge(lambda u, v: np.sin(8 * (v + 0.35 * abs((u * 2.2) % 2 - 1))) > 0, COAL, (0.10, 0.80, 0.85)),
    "half": Badge(lambda u, v: u > 0, COAL, CREAM),
}
BADGE_RADIUS = 0.42  # of the body's


@dataclass(frozen=True)
class Body:
    """A star-shaped outline around (x, y): radius times (1 + harmonics of the angle), stretched along an axis."""

    x: float
    y: float
    radius: float
    stretch: float  # long over short axis
    turn: float  # radians
    bumps: tuple[tuple[int, float, float], ...]  # order, amplitude, phase
    badge: tuple[float, float]  # centre of the badge

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> Body:
        """Draw a body for an image of ``size`` pixels per side."""
        radius = size * rng.uniform(0.19, 0.32)
        x, y = size * rng.uniform(0.2, 0.8, 2)
        bumps = tuple((k, rng.uniform(0, 0.22) / k, rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
        angle = rng.uniform(0, 2 * np.pi)  # the badge sits off the centre, so that one side of the body is far from it
        badge = (x + 0.50 * radius * np.cos(angle), y + 0.50 * radius * np.sin(angle))
        return cls(x, y, radius, rng.uniform(1.0, 1.5), angle + rng.normal(0, 0.4), bumps, badge)

    def depth(self, size: int) -> np.ndarray:
        """Compute the depth of each pixel inside the outline, ``size×size``, roughly in pixels; negative outside."""
        dx, dy = self.offsets(size, self.x, self.y)
        u, v = dx * np.cos(self.turn) + dy * np.sin(self.turn), dy * np.cos(self.turn) - dx * np.sin(self.turn)
        u, v = u / np.sqrt(self.stretch), v * np.sqrt(self.stretch)
        angle = np.arctan2(v, u)
        outline = 1 + sum(amplitude * np.cos(k * angle + phase) for k, amplitude, phase in self.bumps)
        return self.radius * outline - np.hypot(u, v)

    def badge_frame(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the coordinates u and v of each pixel, ``size×size``; they are 1 at the badge's rim."""
        dx, dy = self.offsets(size, *self.badge)
        scale = BADGE_RADIUS * self.radius
        return (
            (dx * np.cos(self.turn) + dy * np.sin(self.turn)) / scale,
            (dy * np.cos(self.turn) - dx * np.sin(self.turn)) / scale,
        )

    @staticmethod
    def offsets(size: int, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute the distances of each pixel from x and from y, ``size×size``."""
        rows, columns = np.mgrid[:size, :size]
        return columns - x, rows - y


def smooth_noise(size: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Draw smooth noise ``size×size`` with about ``cells`` bumps per side, of mean 0 and deviation 1."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    fine = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    noise: np.ndarray = (fine - fine.mean()) / fine.std()
    return noise


def _shade(base: tuple[float, float, float], light: np.ndarray) -> np.ndarray:
    """Make a colour lighter and darker by ``light`` ``H×W``: ``H×W×3``."""
    return np.asarray(base) + light[..., None] * np.array([1.0, 0.95, 0.85])


def _meadow(size: int, rng: np.random.Generator) -> np.ndarray:
    return _shade((0.40, 0.47, 0.33), 0.07 * smooth_noise(size, 28, rng) + 0.04 * smooth_noise(size, 5, rng))


def _sky(size: int, rng: np.random.Generator) -> np.ndarray:
    return _shade((0.62, 0.69, 0.76), np.linspace(0.12, -0.12, size)[:, None] + 0.05 * smooth_noise(size, 4, rng))


def _water(size: int, rng: np.random.Generator) -> np.ndarray:
    waves = np.sin(np.arange(size)[:, None] * 0.55 + 1.6 * smooth_noise(size, 6, rng))
    return _shade((0.34, 0.43, 0.50), 0.07 * waves)


def _sand(size: int, rng: np.random.Generator) -> np.ndarray:
    return _shade((0.68, 0.62, 0.52), 0.05 * smooth_noise(size, 40, rng) + 0.05 * smooth_noise(size, 3, rng))


def _bricks(size: int, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    height = rng.integers(9, 13)
    course = rows // height
    joint = (rows % height < 2) | ((columns + course % 2 * height) % (2 * height) < 2)
    return _shade((0.50, 0.43, 0.40), np.where(joint, 0.14, 0.05 * smooth_noise(size, 12, rng)))


def _night(size: int, rng: np.random.Generator) -> np.ndarray:
    stars = gaussian_filter((rng.random((size, size)) > 0.985).astype(float), 0.6) * 1.6
    return _shade((0.22, 0.23, 0.29), stars + 0.05 * smooth_noise(size, 5, rng))


SCENES = (_meadow, _sky, _water, _sand, _bricks, _night)


def background(scene: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Paint one of the ``SCENES`` with blobs of greyish colours: ``size×size×3`` in [0, 1]."""
    canvas = SCENES[scene % len(SCENES)](size, rng)
    for _ in range(rng.integers(3, 8)):
        radius = size * rng.uniform(0.03, 0.10)
        x, y = rng.uniform(0, size, 2)
        depth = replace(Body.draw(size, rng), x=x, y=y, radius=radius).depth(size)
        colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.25), rng.uniform(0.25, 0.8))
        canvas = blend(canvas, _shade(colour, 0.004 * depth), depth)
    return canvas


def blend(canvas: np.ndarray, paint: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Lay ``paint`` over ``canvas`` where ``depth`` is positive, with an edge one pixel wide."""
    cover = np.clip(depth + 0.5, 0, 1)[..., None]
    return canvas * (1 - cover) + paint * cover


def paint_object(canvas: np.ndarray, body: Body, badge: Badge, rng: np.random.Generator) -> np.ndarray:
    """Paint an object on a canvas: a lit, even body of a random colour, and the badge of its class."""
    size = len(canvas)
    depth = body.depth(size)
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.20, 0.55), rng.uniform(0.50, 0.95))
    dx, dy = body.offsets(size, body.x, body.y)
    light = -0.10 * (dx + dy) / body.radius + 0.03 * smooth_noise(size, 30, rng) + 0.05 * smooth_noise(size, 6, rng)
    shadow = replace(body, x=body.x + 2, y=body.y + 2).depth(size)
    canvas = blend(blend(canvas, canvas * 0.6, shadow), _shade(colour, light), depth)
    u, v = body.badge_frame(size)
    inks = np.where(badge.pattern(u, v)[..., None], badge.ink, badge.paper)
    rim = (1 - np.hypot(u, v)) * BADGE_RADIUS * body.radius
    return blend(canvas, inks + 0.02 * rng.standard_normal((size, size, 1)), np.minimum(rim, depth))
