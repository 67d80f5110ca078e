"""Streets: a country road with a car on it, and a zebra crossing."""

import numpy as np

from . import finish
from .noise import fbm2, fbm3, mix, smoothstep, value2
from .raymarch import (Camera, Part, Scene, blend, box, capsule, cylinder,
                       length, sphere, trace, vec)
from .skies import day_sky

F = np.float32


def _asphalt(x, z):
    k = 0.5 * fbm2(x * 1.1, z * 0.4, 4, 21) + 0.5 * value2(x * 30, z * 30, 22)
    return mix((0.055, 0.056, 0.060), (0.135, 0.135, 0.138), k)


def _worn(x, z, seed):
    """Paint with the chips and cracks that traffic leaves."""
    return 0.80 + 0.2 * smoothstep(0.32, 0.5, fbm2(x * 9, z * 9, 4, seed))


def _country_ground(p, t):
    x, z = p[0], p[2]
    road = _asphalt(x, z)
    tracks = np.exp(-((np.abs(np.abs(x) - 1.75) - 0.8) / 0.3) ** 2)
    road = road * (1 - 0.2 * tracks)
    dash = (np.abs(x) < 0.075) & (np.mod(z, 9.0) < 4.2)
    edge = np.abs(np.abs(x) - 3.3) < 0.075
    road = mix(road, (0.75, 0.75, 0.72), (dash | edge) * _worn(x, z, 30))
    grass = mix((0.07, 0.14, 0.025), (0.24, 0.30, 0.08), 0.5 * fbm2(x * 0.7, z * 0.35, 5, 25) + 0.5 * fbm2(x * 12, z * 5, 3, 26))
    gravel = mix((0.20, 0.18, 0.14), (0.40, 0.37, 0.31), value2(x * 14, z * 14, 27))
    edge_noise = 0.35 * (fbm2(x * 2, z * 2, 4, 28) - 0.5)
    rgb = mix(road, gravel, smoothstep(3.62, 3.68, np.abs(x) + 0.2 * edge_noise))
    return mix(rgb, grass, smoothstep(4.1, 4.35, np.abs(x) + edge_noise))


def _country_sky(rd):
    rgb = day_sky(rd)
    az = rd[0] / np.maximum(np.abs(rd[2]), F(0.1))
    for height, seed, colour in ((0.085, 3, (0.40, 0.52, 0.66)), (0.055, 6, (0.24, 0.37, 0.36))):
        edge = height * (0.25 + 1.1 * fbm2(az * 2.2 + seed, az * 0 + seed, 5, seed))
        rgb = mix(rgb, colour, smoothstep(0.002, -0.002, rd[1] - edge))
    return rgb


def _tree_parts(places):
    rng = np.random.default_rng(77)
    parts = []
    for x, z in places:
        s = rng.uniform(0.85, 1.3)
        tall = 5.6 * s
        blobs = [((x + rng.normal(0, 0.7) * s, tall * 0.62 + rng.normal(0, 0.65) * s, z + rng.normal(0, 0.6) * s),
                  rng.uniform(1.1, 1.6) * s) for _ in range(6)]
        tint = rng.uniform(0.75, 1.2)

        def crown(p, blobs=blobs):
            d = sphere(p, *blobs[0])
            for c, r in blobs[1:]:
                d = blend(d, sphere(p, c, r), 0.5)
            return (d + (fbm3(p * 1.7, 4, 9) - F(0.5)) * F(1.5)) * F(0.7)

        def leaves(p, n, tint=tint):
            k = fbm3(p * 4.5, 3, 2)
            return mix((0.025, 0.06, 0.012), (0.16, 0.24, 0.05), k) * tint

        parts.append(Part(crown, leaves, bound=((x, tall * 0.62, z), 3.5 * s)))
        parts.append(Part(lambda p, x=x, z=z, h=tall: capsule(p, (x, 0, z), (x, h * 0.6, z), 0.24, 0.12),
                          (0.10, 0.07, 0.045), bound=((x, tall * 0.3, z), tall * 0.38)))
    return parts


