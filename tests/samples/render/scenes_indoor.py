"""Indoors: a breakfast table, a staircase, a door at the end of a corridor."""

import numpy as np

from . import finish
from .noise import fbm2, fbm3, mix, smoothstep, value2
from .raymarch import (Camera, Part, Scene, blend, box, capsule, cylinder,
                       ellipsoid, length, torus_z, trace, turn_y, vec)

F = np.float32


def _planks(along, across, width, seed, light, dark):
    """Wood in boards of `width`; `along` runs with the grain."""
    board = np.floor(across / width)
    shift = value2(board * 3.3, board * 1.7, seed) * 20
    rings = fbm2(along * 1.1 + shift, across * 9 + shift, 4, seed + 1)
    grain = 0.5 + 0.5 * np.sin((across * 30 + rings * 22))
    fine = fbm2(along * 8 + shift, across * 160, 3, seed + 2)
    rgb = mix(dark, light, 0.40 * rings + 0.22 * grain + 0.38 * fine)
    rgb = rgb * (0.82 + 0.36 * value2(board * 5.1, board * 2.9, seed + 3))
    gap = np.abs(np.mod(across + width / 2, width) - width / 2) < 0.0035 + width * 0.006
    return rgb * np.where(gap, 0.3, 1)


# --- breakfast table --------------------------------------------------------


def _room(rd):
    """Surroundings that the glaze mirrors, and the blurred background."""
    az = np.arctan2(rd[0], rd[2])
    wall = mix((0.20, 0.155, 0.11), (0.46, 0.38, 0.29), smoothstep(-0.25, 0.55, rd[1]))
    wall = wall * (0.85 + 0.3 * fbm2(az * 2, rd[1] * 2, 3, 9))
    window = smoothstep(-1.75, -1.65, az) * smoothstep(-0.62, -0.80, az) * smoothstep(-0.02, 0.05, rd[1]) * smoothstep(0.75, 0.65, rd[1])
    bars = 1 - 0.8 * np.exp(-(((az + 1.2) / 0.03) ** 2))
    rgb = wall + vec(2.2, 2.3, 2.4) * window * bars
    # Lights and a plant far out of focus.
    for a, e, r, c in ((0.25, 0.16, 0.05, (0.9, 0.6, 0.25)), (0.42, 0.09, 0.06, (0.7, 0.5, 0.25)),
                       (-0.10, 0.10, 0.055, (0.25, 0.42, 0.15)), (-0.22, 0.02, 0.06, (0.16, 0.32, 0.10)),
                       (-0.03, -0.02, 0.05, (0.20, 0.36, 0.12))):
        d = np.hypot(az - a, rd[1] - e)
        rgb = rgb + vec(*c) * smoothstep(r, r * 0.7, d) * 0.35
    return rgb


def _apple_parts(c):
    def apple(p):
        q = p - vec(*c)
        rad = np.hypot(q[0], q[2])
        size = np.hypot(rad, q[1])
        # Radius by the angle from the stem: dimples at stem and blossom.
        a = np.arctan2(rad, q[1])
        r = 1 - 0.42 * np.exp(-((a / 0.40) ** 2)) - 0.22 * np.exp(-(((np.pi - a) / 0.45) ** 2)) + 0.05 * np.cos(a)
        # Five faint lobes towards the blossom, as apples have.
        lobes = 0.02 * np.cos(5 * np.arctan2(q[2], q[0])) * smoothstep(1.2, 2.6, a)
        return (size - F(0.037) * (r + lobes)) * F(0.65)

    def skin(p, n):
        q = p - vec(*c)
        a = np.arctan2(q[2], q[0])
        streak = 0.6 * fbm2(a * 7, q[1] * 14, 4, 3) + 0.4 * fbm3(q * 60, 3, 5)
        rgb = mix((0.33, 0.010, 0.012), (0.62, 0.10, 0.03), smoothstep(0.35, 0.75, streak))
        side = smoothstep(0.45, 0.85, fbm2(a * 0.8 + 2, q[1] * 9, 2, 4) + 8 * (q[1] - 0.012))
        rgb = mix(rgb, (0.62, 0.50, 0.10), side * 0.75)
        pale = value2(a * 30, q[1] * 480, 6) > 0.93
        return mix(rgb, (0.75, 0.55, 0.30), pale * 0.35)

    def stem(p):
        return capsule(p, (c[0], c[1] + 0.016, c[2]), (c[0] + 0.006, c[1] + 0.043, c[2]), 0.0014, 0.0019)

    bound = (c, 0.055)
    return [Part(apple, skin, gloss=0.75, shine=70, bound=bound), Part(stem, (0.11, 0.06, 0.03), bound=bound)]


