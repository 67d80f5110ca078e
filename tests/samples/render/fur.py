"""Coat of single hairs painted over a traced animal.

Bumps in the distance field look like clay; hairs that break the outline are
what the eye (and a network trained on photographs) takes for fur.
"""

import numpy as np
from PIL import Image, ImageDraw

from . import finish
from .raymarch import dot, normalize

F = np.float32


def surface(scene, cam, depth):
    """Visible body points: rows, columns, positions, normals, part numbers."""
    ys, xs = np.nonzero(np.isfinite(depth))
    rd = cam.rays(xs.astype(F), ys.astype(F))
    p = cam.pos[:, None] + rd * depth[ys, xs]
    n = scene.normal(p, F(0.004))
    part = np.argmin(np.stack([q.distance(p) for q in scene.parts]), 0)
    return ys, xs, p, n, part


def comb(img, scene, cam, depth, hairy, flow, length, count, seed):
    """Layer of hairs on the parts listed in `hairy`.

    flow(p) gives the direction the coat lies in and length(p) how long it
    is; each hair takes the lit colour of the pixel it grows from.
    """
    rng = np.random.default_rng(seed)
    ys, xs, p, n, part = surface(scene, cam, depth)
    ok = np.flatnonzero(np.isin(part, hairy))
    pick = rng.choice(ok, count)
    p, n, ys, xs = p[:, pick], n[:, pick], ys[pick], xs[pick]
    along = flow(p)
    along = normalize(along - n * dot(along, n))
    stray = rng.normal(0, 0.28, p.shape).astype(F)
    way = normalize(along + stray + n * F(0.30))
    tall = length(p) * rng.uniform(0.5, 1.3, count).astype(F)
    # The tip droops: gravity bends the outer half of a hair.
    mid = p + way * tall * F(0.5)
    tip = mid + normalize(way + np.array([[0], [-0.35], [0]], F)) * tall * F(0.5)
    shift = rng.uniform(-0.5, 0.5, (2, count)).astype(F)
    scale = 2
    pts = []
    for q in (p, mid, tip):
        x, y, _ = cam.project(q)
        pts += [(x + shift[0]) * scale, (y + shift[1]) * scale]
    tone = np.clip(rng.normal(1.0, 0.17, (count, 1)), 0.5, 1.5)
    colour = np.clip(img[ys, xs] * tone * 255, 0, 255).astype(int)
    # Far hairs first, so that near legs cover far ones.
    order = np.argsort(-depth[ys, xs], kind="stable")
    coords = np.stack(pts, 1)[order].tolist()
    colour = colour[order].tolist()
    layer = Image.new("RGBA", (cam.w * scale, cam.h * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    for line, rgb in zip(coords, colour):
        draw.line(line[:4], fill=(*rgb, 255), width=2)
        draw.line(line[2:], fill=(*rgb, 200), width=1)
    return finish.resample_layer(layer, cam.w, cam.h)