def _car_parts(cx, cz):
    """A blue hatchback seen from behind; its rear is at z = cz."""

    def local(p):
        return p - vec(cx, 0, cz)

    def body(p):
        q = local(p)
        low = box(q, (0, 0.62, 2.05), (0.90, 0.36, 2.05), 0.16)
        # The cabin narrows towards the roof.
        k = 1 + np.clip(q[1] - 0.9, 0, 0.7) * F(0.42)
        c = np.stack([q[0] * k, q[1], (q[2] - F(1.85)) * (1 + np.clip(q[1] - 0.9, 0, 0.7) * F(0.5))])
        cabin = box(c, (0, 1.1, 0), (0.86, 0.48, 1.70), 0.14) * F(0.75)
        d = blend(low, cabin, 0.08)
        for z in (0.78, 3.3):
            arch = cylinder(np.stack([q[1], q[0], q[2]]), (0.33, 0, z), 0.40, 2.0)
            d = np.maximum(d, -np.maximum(arch, F(0.62) - np.abs(q[0])))
        return d

    def paint(p, n):
        q = local(p)
        x, y = np.abs(q[0]), q[1]
        rgb = np.repeat(vec(0.030, 0.11, 0.36), q.shape[1], 1)
        rear = n[2] < -0.35
        glass = rear & (y > 1.06) & (y < 1.46) & (x < 0.72 - 0.25 * (y - 1.06))
        side = (np.abs(n[0]) > 0.7) & (y > 1.04) & (y < 1.44) & (q[2] > 0.5) & (q[2] < 3.1)
        rgb = np.where(glass | side, vec(0.012, 0.016, 0.02), rgb)
        bumper = (y < 0.44)
        rgb = np.where(bumper, vec(0.03, 0.03, 0.032), rgb)
        seam = rear & (np.abs(y - 0.60) < 0.008) & (x < 0.62) | rear & (np.abs(x - 0.63) < 0.008) & (y > 0.6) & (y < 1.0)
        return np.where(seam, vec(0.004, 0.012, 0.04), rgb)

    def lights(p):
        q = local(p) * vec(1, 1, 1)
        q = np.stack([np.abs(q[0]), q[1], q[2]])
        return box(q, (0.735, 0.86, 0.03), (0.115, 0.13, 0.06), 0.03)

    def light_colour(p, n):
        q = local(p)
        return np.where(q[1] < 0.775, vec(0.75, 0.70, 0.65), vec(0.80, 0.02, 0.02))

    def plate(p):
        return box(local(p), (0, 0.74, 0.0), (0.26, 0.06, 0.02), 0.005)

    def plate_colour(p, n):
        q = local(p)
        # Six dark blocks stand for the characters; no real number is shown.
        u = np.mod(q[0] + 0.24, 0.078)
        mark = (u > 0.018) & (u < 0.064) & (np.abs(q[1] - 0.74) < 0.034) & (np.abs(q[0]) < 0.23)
        hole = (np.abs(u - 0.041) < 0.010) & (np.abs(q[1] - 0.74) < 0.02)
        return np.where(mark & ~hole, vec(0.03, 0.03, 0.04), vec(0.82, 0.82, 0.80))

    def wheels(p):
        q = local(p)
        q = np.stack([q[1], np.abs(q[0]), q[2]])
        return np.minimum(cylinder(q, (0.32, 0.76, 0.78), 0.32, 0.11, 0.04), cylinder(q, (0.32, 0.76, 3.3), 0.32, 0.11, 0.04))

    def trim(p):
        q = local(p)
        wiper = capsule(q, (0, 1.07, 0.06), (0.32, 1.12, 0.10), 0.012)
        pipe = capsule(np.stack([np.abs(q[0]), q[1], q[2]]), (0.5, 0.30, -0.02), (0.5, 0.30, 0.3), 0.035)
        return np.minimum(wiper, pipe)

    bound = ((cx, 0.8, cz + 2.0), 2.6)
    return [Part(body, paint, gloss=0.8, shine=60, bound=bound),
            Part(lights, light_colour, gloss=0.7, glow=0.7, bound=bound),
            Part(plate, plate_colour, bound=bound),
            Part(wheels, (0.018, 0.018, 0.019), gloss=0.1, bound=bound),
            Part(trim, (0.03, 0.03, 0.03), gloss=0.5, bound=bound)]


