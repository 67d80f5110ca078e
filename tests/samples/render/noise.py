"""Seeded lattice noise on numpy arrays.

Everything that looks irregular in the pictures (clouds, waves, rock, bark,
fur, asphalt) is made of these few functions. The lattices are tables filled
once from a fixed seed, so two runs give the same picture.
"""

import numpy as np

F = np.float32

_SIZE2 = 256
_SIZE3 = 64
_rng = np.random.default_rng(20240607)
_TABLE2 = _rng.random((_SIZE2 * _SIZE2,), dtype=F)
_TABLE3 = _rng.random((_SIZE3**3,), dtype=F)


def _split(x):
    """Integer lattice cell and the eased position inside it."""
    cell = np.floor(x)
    f = (x - cell).astype(F)
    # Quintic easing: second derivative is continuous, so normals taken from
    # the noise by finite differences show no lattice lines.
    return cell.astype(np.int32), f * f * f * (f * (f * 6 - 15) + 10)


def value2(x, y, seed=0):
    """Value noise in 0..1."""
    xi, u = _split(x)
    yi, v = _split(y)
    # The shift by seed gives unrelated fields from one table.
    xi = xi + seed * 37
    yi = yi + seed * 101
    x0, x1 = xi & 255, (xi + 1) & 255
    y0, y1 = (yi & 255) << 8, ((yi + 1) & 255) << 8
    a, b = _TABLE2[x0 | y0], _TABLE2[x1 | y0]
    c, d = _TABLE2[x0 | y1], _TABLE2[x1 | y1]
    top = a + (b - a) * u
    return top + ((c + (d - c) * u) - top) * v


def value3(p, seed=0):
    """Value noise in 0..1 at points p of shape (3, n)."""
    xi, u = _split(p[0])
    yi, v = _split(p[1])
    zi, w = _split(p[2])
    xi, yi, zi = xi + seed * 17, yi + seed * 29, zi + seed * 43
    x0, x1 = xi & 63, (xi + 1) & 63
    y0, y1 = (yi & 63) << 6, ((yi + 1) & 63) << 6

    def layer(z):
        a, b = _TABLE3[x0 | y0 | z], _TABLE3[x1 | y0 | z]
        c, d = _TABLE3[x0 | y1 | z], _TABLE3[x1 | y1 | z]
        top = a + (b - a) * u
        return top + ((c + (d - c) * u) - top) * v

    near = layer((zi & 63) << 12)
    return near + (layer(((zi + 1) & 63) << 12) - near) * w


# A rotation between octaves hides the axis-aligned look of lattice noise.
_COS, _SIN = F(0.8), F(0.6)


def fbm2(x, y, octaves=5, seed=0, gain=0.5):
    """Fractal sum of value2, normalised to about 0..1."""
    total, amp, norm = F(0), F(1), F(0)
    for i in range(octaves):
        total = total + amp * value2(x, y, seed + i)
        norm += amp
        amp *= F(gain)
        x, y = (x * _COS - y * _SIN) * F(2.03), (x * _SIN + y * _COS) * F(2.03)
    return total / norm


def ridged2(x, y, octaves=8, seed=0, gain=0.5):
    """Ridged fractal in about 0..1: sharp crests, as on mountains."""
    total, amp, norm, weight = F(0), F(1), F(0), F(1)
    for i in range(octaves):
        n = F(1) - np.abs(value2(x, y, seed + i) * 2 - 1)
        n = n * n
        # Detail only where the coarser octave is already high, which leaves
        # valleys smooth and makes the crests craggy.
        total = total + amp * n * weight
        weight = np.clip(n * F(1.6), 0, 1)
        norm += amp
        amp *= F(gain)
        x, y = (x * _COS - y * _SIN) * F(2.03), (x * _SIN + y * _COS) * F(2.03)
    return total / norm


def fbm3(p, octaves=4, seed=0):
    """Fractal sum of value3, normalised to about 0..1."""
    total, amp, norm = F(0), F(1), F(0)
    for i in range(octaves):
        total = total + amp * value3(p, seed + i)
        norm += amp
        amp *= F(0.5)
        p = p * F(2.03) + F(7.3)
    return total / norm


def smoothstep(a, b, x):
    """0 below a, 1 above b, smooth between."""
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, t):
    """Linear blend of two colours (or arrays); t is per point."""
    a = np.asarray(a, F)
    b = np.asarray(b, F)
    if a.ndim == 1 and a.shape[0] == 3:
        a = a[:, None]
    if b.ndim == 1 and b.shape[0] == 3:
        b = b[:, None]
    return a + (b - a) * t
