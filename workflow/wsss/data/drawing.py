"""Pictures for the drawn data sets: cluttered backgrounds, and objects of which some parts tell the class.

The badge of an object shows its class at once. Two things tell it more faintly: the coat on the far end of the body,
and the fur that covers it. Several classes share each coat and each kind of fur. The two colours of a body and its
outline say nothing. So a classifier learns the badge first, and its CAM misses much of the body. One of the two colours
is near that of the background, so colour alone does not recover the body either. Fur does: every body has it, and
nothing else has. So a network can learn what belongs together, as AffinityNet and DeepLab must. Lengths are pixels
unless a comment says otherwise.
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
BADGE_RADIUS = 0.36  # of the body's

# Coats tell a class more faintly than its badge, and two classes share each. Coordinates are in radii of the body.
COATS: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda along, across: np.sign(np.sin(16 * along)),
    lambda along, across: np.sign(np.sin(16 * across)),
    lambda along, across: np.sign(np.sin(13 * along) * np.sin(13 * across)),
    lambda along, across: np.sign(np.sin(12 * (along + across))),
)
COAT_CONTRAST = 0.14
HIND = -0.15  # the coat begins here on the axis that runs from the body's centre to its badge, in radii
FUR = 0.16  # deviation of the lightness from hair to hair
HAIRS = ((1.3, 10.0), (2.2, 4.0), (4.5, 4.5))  # width and length of a hair, of each kind of fur; the third is dapples
PATCHES = 0.7  # patches of colour per radius
CAMOUFLAGE = 0.2  # one of a body's two colours goes this share of the way from the background's to a random one


@dataclass(frozen=True)
class Appearance:
    """How objects of a class look: a badge of its own, a coat and a kind of fur that it shares with others.

    No two classes share both.
    """

    badge: Badge
    coat: int
    fur: int

    @classmethod
    def of(cls, name: str) -> Appearance:
        """Return the appearance of class ``name``."""
        k = list(BADGES).index(name)
        return cls(BADGES[name], k // 2 % len(COATS), k % len(HAIRS))


RADII = (0.11, 0.40)  # of bodies, as shares of the image's side
CENTRE = 0.2  # least distance of a body's centre from the edges, likewise


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
    def draw(
        cls, size: int, rng: np.random.Generator, radii: tuple[float, float] = RADII, centre: float = CENTRE
    ) -> Body:
        """Draw a body for an image of ``size`` pixels per side.

        Args:
            size: pixels per side.
            rng: the source of all draws.
            radii: the least and the largest radius, as shares of the image's side.
            centre: how far from the edges its centre stays, as a share of the side.
        """
        radius = size * np.exp(rng.uniform(*np.log(radii)))
        x, y = size * rng.uniform(centre, 1 - centre, 2)
        bumps = tuple((k, rng.uniform(0, 0.22) / k, rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
        angle = rng.uniform(0, 2 * np.pi)  # the badge sits off the centre, so that one side of the body is far from it
        badge = (x + 0.50 * radius * np.cos(angle), y + 0.50 * radius * np.sin(angle))
        return cls(x, y, radius, rng.uniform(1.0, 1.5), angle + rng.normal(0, 0.4), bumps, badge)

    def depth(self, size: int) -> np.ndarray:
        """Compute the depth of each pixel inside the outline, ``size×size``, roughly in pixels; negative outside."""
        u, v = self._turned(size, self.x, self.y)
        stretch = np.float32(np.sqrt(self.stretch))
        u, v = u / stretch, v * stretch
        angle = np.arctan2(v, u)
        outline = np.ones_like(angle)
        for order, amplitude, phase in self.bumps:
            outline += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
        return np.float32(self.radius) * outline - np.hypot(u, v)

    def axes(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute each pixel's place along the axis from centre to badge and across it, ``size×size``, in radii."""
        dx, dy = self.offsets(size, self.x, self.y)
        bx, by = np.float32(self.badge[0] - self.x), np.float32(self.badge[1] - self.y)
        length = np.hypot(bx, by) * np.float32(self.radius)
        return (dx * bx + dy * by) / length, (dy * bx - dx * by) / length

    def badge_frame(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the coordinates u and v of each pixel, ``size×size``, in radii of the badge."""
        u, v = self._turned(size, *self.badge)
        scale = np.float32(BADGE_RADIUS * self.radius)
        return u / scale, v / scale

    def fur(self, size: int, kind: int, rng: np.random.Generator) -> np.ndarray:
        """Draw hairs of a kind along the body's axis, ``size×size``, of mean 0 and deviation 1."""
        along, across = self._turned(size, self.x, self.y)
        width, length = HAIRS[kind]
        n = 4 * size
        row = (across / width).astype(int) % n
        place = ((along + rng.uniform(0, length, n)[row]) / length).astype(int) % n
        hairs: np.ndarray = rng.standard_normal((n, n), np.float32)[row, place]
        return hairs

    def _turned(self, size: int, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute the place of each pixel from (x, y) along the body's axis and across it, ``size×size``."""
        dx, dy = self.offsets(size, x, y)
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return dx * cos + dy * sin, dy * cos - dx * sin

    @staticmethod
    def offsets(size: int, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute the distances of each column from x, ``1×size``, and of each row from y, ``size×1``."""
        places = np.arange(size, dtype=np.float32)
        return places[None] - np.float32(x), places[:, None] - np.float32(y)


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
    return _shade((0.36, 0.45, 0.46), 0.05 * waves)


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


def body_colours(around: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the two colours of a body, of which the second is near the colour ``around`` it."""
    hues, saturations, values = rng.random(2), rng.uniform(0.25, 0.60, 2), rng.uniform(0.40, 0.95, 2)
    first, other = (np.array(colorsys.hsv_to_rgb(*hsv)) for hsv in zip(hues, saturations, values, strict=True))
    return first, around + CAMOUFLAGE * (other - around)


def paint_object(canvas: np.ndarray, body: Body, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Paint an object on a canvas, with its shadow: a piebald body of two colours, its coat and its badge."""
    size = len(canvas)
    first, second = body_colours(np.median(canvas, (0, 1)), rng)
    shadow = replace(body, x=body.x + 2, y=body.y + 2).depth(size)
    canvas = blend(canvas, canvas * 0.6, shadow)
    depth = body.depth(size)
    cells = max(2, round(PATCHES * size / body.radius))
    patches = np.clip(4 * smooth_noise(size, cells, rng), 0, 1)[..., None]
    light = _light(size, body, appearance, rng) + _coat(size, body, appearance)
    canvas = blend(canvas, _shade((0.0, 0.0, 0.0), light) + first * (1 - patches) + second * patches, depth)
    u, v = body.badge_frame(size)
    inks = np.where(appearance.badge.pattern(u, v)[..., None], appearance.badge.ink, appearance.badge.paper)
    rim = (1 - np.hypot(u, v)) * BADGE_RADIUS * body.radius
    return blend(canvas, inks + 0.02 * rng.standard_normal((size, size, 1)), np.minimum(rim, depth))


def _light(size: int, body: Body, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Draw how much lighter the pixels of a body are than its colours: lit from the upper left, with a kind of fur."""
    dx, dy = body.offsets(size, body.x, body.y)
    return -0.08 * (dx + dy) / body.radius + FUR * body.fur(size, appearance.fur, rng)


def _coat(size: int, body: Body, appearance: Appearance) -> np.ndarray:
    """Compute how much lighter or darker a coat makes the pixels of a body: not at all towards the badge."""
    along, across = body.axes(size)
    far = np.clip((HIND - along) * 6, 0, 1)
    return COAT_CONTRAST * far * COATS[appearance.coat](along, across)
