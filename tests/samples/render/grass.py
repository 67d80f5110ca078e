"""Meadow of single blades painted in perspective around a traced body."""

import numpy as np
from PIL import Image, ImageDraw

from . import finish
from .noise import fbm2, value2
from .raymarch import normalize, vec

F = np.float32


def blades(scene, cam, count, near, far, tall, split, seed):
    """Two layers of blades: rooted behind and in front of depth `split`.

    `scene` casts its shadow on the roots; `cam` is the camera of the final
    picture. Returns premultiplied (h, w, 4) layers in 0..1.
    """
    rng = np.random.default_rng(seed)
    # Uniform in 1 / depth: the density on the picture, not on the ground,
    # should be even, or the foreground would be bald.
    depth = 1 / rng.uniform(1 / far, 1 / near, count).astype(F)
    depth = np.sort(depth)[::-1]
    fwd = np.array([cam.fwd[0], 0, cam.fwd[2]], F)
    fwd /= np.linalg.norm(fwd)
    right = np.array([fwd[2], 0, -fwd[0]], F)
    half = depth * cam.w / cam.focal * 0.60
    across = rng.uniform(-1, 1, count).astype(F) * half
    ground = np.array([cam.pos[0], 0, cam.pos[2]], F)
    root = ground[:, None] + fwd[:, None] * depth + right[:, None] * across

    tuft = fbm2(root[0] * 2.2, root[2] * 2.2, 3, 5)
    length = tall * rng.uniform(0.5, 1.25, count).astype(F) * (0.55 + 0.9 * tuft)
    lean = rng.normal(0, 0.45, (2, count)).astype(F) + np.array([[0.15], [0]], F)
    tip = root + np.stack([lean[0] * length, length, lean[1] * length])
    mid = root + np.stack([lean[0] * length * 0.28, length * 0.55, lean[1] * length * 0.28])
    sun = normalize(vec(*scene.sun_dir))
    lit = scene.shadow(root + vec(0, 1, 0) * tall * 0.4, sun)

    hue = value2(root[0] * 5, root[2] * 5, 9)[:, None]
    dry = (rng.random((count, 1)) < 0.07) * rng.uniform(0.3, 1, (count, 1))
    base = np.array((42, 92, 22)) * (1 - hue) + np.array((104, 148, 44)) * hue
    base = base * (1 - dry) + np.array((168, 156, 84)) * dry
    base = base * rng.uniform(0.62, 1.2, (count, 1)) * (0.36 + 0.64 * lit[:, None])
    haze = np.clip((depth - near) / (far - near), 0, 1)[:, None] ** 1.2 * 0.35
    base = base * (1 - haze) + np.array((150, 172, 110)) * haze
    top = np.clip(base * 1.22 + 6, 0, 255).astype(int)
    base = np.clip(base * 0.72, 0, 255).astype(int)

    scale = 2
    rx, ry, _ = cam.project(root)
    mx, my, _ = cam.project(mid)
    tx, ty, _ = cam.project(tip)
    wide = np.maximum(0.35, tall * 0.055 * cam.focal / depth)
    coords = np.stack([rx, ry, mx, my, tx, ty, wide], 1) * scale
    size = (cam.w * scale, cam.h * scale)
    pair = [Image.new("RGBA", size, (0, 0, 0, 0)) for _ in range(2)]
    pens = [ImageDraw.Draw(i) for i in pair]
    for k, (a, b, c, d, e, f, g) in enumerate(coords.tolist()):
        pen = pens[int(depth[k] < split)]
        pen.polygon([(a - g, b), (a + g, b), (c + g * 0.7, d), (c - g * 0.7, d)], fill=(*base[k].tolist(), 255))
        pen.polygon([(c - g * 0.7, d), (c + g * 0.7, d), (e, f)], fill=(*top[k].tolist(), 255))
    layers = [finish.resample_layer(i, cam.w, cam.h) for i in pair]
    return layers


def compose(img, depth, layers):
    """Far blades behind the body, the body, near blades over it."""
    far, near = layers
    # Soft edge on the body mask so that no jagged rim is left.
    body = finish.blur(np.isfinite(depth).astype(F)[..., None], 0.6)
    return finish.over(finish.over(img, far * (1 - body)), near)


def focus(img, y0, y1, strength):
    """Blur growing away from the rows y0..y1 (shallow depth of field)."""
    h = img.shape[0]
    y = np.arange(h, dtype=F)
    off = np.maximum(np.maximum(y0 - y, y - y1), 0) / h
    k = np.clip(off * strength, 0, 1)[:, None, None]
    soft, softer = finish.blur(img, 1.6), finish.blur(img, 3.5)
    a = np.clip(k * 2, 0, 1)
    b = np.clip(k * 2 - 1, 0, 1)
    out = img * (1 - a) + soft * a
    return out * (1 - b) + softer * b
