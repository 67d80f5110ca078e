"""Skies shared by the open-air scenes."""

import numpy as np

from .noise import fbm2, mix, smoothstep
from .raymarch import vec

F = np.float32


def clouds(rd, scale, seed, low, high):
    """Cover 0..1 of a flat cloud layer seen in perspective."""
    k = 1 / (np.maximum(rd[1], 0) + F(0.10))
    x, z = rd[0] * k * scale, rd[2] * k * scale
    warp = fbm2(x * 0.7 + 3, z * 0.7, 3, seed + 9)
    return smoothstep(low, high, fbm2(x + warp * 1.2, z * 1.3 + warp, 6, seed))


def day_sky(rd):
    h = np.clip(rd[1], 0, 1)
    rgb = mix((0.62, 0.78, 0.95), (0.07, 0.24, 0.66), smoothstep(0.0, 0.45, h))
    cover = clouds(rd, 0.75, 14, 0.54, 0.76) * smoothstep(0.0, 0.12, h)
    shade = clouds(rd + vec(0.05, -0.02, 0), 0.75, 14, 0.50, 0.74)
    cloud = mix((1.15, 1.13, 1.10), (0.74, 0.78, 0.85), shade * cover * 0.8)
    return mix(rgb, cloud, cover)