def _banana_part(c, yaw):
    def local(p):
        return turn_y(p - vec(*c), yaw)

    def spine(q):
        """Angle on the arc, and offset from it."""
        # The arc lies nearly flat on the table, bulging away from the lens.
        u, v = q[0], q[2] + F(0.085)
        a = np.arctan2(u, v)
        lim = np.clip(a, -0.92, 0.92)
        return a, lim, np.stack([u - np.sin(lim) * F(0.105), q[1] - F(0.002), v - np.cos(lim) * F(0.105)])

    def banana(p):
        q = local(p)
        _, lim, off = spine(q)
        taper = 1 - 0.72 * smoothstep(0.5, 0.92, np.abs(lim)) - 0.08 * np.abs(lim)
        # Rounded pentagon in section.
        ang = np.arctan2(off[1], (off[0] * np.sin(lim) + off[2] * np.cos(lim)))
        r = F(0.0185) * taper * (1 + 0.035 * np.cos(5 * ang))
        stalk = capsule(q, (np.sin(0.92) * 0.105, 0.002, np.cos(0.92) * 0.105 - 0.085), (0.108, 0.010, -0.050), 0.0052, 0.0056)
        return blend(length(off) - r, stalk, 0.008) * F(0.8)

    def peel(p, n):
        q = local(p)
        a, _, _ = spine(q)
        k = fbm3(p * 90, 3, 2)
        rgb = mix((0.80, 0.52, 0.03), (0.86, 0.62, 0.07), k)
        rgb = mix(rgb, (0.42, 0.46, 0.06), smoothstep(0.62, 1.0, a) * 0.8)
        ends = np.maximum(smoothstep(-0.90, -0.99, a), smoothstep(0.104, 0.108, q[0]))
        spots = smoothstep(0.70, 0.78, fbm3(p * 260, 2, 8)) * 0.7
        return mix(rgb, (0.07, 0.04, 0.015), np.clip(ends + spots, 0, 1))

    return Part(banana, peel, gloss=0.25, shine=25, bound=(c, 0.13))


