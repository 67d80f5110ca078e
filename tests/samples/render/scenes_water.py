"""Open-air water: a beach at sunset and a sailing boat on the sea.

Both are ray-traced against a plane (y = 0) whose normal is bent by noise;
no marching is needed, so they are drawn at double size and averaged down.
"""

import numpy as np
from PIL import Image, ImageDraw

from . import finish
from .noise import fbm2, mix, smoothstep, value2
from .raymarch import Camera, dot, normalize, vec
from .skies import clouds, day_sky

F = np.float32


def _grid(cam):
    y, x = np.mgrid[0 : cam.h, 0 : cam.w].astype(F)
    return cam.rays(x.ravel(), y.ravel())


def _sunset_sky(rd, sun):
    h = np.clip(rd[1], 0, 1)
    toward = np.clip(dot(rd, sun), 0, 1)
    rgb = mix((1.00, 0.42, 0.13), (0.62, 0.30, 0.34), smoothstep(0.0, 0.16, h))
    rgb = mix(rgb, (0.13, 0.17, 0.38), smoothstep(0.08, 0.5, h))
    rgb = rgb + vec(1.0, 0.45, 0.10) * (toward**24 * 0.55 + toward**200 * 0.8)
    cover = clouds(rd, 0.9, 3, 0.46, 0.72) * smoothstep(0.01, 0.10, h)
    # Clouds near the sun are lit from below, the others are grey-violet.
    cloud = mix((0.25, 0.17, 0.26), (1.35, 0.55, 0.22), toward**5)
    rgb = mix(rgb, cloud, cover * 0.85)
    disc = smoothstep(0.99905, 0.99935, toward)
    return rgb + vec(4.0, 2.6, 1.1) * disc * (1 - 0.6 * cover)


def _wave_normal(x, z, t, height, seed, stretch=2.2):
    """Normal of a wind sea; crests run across the view (longer in x)."""
    e = F(0.02)

    def h(x, z):
        a = fbm2(x * F(1.0 / stretch), z * F(1.0), 4, seed)
        b = fbm2(x * F(3.1 / stretch) + 5, z * F(3.3), 3, seed + 5)
        return a + F(0.35) * b

    h0 = h(x, z)
    # Far away many waves fall in one pixel: flatten what cannot be resolved,
    # but keep enough tilt for the long glitter path under the sun.
    amp = F(height) / (1 + t * F(0.02))
    nx = -(h(x + e, z) - h0) / e * amp
    nz = -(h(x, z + e) - h0) / e * amp
    return normalize(np.stack([nx, np.ones_like(nx), nz])), h0


