"""On the grass: a football and a brown dog."""

import numpy as np

from . import finish, fur, grass
from .noise import fbm2, fbm3, mix, smoothstep
from .raymarch import (Camera, Part, Scene, blend, capsule, ellipsoid, length,
                       normalize, sphere, trace, turn_y, turn_z, vec)

F = np.float32


def _meadow_sky(rd):
    """Bright sky over an out-of-focus row of trees."""
    az = rd[0] / np.maximum(np.abs(rd[2]), F(0.1))
    sky = mix((0.80, 0.88, 0.95), (0.25, 0.48, 0.85), smoothstep(0.0, 0.6, rd[1]))
    edge = 0.085 + 0.10 * fbm2(az * 4 + 7, az * 0 + 2, 4, 3)
    leaf = fbm2(az * 14, rd[1] * 22, 4, 8)
    trees = mix((0.03, 0.06, 0.02), (0.19, 0.27, 0.09), leaf)
    rgb = mix(sky, trees, smoothstep(edge + 0.035, edge - 0.01, rd[1] + 0.05 * (leaf - 0.5)))
    return np.where(rd[1] < 0.0, vec(0.10, 0.16, 0.05), rgb)


def _turf(p, t):
    k = fbm2(p[0] * 3, p[2] * 3, 5, 4)
    fine = fbm2(p[0] * 30, p[2] * 30, 3, 6)
    return mix((0.055, 0.115, 0.022), (0.20, 0.27, 0.07), 0.6 * k + 0.4 * fine)


def _football_faces():
    """Unit normals of the 12 pentagons and 20 hexagons of the ball."""
    g = (1 + 5**0.5) / 2
    pent = []
    for s in (-1, 1):
        for t in (-g, g):
            pent += [(0, s, t), (s, t, 0), (t, 0, s)]
    pent = np.array(pent)
    hexa = []
    n = len(pent)
    for i in range(n):
        for j in range(i):
            for k in range(j):
                tri = pent[[i, j, k]]
                if all(abs(np.linalg.norm(tri[a] - tri[b]) - 2) < 1e-6 for a, b in ((0, 1), (1, 2), (0, 2))):
                    hexa.append(tri.sum(0))
    both = np.concatenate([pent, np.array(hexa)])
    return (both / np.linalg.norm(both, axis=1, keepdims=True)).astype(F)


def football(seed=4):
    w, h = 544, 408
    r = 0.11
    centre = (0.04, r * 0.93, 0)
    faces = _football_faces()
    # Turned so that one black pentagon looks almost into the lens.
    a, b = 0.5, -0.35
    spin = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    faces = faces @ spin.T.astype(F)
    # Distance of each face plane from the centre of a truncated icosahedron.
    plane = np.array([2.32744] * 12 + [2.26728] * 20, F)

    def nearest(p):
        d = normalize(p - vec(*centre))
        k = (faces @ d) / plane[:, None]
        order = np.argpartition(-k, 1, axis=0)[:2]
        top = np.take_along_axis(k, order, 0)
        return order[0], (top[0] - top[1]) * plane.mean()

    def ball(p):
        d = length(p - vec(*centre)) - F(r)
        near = np.flatnonzero(np.abs(d) < 0.004)
        if near.size:
            _, gap = nearest(p[:, near])
            d[near] += F(0.0022) * np.exp(-((gap / 0.018) ** 2))
        return d

    def leather(p, n):
        face, gap = nearest(p)
        rgb = np.where(face < 12, vec(0.018, 0.018, 0.02), vec(0.86, 0.86, 0.84))
        rgb = rgb * (0.45 + 0.55 * smoothstep(0.004, 0.02, gap))
        dirt = smoothstep(0.5, 0.75, fbm3(p * 26, 4, 3)) * smoothstep(0.16, 0.02, p[1])
        return mix(rgb, (0.20, 0.16, 0.07), dirt * 0.45)

    scene = Scene([Part(ball, leather, gloss=0.5, shine=60)], _meadow_sky, (-0.5, 0.75, -0.45),
                  sun=(1.9, 1.75, 1.5), ambient=(0.34, 0.42, 0.52), bounce=(0.10, 0.15, 0.05),
                  ground=_turf, ao_scale=0.06, t_start=0.2, fog=((0.26, 0.36, 0.14), 0.02))
    cam = Camera((0, 0.40, -1.05), (0, 0.13, 0), 33, w, h)
    img, depth = trace(scene, cam)
    img = finish.tone(img, 0.62)
    layers = grass.blades(scene, cam, 70000, 0.55, 9.0, 0.040, 1.0, seed)
    img = grass.compose(img, depth, layers)
    img = grass.focus(img, h * 0.40, h * 0.82, 3.0)
    return finish.photo(img, seed, grain=0.004, soft=0.45)