def breakfast(seed=8):
    w, h = 640, 480
    cup = (-0.045, 0.0, 0.0)

    def china(p):
        q = p - vec(*cup)
        r = np.hypot(q[0], q[2])
        # The wall leans outwards; the foot is rounded in.
        flare = F(0.036) + (q[1] - F(0.05)) * F(0.16) - smoothstep(0.03, 0.0, q[1]) * F(0.012)
        wall = np.maximum(np.abs(r - flare) - F(0.0022), np.maximum(q[1] - F(0.088), F(0.010) - q[1])) - F(0.0012)
        foot = cylinder(q, (0, 0.011, 0), 0.026, 0.005, 0.002)
        handle = torus_z(turn_y(q, 0.5) * vec(1, 0.85, 1), (0.045, 0.042, 0), 0.020, 0.0046)
        handle = np.maximum(handle, flare - r)
        saucer_h = F(0.004) + F(0.011) * smoothstep(0.035, 0.075, r)
        saucer = np.maximum(np.abs(q[1] - saucer_h) - F(0.0018), r - F(0.075)) - F(0.0010)
        return np.minimum(blend(np.minimum(wall, foot), handle, 0.006), saucer) * F(0.8)

    def glaze(p, n):
        q = p - vec(*cup)
        r = np.hypot(q[0], q[2])
        band = (np.abs(q[1] - 0.078) < 0.0022) & (r < 0.06)
        rim = (np.abs(r - 0.070) < 0.0014) & (q[1] < 0.03)
        return np.where(band | rim, vec(0.05, 0.13, 0.42), vec(0.80, 0.79, 0.76))

    def coffee(p):
        q = p - vec(*cup)
        r = np.hypot(q[0], q[2])
        return np.maximum(r - (F(0.036) + (q[1] - F(0.05)) * F(0.16)), np.abs(q[1] - F(0.063)) - F(0.012)) * F(0.9)

    def coffee_colour(p, n):
        r = np.hypot(p[0] - F(cup[0]), p[2] - F(cup[2]))
        return mix((0.035, 0.014, 0.006), (0.24, 0.12, 0.05), smoothstep(0.034, 0.0395, r))

    def top(p, t):
        return _planks(p[0], p[2] + 0.03, 0.115, 11, (0.46, 0.25, 0.11), (0.17, 0.075, 0.028))

    parts = [Part(china, glaze, gloss=0.9, shine=90, bound=((cup[0], 0.04, 0), 0.10)),
             Part(coffee, coffee_colour, gloss=0.8, shine=60, bound=((cup[0], 0.04, 0), 0.06)),
             _banana_part((0.035, 0.0175, -0.085), -0.25)]
    parts += _apple_parts((0.092, 0.031, 0.02))
    scene = Scene(parts, _room, (-0.75, 0.62, 0.10), sun=(1.75, 1.6, 1.35), ambient=(0.46, 0.43, 0.40),
                  bounce=(0.20, 0.12, 0.07), ground=top, ground_gloss=0.45, shadow_soft=7,
                  ao_scale=0.03, t_start=0.15, shadow_step=(0.002, 0.0018, 0.05),
                  shadow_reach=0.5, shadow_steps=45, tmax=4, eps=0.0003, step_scale=0.75, steps=140)
    cam = Camera((0.03, 0.225, -0.46), (0.022, 0.030, 0.0), 30, w, h)
    img, depth = trace(scene, cam)
    img = finish.tone(img, 0.66)
    # Past the table edge everything is far out of focus.
    yy = np.arange(h, dtype=F)[:, None, None]
    far = finish.blur(img, 4)
    body = finish.blur(np.isfinite(depth).astype(F)[..., None], 0.7)
    k = smoothstep(h * 0.30, h * 0.10, yy) * (1 - body)
    img = img * (1 - k) + far * k
    return finish.photo(img, seed, grain=0.005, soft=0.4)


# --- staircase --------------------------------------------------------------

_RISE, _RUN, _STEPS = 0.175, 0.29, 13