def beach(seed=1):
    w, h = 1280, 960
    cam = Camera((0, 2.0, 0), (0, 1.28, 8), 52, w, h)
    rd = _grid(cam)
    sun = normalize(vec(-0.16, 0.075, 1.0))
    out = _sunset_sky(rd, sun)
    down = np.flatnonzero(rd[1] < -0.0015)
    d = rd[:, down]
    t = -cam.pos[1] / d[1]
    x, z = d[0] * t, d[2] * t

    # The edge of the swash on the sand, and the depth of water beyond it.
    edge = 5.6 + 0.16 * x + 1.5 * (fbm2(x * 0.35 + 4, z * 0 + 2, 3, 40) - 0.5) + 0.5 * np.sin(x * 0.55)
    off = z - edge
    n, _ = _wave_normal(x * 0.9, z * 0.9, t, 0.34, 11)
    refl = d - n * (2 * dot(d, n))
    refl[1] = np.abs(refl[1])
    cosv = np.clip(-dot(d, n), 0, 1)
    fresnel = F(0.05) + F(0.95) * (1 - cosv) ** 4
    deep = mix((0.03, 0.10, 0.13), (0.10, 0.13, 0.14), smoothstep(3, 0, off))
    sea = deep * (1 - fresnel) + _sunset_sky(normalize(refl), sun) * fresnel
    spec = np.clip(dot(normalize(refl), sun), 0, 1)
    sea = sea + vec(2.2, 1.05, 0.35) * (spec**220 * 1.4)

    # Two low breakers roll in behind the swash, a third far out.
    lace = fbm2(x * 2.6, z * 2.6, 5, 60)
    foam = np.zeros_like(x)
    for pos, width, strength, k in ((3.4, 0.75, 1.0, 70), (8.5, 1.2, 0.95, 75), (18, 2.0, 0.7, 80)):
        line = off - pos - 1.7 * (fbm2(x * 0.22 + k, x * 0 + k, 3, k) - 0.5)
        front = smoothstep(-0.12, 0.1, line) * smoothstep(width, 0.0, line)
        part = smoothstep(0.32, 0.62, fbm2(x * 0.5 + k, x * 0 + 3, 2, k + 2))
        face = np.exp(-((line + 0.35) / 0.35) ** 2)
        sea = sea * (1 - 0.55 * face * part)  # the dark face of the breaker
        foam = np.maximum(foam, front * part * strength * smoothstep(0.2, 0.5, lace + 0.25 * front))
    swash = smoothstep(0.0, 0.08, off) * smoothstep(1.9, 0.1, off)
    foam = np.maximum(foam, swash * smoothstep(0.40, 0.60, lace + 0.2 * smoothstep(0.5, 0.05, off)))
    white = mix((0.62, 0.46, 0.42), (0.95, 0.66, 0.48), value2(x * 5, z * 5, 4))
    sea = mix(sea, white, np.clip(foam, 0, 1) * 0.85)

    grain = fbm2(x * 22, z * 22, 3, 90)
    ripple = fbm2(x * 1.5, z * 4.0, 4, 95)
    sand = mix((0.30, 0.19, 0.12), (0.58, 0.38, 0.24), 0.65 * ripple + 0.35 * grain)
    pits = fbm2(x * 3.2, z * 3.2, 4, 99)
    sand = sand * (0.80 + 0.3 * smoothstep(0.3, 0.75, pits)) * (0.80 + 0.4 * value2(x * 60, z * 60, 98))
    # Wet sand mirrors the sky, and is dark where the mirror shows nothing.
    wet = smoothstep(-1.7, -0.15, off + 0.5 * (ripple - 0.5))
    nw, _ = _wave_normal(x * 0.7, z * 0.7, t, 0.035, 21)
    mirror = d - nw * (2 * dot(d, nw))
    mirror[1] = np.abs(mirror[1])
    shine = F(0.10) + F(0.8) * (1 - np.clip(-d[1], 0, 1)) ** 5
    wet_sand = sand * 0.42 + _sunset_sky(normalize(mirror), sun) * shine
    sand = mix(sand, wet_sand, wet)
    rgb = np.where(off > 0, sea, sand)
    haze = 1 - np.exp(-t * F(0.004))
    rgb = mix(rgb, (0.85, 0.40, 0.18), haze * 0.55)
    out[:, down] = rgb
    img = finish.halve(finish.tone(out.T.reshape(h, w, 3), 0.50))
    return finish.photo(img, seed, grain=0.005, soft=0.4, glow=0.5)