def road(seed=6):
    w, h = 640, 480
    left = [(-8.6, 22), (-7.4, 33), (-8.6, 44), (-7.8, 57), (-8.4, 72), (-8.0, 92)]
    right = [(8.2, 19), (7.8, 29), (9.0, 39), (7.8, 51), (8.6, 66), (8.0, 84)]
    parts = _car_parts(1.75, 7.0) + _tree_parts(left + right)
    scene = Scene(parts, _country_sky, (-0.6, 0.62, -0.45), sun=(2.0, 1.85, 1.55),
                  ambient=(0.34, 0.44, 0.60), bounce=(0.14, 0.14, 0.10), ground=_country_ground,
                  fog=((0.62, 0.74, 0.86), 0.0045), tmax=120, ao_scale=0.5, shadow_soft=14)
    cam = Camera((0.35, 1.75, 0), (0.35, 1.62, 10), 42, w, h)
    img, _ = trace(scene, cam, 0.06)
    return finish.photo(finish.tone(img, 0.62), seed, grain=0.005, soft=0.45)


def _street_ground(p, t):
    x, z = p[0], p[2]
    rgb = _asphalt(x, z)
    bar = (np.mod(z - 0.35, 1.0) < 0.52) & (np.abs(x) < 1.9) & (z > 0.3) & (z < 7.9)
    rgb = mix(rgb, (0.80, 0.80, 0.78), bar * _worn(x, z, 31))
    stop = (np.abs(np.abs(x) - 3.0) < 0.15) & (((z < 3.9) & (x < 0)) | ((z > 4.1) & (x > 0))) & (z > 0.3) & (z < 7.9)
    centre = (np.abs(z - 4.0) < 0.06) & (np.abs(x) > 3.0) & (np.mod(np.abs(x), 3.0) < 2.0)
    return mix(rgb, (0.78, 0.78, 0.75), (stop | centre) * _worn(x, z, 32))


def _pavement(p, n):
    x, z = p[0], p[2]
    kerb = np.abs(z - 8.28) < 0.14
    slab = mix((0.30, 0.29, 0.27), (0.42, 0.40, 0.37), 0.5 * value2(np.floor(x / 0.6) * 7.3, np.floor(z / 0.6) * 5.1, 3) + 0.5 * fbm2(x * 8, z * 8, 4, 4))
    gap = (np.mod(x, 0.6) < 0.02) | (np.mod(z, 0.6) < 0.02)
    slab = slab * (1 - 0.5 * gap)
    stone = mix((0.38, 0.38, 0.38), (0.52, 0.52, 0.51), fbm2(x * 14, z * 14 + p[1] * 14, 3, 5)) * (1 - 0.5 * (np.mod(x, 0.9) < 0.02))
    return np.where(kerb, stone, slab)


def _facade(p, n):
    """Plastered house fronts, each in its own colour."""
    x, y = p[0], p[1]
    house = np.floor((x + 4.2) / 5.6).astype(np.int32)
    tints = np.array([(0.62, 0.50, 0.30), (0.52, 0.24, 0.16), (0.60, 0.58, 0.52), (0.34, 0.44, 0.50)], F)
    rgb = tints[house % 4].T
    # Rain leaves streaks down a wall, so the noise is drawn out in y.
    stain = 0.5 * fbm2(x * 2.2, y * 0.35, 5, 6) + 0.5 * fbm2(x * 5, y * 5, 4, 7)
    rgb = rgb * (0.78 + 0.42 * stain)
    joint = np.abs(np.mod(x + 4.2 + 2.8, 5.6) - 2.8) < 0.03
    rgb = rgb * np.where(joint, 0.35, 1)
    stone = mix((0.24, 0.23, 0.22), (0.36, 0.34, 0.31), fbm2(x * 6, y * 6, 4, 8))
    return np.where(y < 0.75, stone, rgb)