_HEAD, _HEAD_YAW = (-0.43, 0.735, -0.045), 0.45


def _coat_flow(p):
    """Hair runs from the nose to the tail and down the legs."""
    out = np.repeat(vec(1.0, -0.45, 0.0), p.shape[1], 1)
    out = mix(out, (0.15, -1.0, 0.0), smoothstep(0.40, 0.28, p[1]))
    out = mix(out, (0.25, -1.0, 0.0), smoothstep(-0.22, -0.34, p[0]) * smoothstep(0.66, 0.60, p[1]))
    out = mix(out, (0.7, 0.75, 0.0), smoothstep(0.36, 0.42, p[0]) * (p[1] > 0.5))
    head = smoothstep(0.21, 0.15, length(p - vec(*_HEAD)))
    back = turn_y(vec(1.0, -0.25, 0.0), _HEAD_YAW)
    return mix(out, back[:, 0], head)


def _coat_length(p):
    near_head = smoothstep(0.24, 0.12, length(p - vec(*_HEAD)))
    feet = smoothstep(0.30, 0.10, p[1])
    tail = smoothstep(0.36, 0.45, p[0])
    return F(0.026) * (1 - 0.55 * near_head - 0.35 * feet + 0.25 * tail)


def _dog_parts():
    head_at, head_yaw = _HEAD, _HEAD_YAW

    def in_head(p):
        """Head space: the snout points along -x."""
        return turn_y(p - vec(*head_at), -head_yaw)

    def leg(p, top, knee, foot, r):
        d = blend(capsule(p, top, knee, r[0], r[1]), capsule(p, knee, foot, r[1], r[2]), 0.03)
        paw = ellipsoid(p, (foot[0] - 0.022, 0.026, foot[2]), (0.052, 0.03, 0.038))
        return blend(d, paw, 0.03)

    def coat_shape(p):
        d = blend(ellipsoid(p, (-0.19, 0.445, 0), (0.19, 0.16, 0.125)),
                  ellipsoid(p, (0.20, 0.47, 0), (0.18, 0.125, 0.112)), 0.16)
        d = blend(d, capsule(p, (-0.15, 0.475, 0), (0.2, 0.485, 0), 0.115, 0.105), 0.06)
        d = blend(d, capsule(p, (-0.26, 0.53, 0), (-0.385, 0.68, -0.02), 0.108, 0.078), 0.08)
        for z, shift in ((-0.078, 0.0), (0.078, -0.07)):
            d = blend(d, leg(p, (-0.21 + shift / 2, 0.40, z), (-0.225 + shift, 0.22, z),
                             (-0.22 + shift, 0.045, z), (0.062, 0.040, 0.031)), 0.05)
        for z, shift in ((-0.078, 0.0), (0.078, 0.09)):
            thigh = ellipsoid(p, (0.265 + shift / 2, 0.39, z * 0.9), (0.095, 0.135, 0.058))
            shin = leg(p, (0.255 + shift, 0.30, z), (0.35 + shift, 0.195, z), (0.325 + shift, 0.045, z), (0.06, 0.034, 0.03))
            d = blend(d, blend(thigh, shin, 0.06), 0.05)
        tail = blend(capsule(p, (0.35, 0.54, 0), (0.47, 0.61, 0.0), 0.03, 0.022),
                     capsule(p, (0.47, 0.61, 0.0), (0.53, 0.73, -0.01), 0.022, 0.013), 0.03)
        d = blend(d, tail, 0.05)
        q = in_head(p)
        skull = ellipsoid(q, (0, 0.005, 0), (0.105, 0.088, 0.086))
        snout = blend(capsule(q, (-0.07, -0.022, 0), (-0.165, -0.034, 0), 0.055, 0.040),
                      ellipsoid(q, (-0.10, -0.048, 0), (0.085, 0.033, 0.046)), 0.03)
        skull = blend(skull, snout, 0.045)
        jaw = capsule(q, (-0.03, -0.075, 0), (-0.135, -0.103, 0), 0.036, 0.022)
        return blend(d, np.minimum(skull, jaw), 0.03)

    def coat(p):
        d = coat_shape(p)
        near = np.flatnonzero(np.abs(d) < 0.03)
        if near.size:
            q = p[:, near]
            # Locks lie along the body, so the noise is stretched in x.
            d[near] += F(0.0022) * (fbm3(q * vec(90, 190, 190), 2, 7) - F(0.5))
        return d

    def coat_colour(p, n):
        lock = fbm3(p * vec(70, 150, 150), 3, 11)
        broad = fbm3(p * 9, 3, 13)
        rgb = mix((0.20, 0.085, 0.026), (0.50, 0.255, 0.095), 0.35 * broad + 0.65 * lock)
        pale = smoothstep(0.2, -0.75, n[1]) * 0.35 + smoothstep(0.11, 0.03, p[1]) * 0.5
        rgb = mix(rgb, (0.62, 0.42, 0.24), np.clip(pale, 0, 0.7))
        q = in_head(p)
        snout = smoothstep(-0.07, -0.15, q[0]) * (length(q) < 0.3)
        rgb = mix(rgb, (0.60, 0.40, 0.22), snout * 0.55)
        # Dark rim of the lips and round the eyes.
        lips = np.exp(-(((q[1] + 0.072 + 0.25 * (q[0] + 0.1)) / 0.008) ** 2)) * (q[0] < -0.04) * (length(q) < 0.25)
        for s in (-1, 1):
            lips = np.maximum(lips, smoothstep(0.026, 0.016, length(q - vec(-0.082, 0.024, 0.046 * s))))
        return mix(rgb, (0.03, 0.018, 0.012), np.clip(lips, 0, 1) * 0.85)

    def ears(p):
        q = in_head(p)
        d = []
        for s in (-1, 1):
            e = q * vec(1, 1, s)
            flap = ellipsoid(turn_z(e - vec(0.022, -0.022, 0.088), 0.25), (0, 0, 0), (0.048, 0.088, 0.017))
            fold = ellipsoid(e, (0.018, 0.052, 0.068), (0.042, 0.024, 0.03))
            d.append(blend(flap, fold, 0.03))
        return np.minimum(*d) + F(0.004) * (fbm3(p * 60, 2, 3) - F(0.5))

    def ear_colour(p, n):
        return mix((0.10, 0.04, 0.014), (0.24, 0.11, 0.04), fbm3(p * 110, 3, 5))

    def dark(p):
        q = in_head(p)
        d = ellipsoid(q, (-0.203, -0.016, 0), (0.019, 0.019, 0.025))
        for s in (-1, 1):
            d = np.minimum(d, sphere(q, (-0.083, 0.024, 0.045 * s), 0.0155))
        return d

    def tongue(p):
        q = in_head(p)
        return blend(ellipsoid(q, (-0.135, -0.083, 0), (0.05, 0.010, 0.021)),
                     ellipsoid(q, (-0.178, -0.108, 0), (0.012, 0.034, 0.019)), 0.02)

    a, b = np.array((-0.26, 0.53, 0)), np.array((-0.385, 0.68, -0.02))
    axis = (b - a) / np.linalg.norm(b - a)

    def collar(p):
        q = p - vec(*a)
        along = (q * vec(*axis)).sum(0)
        radial = length(q - vec(*axis) * along)
        return np.maximum(np.abs(radial - F(0.096)) - F(0.008), np.abs(along - F(0.105)) - F(0.014))

    body = ((-0.02, 0.42, 0), 0.78)
    face = (head_at, 0.26)
    return [Part(coat, coat_colour, gloss=0.10, shine=18, bound=body),
            Part(ears, ear_colour, gloss=0.05, bound=face),
            Part(dark, (0.012, 0.010, 0.010), gloss=0.9, shine=70, bound=face),
            Part(tongue, (0.75, 0.22, 0.22), gloss=0.3, bound=face),
            Part(collar, (0.55, 0.03, 0.03), gloss=0.2, bound=((-0.32, 0.6, 0), 0.2))]


