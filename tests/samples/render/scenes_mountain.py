"""Snow-covered mountains under a blue sky, with a fir forest in front."""

import numpy as np
from PIL import Image, ImageDraw

from . import finish
from .noise import fbm2, mix, ridged2, smoothstep
from .raymarch import normalize, vec

F = np.float32
EYE = F(1.2)
SUN = (-0.62, 0.52, -0.30)


def _height(x, z, octaves=9):
    """Terrain height (kilometres) at x to the right and z ahead."""
    x = x + F(0.9)  # brings the summit nearer to the middle of the picture
    warp = fbm2(x * 0.18, z * 0.18, 3, 71)
    crag = ridged2(x * 0.21 + warp * 0.9 + 2.3, z * 0.21 + warp * 0.6, octaves, 40)
    range_ = smoothstep(3.0, 11.0, z) * smoothstep(34, 16, z)
    # One main summit right of the middle, lower shoulders beside it.
    peak = np.exp(-(((x - 1.5) / 2.8) ** 2) - ((z - 13.0) / 4.0) ** 2)
    left = np.exp(-(((x + 2.6) / 1.6) ** 2) - ((z - 14.5) / 4.0) ** 2)
    base = 0.25 * fbm2(x * 0.4, z * 0.4, 4, 90)
    return base + range_ * (0.35 + crag * (1.9 + 3.0 * peak + 2.3 * left) + 2.0 * left * fbm2(x * 0.6, z * 0.6, 3, 93))


def _sky(w, h, horizon, focal):
    y, x = np.mgrid[0:h, 0:w].astype(F)
    up = np.clip((horizon - y) / focal, 0, 1)
    side = (x - w / 2) / focal
    rgb = mix((0.50, 0.70, 0.95), (0.045, 0.17, 0.56), smoothstep(0.0, 0.42, up.ravel()))
    k = 1 / (up + F(0.22))
    cover = smoothstep(0.56, 0.78, fbm2(side * k * 1.5 + 1, k * 2.6, 6, 13)) * smoothstep(0.12, 0.3, up)
    return mix(rgb, (1.15, 1.15, 1.18), cover.ravel() * 0.8)


def _firs(w, h, seed):
    """Rows of firs, far and hazy to near and dark, painted back to front."""
    rng = np.random.default_rng(seed)
    layer = Image.new("RGBA", (w, h), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    for row in range(26):
        k = row / 25
        size = 18 + 130 * k**2.2
        foot = h * (0.80 + 0.27 * k**1.3)
        haze = (1 - k) ** 1.5 * 0.55
        for _ in range(int(190 - 150 * k)):
            x = rng.uniform(-0.02, 1.02) * w
            y = foot + rng.normal(0, 5 + 12 * k) + 26 * np.sin(x / w * 5 + 1) * (1 - 0.5 * k)
            tall = size * rng.uniform(0.7, 1.25)
            shade = rng.uniform(0.75, 1.2)
            tiers = 5 + int(k * 5)
            for i in range(tiers):
                top = y - tall * (1 - 0.9 * i / tiers)
                low = top + tall * 1.5 / tiers
                half = tall * 0.24 * (i + 1) / tiers * rng.uniform(0.85, 1.15)
                dark = np.array((20, 40, 30)) * shade * (1.2 - 0.45 * i / tiers)
                lit = np.array((50, 84, 48)) * shade * (1.2 - 0.35 * i / tiers)
                far = np.array((126, 152, 186))
                lean = rng.normal(0, 0.06) * half
                for side, c in ((1, dark), (-1, lit)):
                    c = c * (1 - haze) + far * haze
                    tip = (x + side * half + lean, low + rng.normal(0, 0.02) * tall)
                    draw.polygon([(x, top), tip, (x - side * half * 0.12, low - tall * 0.03)],
                                 fill=(*(int(v) for v in np.clip(c, 0, 255)), 255))
    return finish.resample_layer(layer, w // 2, h // 2)


def mountains(seed=3):
    w, h = 1280, 960
    horizon, focal = F(800), F(1900)
    # Column by column: the terrain profile along each line of sight, then
    # for every pixel the first sample that rises above it.
    dist = np.geomspace(4.0, 30, 3200).astype(F)
    side = ((np.arange(w, dtype=F) + 0.5) - w / 2) / focal
    z = np.repeat(dist[None, :], w, 0)
    x = side[:, None] * z
    ground = _height(x.ravel(), z.ravel()).reshape(w, -1)
    slope = np.maximum.accumulate((ground - EYE) / z, axis=1)
    want = (horizon - (np.arange(h, dtype=F) + 0.5)) / focal
    first = np.empty((h, w), np.int32)
    for c in range(w):
        first[:, c] = np.searchsorted(slope[c], want)
    rgb = _sky(w, h, horizon, focal)
    seen = np.flatnonzero((first < dist.size).ravel())
    cols = seen % w
    # Between two samples the terrain is taken as straight; whole samples
    # would leave a comb of little steps along every crest.
    hit = first.ravel()[seen]
    low = slope[cols, np.maximum(hit - 1, 0)]
    part = (want[seen // w] - low) / np.maximum(slope[cols, hit] - low, F(1e-7))
    t = dist[np.maximum(hit - 1, 0)]
    t = t + (dist[hit] - t) * np.clip(part, 0, 1)
    px, pz = side[cols] * t, t
    py = _height(px, pz)

    e = F(0.012)
    n = normalize(np.stack([py - _height(px + e, pz), np.full_like(py, e), py - _height(px, pz + e)]))
    sun = normalize(vec(*SUN))
    light = np.ones_like(py)
    for s in np.geomspace(0.05, 4.5, 22).astype(F):
        over = py + sun[1] * s - _height(px + sun[0] * s, pz + sun[2] * s, 6)
        light = np.minimum(light, np.clip(over / (0.06 * s) + 1, 0, 1))
    facing = np.clip((n * sun).sum(0), 0, 1) * light

    # Snow stays where it is not too steep and not too low.
    patch = fbm2(px * 6, pz * 6, 5, 55)
    snow = smoothstep(0.40, 0.58, n[1] + 0.25 * (patch - 0.5) + 0.10 * smoothstep(1.0, 2.6, py))
    snow = snow * smoothstep(0.55, 0.95, py + 0.3 * (patch - 0.5))
    strata = fbm2(px * 3 + py * 2, py * 26, 4, 60)
    rock = mix((0.10, 0.095, 0.10), (0.27, 0.25, 0.24), strata)
    alp = mix((0.06, 0.09, 0.05), (0.15, 0.17, 0.09), patch)
    albedo = mix(rock, alp, smoothstep(0.95, 0.5, py) * smoothstep(0.5, 0.75, n[1]))
    albedo = mix(albedo, (0.90, 0.92, 0.96), snow)
    shade = vec(0.24, 0.36, 0.62) * (0.55 + 0.45 * n[1])
    colour = albedo * (vec(1.75, 1.62, 1.42) * facing + shade)
    fog = 1 - np.exp(-((t * F(0.028)) ** 1.6))
    rgb[:, seen] = mix(colour, (0.46, 0.64, 0.90), fog * 0.75)
    img = finish.halve(finish.tone(rgb.T.reshape(h, w, 3), 0.62))
    img = finish.over(img, _firs(w, h, seed))
    return finish.photo(img, seed, grain=0.005, soft=0.4)