def staircase(seed=9):
    w, h = 480, 640

    def step_index(z):
        return np.clip(np.floor(z / F(_RUN)), -1, _STEPS - 1)

    def risers(p):
        k = step_index(p[2])
        d = None
        # The step underfoot and its upper neighbour are the only near ones.
        for j in (0, 1):
            i = np.clip(k + j, 0, _STEPS - 1)
            q = np.stack([p[0], p[1] - (i + 1) * F(_RISE) / 2 + F(0.02), p[2] - (i * F(_RUN) + F(2.0))])
            half = np.stack([np.full_like(i, 1.0), (i + 1) * F(_RISE) / 2 - F(0.02), np.full_like(i, 2.0)])
            e = np.abs(q) - half
            b = length(np.maximum(e, 0)) + np.minimum(e.max(0), 0)
            d = b if d is None else np.minimum(d, b)
        return d

    def treads(p):
        k = step_index(p[2])
        d = None
        for j in (-1, 0, 1):
            i = np.clip(k + j, 0, _STEPS - 1)
            q = np.stack([p[0], p[1] - (i + 1) * F(_RISE) + F(0.02), p[2] - (i * F(_RUN) + F(_RUN / 2) - F(0.015))])
            b = box(q, (0, 0, 0), (1.0, 0.02, _RUN / 2 + 0.02), 0.012)
            d = b if d is None else np.minimum(d, b)
        landing = box(p, (0, _STEPS * _RISE - 0.02, _STEPS * _RUN + 1.0), (1.6, 0.02, 1.05))
        return np.minimum(d, landing)

    def wood(p, n):
        # Boards run across the stairs.
        return _planks(p[0], p[2] * 0.9 + p[1] * 0.2, 0.30, 31, (0.50, 0.27, 0.12), (0.22, 0.10, 0.04))

    def walls(p):
        d = F(1.02) + p[0]
        back = F(_STEPS * _RUN + 1.9) - p[2]
        right = F(2.3) - p[0]
        # Solid string under the banister on the open side.
        slope = _RISE / _RUN
        line = (p[1] - (p[2] + F(0.05)) * F(slope) - F(0.16)) / F(np.hypot(1, slope))
        string = np.maximum(np.maximum(np.abs(p[0] - F(1.03)) - F(0.035), line), np.maximum(-p[2] - F(0.1), p[2] - F(_STEPS * _RUN)))
        return np.minimum(np.minimum(d, back), np.minimum(right, string))

    def plaster(p, n):
        rgb = mix((0.60, 0.57, 0.50), (0.70, 0.67, 0.60), fbm3(p * 2.5, 4, 3))
        string = (np.abs(p[0] - 1.03) < 0.1) & (p[2] < _STEPS * _RUN + 0.1)
        return np.where(string, vec(0.78, 0.77, 0.74), rgb)

    def rail(p):
        slope = _RISE / _RUN
        a, b = (1.03, 0.98, 0.05), (1.03, 0.98 + slope * (_STEPS * _RUN - 0.1), _STEPS * _RUN - 0.05)
        d = capsule(p, a, b, 0.036)
        left = capsule(p, (-0.93, 0.98, 0.05), (-0.93, b[1], b[2]), 0.024)
        for at in ((1.03, 0.55, -0.02), (1.03, 0.5 + _STEPS * _RISE, _STEPS * _RUN)):
            d = np.minimum(d, box(p, at, (0.055, 0.58, 0.055), 0.01))
            d = np.minimum(d, ellipsoid(p, (at[0], at[1] + 0.63, at[2]), (0.065, 0.065, 0.065)))
        return np.minimum(d, left)

    def balusters(p):
        zc = np.clip(np.round((p[2] - F(0.145)) / F(0.145)), 0, 24) * F(0.145) + F(0.145)
        foot = zc * F(_RISE / _RUN)
        r = np.hypot(p[0] - F(1.03), p[2] - zc)
        turned = F(0.013) + F(0.006) * np.sin((p[1] - foot) * F(18))
        d = np.maximum(r - turned, np.maximum(foot + F(0.1) - p[1], p[1] - foot - F(0.96)))
        return d * F(0.8)

    def floor(p, t):
        return _planks(p[2], p[0], 0.16, 41, (0.40, 0.24, 0.12), (0.20, 0.10, 0.045))

    def picture(p):
        return box(p, (-1.0, 2.75, 2.5), (0.03, 0.30, 0.24), 0.005)

    def picture_colour(p, n):
        y, z = p[1] - 2.75, p[2] - 2.5
        inner = (np.abs(y) < 0.25) & (np.abs(z) < 0.19)
        art = mix((0.10, 0.22, 0.34), (0.65, 0.50, 0.25), smoothstep(-0.15, 0.2, y + 0.3 * (fbm2(z * 6, y * 6, 4, 6) - 0.5)))
        return np.where(inner, art, vec(0.05, 0.03, 0.02))

    parts = [Part(risers, (0.72, 0.71, 0.67)), Part(treads, wood, gloss=0.35), Part(walls, plaster),
             Part(rail, (0.26, 0.12, 0.05), gloss=0.5, shine=40), Part(balusters, (0.75, 0.74, 0.71)),
             Part(picture, picture_colour, gloss=0.2)]
    scene = Scene(parts, lambda rd: vec(0.85, 0.87, 0.9) * np.ones_like(rd[:1]), (0.10, 0.72, -0.60),
                  sun=(1.15, 1.02, 0.84), ambient=(0.52, 0.54, 0.58), bounce=(0.30, 0.24, 0.18),
                  ground=floor, ground_gloss=0.25, ao_scale=0.30, shadow_soft=6, tmax=14, steps=150, step_scale=0.7)
    cam = Camera((0.12, 1.45, -2.7), (0.04, 1.40, 1.5), 56, w, h)
    img, _ = trace(scene, cam, 0.05)
    return finish.photo(finish.tone(img, 0.72), seed, grain=0.005, soft=0.4)


# --- corridor with a door ---------------------------------------------------