def dog(seed=5):
    w, h = 544, 408
    scene = Scene(_dog_parts(), _meadow_sky, (-0.55, 0.75, -0.55),
                  sun=(1.9, 1.75, 1.5), ambient=(0.36, 0.42, 0.50), bounce=(0.14, 0.17, 0.07),
                  ground=_turf, ao_scale=0.10, t_start=0.6, tmax=30, step_scale=0.8,
                  fog=((0.26, 0.36, 0.14), 0.012))
    cam = Camera((-1.15, 0.66, -1.75), (-0.03, 0.415, 0), 31, w, h)
    img, depth = trace(scene, cam)
    img = finish.tone(img, 0.66)
    coat = fur.comb(img, scene, cam, depth, (0, 1), _coat_flow, _coat_length, 55000, seed)
    far, near = grass.blades(scene, cam, 60000, 1.1, 14.0, 0.065, 2.07, seed)
    # Only the meadow goes out of focus, the dog stays sharp.
    body = finish.blur(np.isfinite(depth).astype(F)[..., None], 0.6)
    meadow = grass.focus(finish.over(img, far), h * 0.60, h, 3.0)
    img = finish.over(meadow * (1 - body) + img * body, coat)
    img = finish.over(img, near)
    img = grass.focus(img, 0, h * 0.88, 3.0)
    return finish.photo(img, seed, grain=0.004, soft=0.4)