def crossing(seed=7):
    w, h = 640, 480

    def pavement(p):
        return box(p, (0, 0.0, 18.15), (60, 0.15, 10), 0.03)

    def fold(p):
        """One window bay, repeated along the wall."""
        return np.stack([np.mod(p[0] + F(1.4), F(2.8)) - F(1.4), p[1], p[2]])

    def wall(p):
        d = box(p, (0, 5, 14.5), (60, 5, 2.5))
        hole = box(fold(p), (0, 2.35, 12), (0.72, 1.05, 0.25))
        return np.maximum(d, -hole)

    def panes(p):
        return box(fold(p), (0, 2.35, 12.3), (0.75, 1.1, 0.1))

    def frames(p):
        q = fold(p)
        d = box(q, (0, 2.35, 12.18), (0.03, 1.05, 0.03))
        d = np.minimum(d, box(q, (0, 2.55, 12.18), (0.72, 0.03, 0.03)))
        sill = box(q, (0, 1.26, 11.97), (0.82, 0.05, 0.10))
        lintel = box(q, (0, 3.5, 11.99), (0.88, 0.10, 0.05))
        rim = np.maximum(box(q, (0, 2.35, 12.15), (0.72, 1.05, 0.04)), -box(q, (0, 2.35, 12.15), (0.65, 0.98, 0.2)))
        return np.minimum(np.minimum(d, rim), np.minimum(sill, lintel))

    px, pz = 2.55, 8.75

    def pole(p):
        return np.minimum(capsule(p, (px, 0.1, pz), (px, 3.4, pz), 0.055), cylinder(p, (px, 0.35, pz), 0.10, 0.25, 0.02))

    def head(p):
        d = box(p, (px, 2.85, pz - 0.2), (0.17, 0.48, 0.12), 0.03)
        for y in (3.14, 2.85, 2.56):
            ring = length(np.stack([p[0] - F(px), p[1] - F(y)])) - F(0.115)
            shell = np.maximum(np.abs(ring) - F(0.008), np.abs(p[2] - F(pz - 0.40)) - F(0.10))
            d = np.minimum(d, np.maximum(shell, F(y + 0.03) - p[1]))
        return d

    def lens(y):
        return lambda p: sphere(p * vec(1, 1, 1), (px, y, pz - 0.27), 0.095)

    bound = ((px, 2.85, pz - 0.25), 0.75)
    parts = [Part(pavement, _pavement), Part(wall, _facade),
             Part(panes, (0.03, 0.04, 0.05), gloss=1.0), Part(frames, (0.72, 0.71, 0.68)),
             Part(pole, (0.09, 0.10, 0.10), gloss=0.3, bound=((px, 1.7, pz), 1.9)), Part(head, (0.02, 0.02, 0.02), gloss=0.2, bound=bound),
             Part(lens(3.14), (1.0, 0.05, 0.03), gloss=0.4, glow=2.2, bound=bound),
             Part(lens(2.85), (0.22, 0.13, 0.02), gloss=0.4, bound=bound),
             Part(lens(2.56), (0.01, 0.10, 0.04), gloss=0.4, bound=bound)]
    scene = Scene(parts, day_sky, (-0.5, 0.7, -0.55), sun=(1.9, 1.78, 1.55), ambient=(0.38, 0.45, 0.56),
                  ground=_street_ground, fog=((0.66, 0.74, 0.82), 0.004), tmax=60, ao_scale=0.35, shadow_soft=18)
    cam = Camera((-2.6, 2.1, -3.0), (0.5, 0.80, 5.0), 42, w, h)
    img, _ = trace(scene, cam, 0.06)
    return finish.photo(finish.tone(img, 0.62), seed, grain=0.005, soft=0.4)