def door(width=480):
    w, h = width, width * 4 // 3
    end, half, top = 5.2, 1.15, 2.55

    def shell(p):
        d = np.minimum(F(half) - np.abs(p[0]), F(top) - p[1])
        wall = F(end) - p[2]
        hole = np.maximum(np.abs(p[0]) - F(0.52), p[1] - F(2.12))
        return np.minimum(d, np.maximum(wall, -hole))

    def paint(p, n):
        ceiling = p[1] > top - 0.01
        low = p[1] < 0.95
        rgb = np.where(low, vec(0.30, 0.40, 0.40), vec(0.66, 0.63, 0.55))
        return np.where(ceiling, vec(0.78, 0.78, 0.76), rgb) * np.ones_like(p)

    def trim(p):
        q = np.stack([np.abs(p[0]), p[1], p[2]])
        frame = np.minimum(box(q, (0.575, 1.09, end), (0.065, 1.09, 0.035), 0.008),
                           box(q, (0, 2.185, end), (0.64, 0.065, 0.035), 0.008))
        skirt = box(q, (half, 0.07, 2.0), (0.02, 0.07, end), 0.006)
        dado = box(q, (half, 0.95, 2.0), (0.022, 0.03, end), 0.008)
        back = np.maximum(box(q, (0, 0.07, end), (half, 0.07, 0.02)), F(0.6) - q[0])
        back = np.minimum(back, np.maximum(box(q, (0, 0.95, end), (half, 0.03, 0.022)), F(0.6) - q[0]))
        return np.minimum(np.minimum(frame, skirt), np.minimum(dado, back))

    def leaf(p):
        d = box(p, (0, 1.05, end + 0.06), (0.515, 1.055, 0.03), 0.003)
        # Six sunk panels with a raised field in each.
        q = np.stack([np.abs(p[0]) - F(0.235), p[1], p[2]])
        for y, tall in ((0.42, 0.26), (1.09, 0.32), (1.76, 0.24)):
            sunk = box(q, (0, y, end + 0.03), (0.165, tall, 0.016))
            field = box(q, (0, y, end + 0.045), (0.125, tall - 0.04, 0.020), 0.006)
            d = np.minimum(np.maximum(d, -sunk), field)
        return d

    def oak(p, n):
        x, y = p[0], p[1]
        grain = fbm2(x * 16, y * 1.3, 4, 51)
        fine = fbm2(x * 120, y * 5, 3, 52)
        return mix((0.17, 0.062, 0.020), (0.43, 0.20, 0.075), 0.55 * grain + 0.45 * fine)

    def brass(p):
        plate = box(p, (0.425, 1.02, end + 0.028), (0.026, 0.10, 0.006), 0.004)
        stalk = capsule(p, (0.425, 1.05, end + 0.02), (0.425, 1.05, end - 0.045), 0.011)
        lever = capsule(p, (0.425, 1.05, end - 0.045), (0.305, 1.045, end - 0.045), 0.011)
        return np.minimum(plate, blend(stalk, lever, 0.01))

    def lamp(p):
        return np.minimum(box(p, (0, top, 1.9), (0.45, 0.03, 0.16), 0.01), box(p, (0, top, 4.0), (0.45, 0.03, 0.16), 0.01))

    def mat(p):
        return box(p, (0, 0.006, end - 0.50), (0.46, 0.012, 0.28), 0.006)

    def floor(p, t):
        cell = np.mod(np.floor(p[0] / 0.46 + 0.5) + np.floor(p[2] / 0.46), 2)
        rgb = np.where(cell > 0.5, vec(0.46, 0.42, 0.36), vec(0.24, 0.20, 0.17))
        return rgb * (0.85 + 0.3 * fbm2(p[0] * 5, p[2] * 5, 4, 53))

    parts = [Part(shell, paint), Part(trim, (0.74, 0.73, 0.70), gloss=0.2), Part(leaf, oak, gloss=0.45, shine=40),
             Part(brass, (0.62, 0.42, 0.12), gloss=1.0, shine=50), Part(lamp, (1, 1, 0.95), glow=1.6),
             Part(mat, (0.10, 0.045, 0.03))]
    scene = Scene(parts, lambda rd: vec(0.55, 0.52, 0.46) * np.ones_like(rd[:1]), (0, 1, 0), sun=(0, 0, 0),
                  ambient=(0.26, 0.26, 0.26), bounce=(0.24, 0.22, 0.19), ground=floor, ground_gloss=0.4,
                  lamps=(((0, 2.3, 1.9), (1.5, 1.42, 1.25)), ((0, 2.2, 3.7), (1.7, 1.6, 1.4))),
                  ao_scale=0.22, tmax=12, steps=130)
    cam = Camera((-0.10, 1.40, 0.9), (0.0, 1.12, end), 44, w, h)
    img, _ = trace(scene, cam, 0.04)
    return finish.tone(img, 0.80)