def _boat_layer(w, h, horizon):
    """The boat, painted large: hull, mast, main sail, jib, a sailor."""
    layer = Image.new("RGBA", (w, h), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    s = w / 1280
    cx, wl = 660 * s, horizon  # mast foot and water line

    def pt(x, y):
        # A slight heel to leeward makes it sail rather than stand.
        a = np.radians(5)
        px, py = x * s, y * s
        return (cx + px * np.cos(a) + py * np.sin(a), wl + px * np.sin(a) - py * np.cos(a))

    def curve(a, b, bulge, n=24):
        a, b = np.array(a, float), np.array(b, float)
        normal = np.array([(b - a)[1], -(b - a)[0]])
        return [tuple(a + (b - a) * k / n + normal * bulge * np.sin(np.pi * k / n)) for k in range(n + 1)]

    def sail(corners, bulges, light, dark, seams):
        outline = []
        for i, c in enumerate(corners):
            outline += curve(c, corners[(i + 1) % len(corners)], bulges[i])
        mask = Image.new("L", (w, h), 0)
        ImageDraw.Draw(mask).polygon([pt(*p) for p in outline], fill=255)
        # The belly of the sail: brightest a third back from the luff.
        xs = [p[0] for p in outline]
        u = (np.arange(w)[None, :] - cx) / s
        v = (wl - np.arange(h)[:, None]) / s
        k = np.clip((u + 0.09 * v - min(xs)) / (max(xs) - min(xs)), 0, 1)
        belly = np.exp(-(((k - 0.42) / 0.38) ** 2)) + 0.02 * np.sin(v / 7.0 + 2 * k)
        belly = np.clip(belly, 0, 1)[..., None]
        colour = np.array(dark) * (1 - belly) + np.array(light) * belly
        paint = Image.fromarray(colour.astype(np.uint8), "RGB")
        layer.paste(paint, (0, 0), mask)
        for a, b in seams:
            draw.line([pt(*a), pt(*b)], fill=(170, 172, 176, 255), width=max(1, int(1.6 * s)))

    sail([(12, 40), (12, 520), (238, 52)], (0.0, -0.07, 0.02), (252, 250, 244), (176, 184, 198),
         [((12, 150 + 90 * i), (222 - 47 * i, 110 + 92 * i)) for i in range(4)])
    sail([(-8, 470), (-196, 42), (-30, 60)], (0.02, -0.06, -0.10), (250, 246, 238), (164, 174, 192),
         [])
    draw.line([pt(2, 10), pt(2, 535)], fill=(120, 104, 88, 255), width=int(8 * s))
    draw.line([pt(2, 40), pt(246, 46)], fill=(128, 110, 92, 255), width=int(8 * s))
    draw.line([pt(2, 530), pt(-232, 30)], fill=(90, 90, 90, 255), width=max(1, int(2 * s)))
    draw.line([pt(2, 530), pt(282, 34)], fill=(90, 90, 90, 255), width=max(1, int(2 * s)))
    draw.polygon([pt(2, 535), pt(2, 556), pt(40, 548)], fill=(196, 36, 36, 255))
    # Helmsman in an orange jacket.
    draw.ellipse([pt(196, 84)[0], pt(196, 84)[1], pt(196, 84)[0] + 22 * s, pt(196, 84)[1] + 24 * s], fill=(196, 150, 120, 255))
    draw.polygon([pt(188, 26), pt(192, 60), pt(222, 62), pt(234, 26)], fill=(224, 110, 30, 255))
    draw.polygon([pt(40, 28), pt(52, 52), pt(150, 52), pt(170, 28)], fill=(236, 232, 224, 255))
    for i in range(3):
        c = pt(70 + i * 30, 42)
        draw.ellipse([c[0] - 8 * s, c[1] - 5 * s, c[0] + 8 * s, c[1] + 5 * s], fill=(50, 66, 84, 255))
    hull = curve((-240, 36), (290, 34), 0.022) + curve((290, 34), (262, -14), -0.05) + [(-172, -14)] + curve((-172, -14), (-240, 36), -0.06)
    mask = Image.new("L", (w, h), 0)
    ImageDraw.Draw(mask).polygon([pt(*p) for p in hull], fill=255)
    v = np.clip((wl - np.arange(h)[:, None]) / s / 40, 0, 1) * np.ones((1, w))
    navy = np.array((16, 30, 66)) * (1 - v[..., None]) + np.array((44, 84, 150)) * v[..., None]
    layer.paste(Image.fromarray(navy.astype(np.uint8), "RGB"), (0, 0), mask)
    draw.line([pt(*p) for p in curve((-240, 36), (290, 34), 0.022)], fill=(240, 240, 236, 255), width=int(6 * s))
    draw.line([pt(-196, 6), pt(272, 4)], fill=(226, 226, 226, 255), width=int(4 * s))
    return finish.resample_layer(layer, w, h)


def sailing_boat(seed=2):
    w, h = 1280, 960
    cam = Camera((0, 2.4, 0), (0, 1.9, 8), 42, w, h)
    rd = _grid(cam)
    sun = normalize(vec(0.55, 0.6, 0.45))
    sky = day_sky(rd)
    # A line of far hills closes the horizon.
    az = rd[0] / rd[2]
    ridge = 0.012 + 0.055 * fbm2(az * 5 + 9, az * 0 + 1, 5, 33) * smoothstep(0.10, -0.5, az)
    hill = (rd[1] < ridge) & (rd[1] > -0.01)
    green = mix((0.20, 0.30, 0.34), (0.34, 0.44, 0.50), fbm2(az * 60, rd[1] * 160, 4, 35))
    sky = np.where(hill, mix(green, (0.60, 0.72, 0.84), 0.45), sky)
    # Water line of the boat in the picture; the sea is drawn from here on.
    line = 610
    boat = _boat_layer(w, h, line)
    out = np.clip(sky, 0, 3)
    down = np.flatnonzero(rd[1] < -0.002)
    d = rd[:, down]
    t = -cam.pos[1] / d[1]
    x, z = d[0] * t, d[2] * t
    n, height = _wave_normal(x * 0.55, z * 0.55, t, 0.40, 17)
    refl = d - n * (2 * dot(d, n))
    refl[1] = np.abs(refl[1])
    refl = normalize(refl)
    cosv = np.clip(-dot(d, n), 0, 1)
    fresnel = F(0.04) + F(0.9) * (1 - cosv) ** 5
    deep = mix((0.015, 0.10, 0.17), (0.03, 0.20, 0.26), smoothstep(0.5, 0.85, height))
    sea = deep * (1 - fresnel) + day_sky(refl) * fresnel * 0.9
    sea = sea + vec(1.6, 1.5, 1.3) * np.clip(dot(refl, sun), 0, 1) ** 90
    caps = smoothstep(0.98, 1.06, height + 0.25 * fbm2(x * 3, z * 3, 4, 8)) * smoothstep(60, 8, t)
    sea = mix(sea, (0.9, 0.93, 0.95), caps * 0.8)
    sea = mix(sea, (0.62, 0.74, 0.84), 1 - np.exp(-t * F(0.0035)))
    out[:, down] = sea
    img = finish.tone(out.T.reshape(h, w, 3), 0.62)

    # Reflection: the boat mirrored at its water line, torn by the waves.
    yy, xx = np.mgrid[0:h, 0:w].astype(F)
    slope = np.zeros((h * w,), F)
    slope[down] = n[0] * 60 + n[2] * 18
    slope = slope.reshape(h, w)
    depth = np.maximum(yy - line, 0)
    sx = np.clip(xx + slope * np.minimum(1, depth / 60), 0, w - 1).astype(np.int32)
    sy = np.clip(line - depth * 1.25 + np.abs(slope) * 0.8, 0, h - 1).astype(np.int32)
    mirrored = boat[sy, sx] * np.where(yy > line - 2, np.exp(-depth / 330), 0)[..., None] * F(0.62)
    img = finish.over(img, mirrored * np.array([0.72, 0.84, 0.9, 1], F))
    # Waves in front of the hull hide its foot.
    foot = line + 10 * (fbm2(xx * 0.02, xx * 0 + 4, 4, 3) - 0.4)
    boat = boat * (yy < foot)[..., None]
    img = finish.over(img, boat)
    wake = np.exp(-((yy - foot - 3) / 5) ** 2) * smoothstep(430, 490, xx) * smoothstep(1010, 930, xx)
    wake = wake * smoothstep(0.35, 0.6, fbm2(xx * 0.06, yy * 0.15, 4, 51))
    img = img + (np.array([0.95, 0.97, 0.98], F) - img) * wake[..., None] * 0.9
    img = finish.halve(img.astype(F))
    return finish.photo(img, seed, grain=0.005, soft=0.4)
