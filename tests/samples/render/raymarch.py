"""Signed-distance-field renderer on flat numpy arrays.

Points and colours are arrays of shape (3, n); a scene is a list of Parts (a
distance function and a colour) with an optional ground plane at y = 0.
"""

from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

F = np.float32


def vec(*v):
    """Column vector that broadcasts against (3, n)."""
    return np.array(v, F)[:, None]


def length(p):
    return np.sqrt((p * p).sum(0))


def normalize(p):
    return p / np.maximum(length(p), F(1e-9))


def dot(a, b):
    return (a * b).sum(0)


# --- distance functions ---------------------------------------------------


def sphere(p, c, r):
    return length(p - vec(*c)) - F(r)


def ellipsoid(p, c, r, yaw=0.0, pitch=0.0):
    """Approximate distance; yaw turns about y, pitch about the turned z."""
    q = p - vec(*c)
    if yaw:
        q = turn_y(q, yaw)
    if pitch:
        q = turn_z(q, pitch)
    r = vec(*r)
    k0 = length(q / r)
    k1 = length(q / (r * r))
    return k0 * (k0 - 1) / np.maximum(k1, F(1e-6))


def box(p, c, half, r=0.0):
    """Box with corners rounded by r (the half sizes include the rounding)."""
    q = np.abs(p - vec(*c)) - vec(*half) + F(r)
    return length(np.maximum(q, 0)) + np.minimum(q.max(0), 0) - F(r)


def capsule(p, a, b, ra, rb=None):
    """Limb from a to b whose radius runs from ra to rb."""
    rb = ra if rb is None else rb
    a, b = vec(*a), vec(*b)
    pa, ba = p - a, b - a
    h = np.clip(dot(pa, ba) / (ba * ba).sum(), 0, 1)
    return length(pa - ba * h) - (F(ra) + F(rb - ra) * h)


def cylinder(p, c, r, half, round_=0.0):
    """Upright cylinder."""
    q = p - vec(*c)
    dx = np.hypot(q[0], q[2]) - F(r - round_)
    dy = np.abs(q[1]) - F(half - round_)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - F(round_)


def torus_z(p, c, big, small):
    """Ring lying in a plane of constant z."""
    q = p - vec(*c)
    return np.hypot(np.hypot(q[0], q[1]) - F(big), q[2]) - F(small)


def turn_y(p, angle):
    c, s = F(np.cos(angle)), F(np.sin(angle))
    return np.stack([c * p[0] - s * p[2], p[1], s * p[0] + c * p[2]])


def turn_z(p, angle):
    c, s = F(np.cos(angle)), F(np.sin(angle))
    return np.stack([c * p[0] - s * p[1], s * p[0] + c * p[1], p[2]])


def blend(a, b, k):
    """Smooth minimum: joins two bodies with a fillet of about k."""
    h = np.maximum(F(k) - np.abs(a - b), 0) / F(k)
    return np.minimum(a, b) - h * h * F(k * 0.25)


# --- scene ----------------------------------------------------------------


@dataclass
class Part:
    """One material. colour is an rgb tuple or a function of (p, n)."""

    sdf: Callable
    colour: object
    gloss: float = 0.0  # strength of the mirror-like reflection
    shine: float = 30.0  # exponent of the highlight
    glow: float = 0.0  # light it gives off itself
    bound: Optional[tuple] = None  # (centre, radius), skips far evaluation

    def distance(self, p):
        if self.bound is None:
            return self.sdf(p)
        c, r = self.bound
        # Outside the bounding sphere its own distance is a safe step; the
        # margin keeps the field from touching zero at the sphere.
        d = length(p - vec(*c)) - F(r) + F(0.1 * r)
        near = np.flatnonzero(d < 0.2 * r)
        if near.size:
            d[near] = self.sdf(p[:, near])
        return d


@dataclass
class Scene:
    parts: list
    sky: Callable  # rd -> rgb
    sun_dir: tuple
    sun: tuple = (1.0, 0.95, 0.85)
    ambient: tuple = (0.35, 0.42, 0.55)
    bounce: tuple = (0.12, 0.12, 0.08)  # light coming back from the ground
    ground: Optional[Callable] = None  # (p, t) -> rgb albedo
    ground_gloss: float = 0.0
    fog: Optional[tuple] = None  # (rgb, density per unit)
    shadow_soft: float = 10.0
    lamps: tuple = ()  # ((position, rgb), ...) point lights, no shadow rays
    tmax: float = 60.0
    t_start: float = 0.05
    steps: int = 110
    eps: float = 0.0007
    step_scale: float = 0.9
    ao_scale: float = 0.25  # how far occlusion looks
    shadow_step: tuple = (0.02, 0.012, 0.6)  # first, least, greatest
    shadow_reach: float = 12.0
    shadow_steps: int = 36

    def sdf(self, p):
        d = self.parts[0].distance(p)
        for part in self.parts[1:]:
            d = np.minimum(d, part.distance(p))
        return d

    def march(self, ro, rd, tmax):
        """Distance along each ray to the first surface, inf on a miss."""
        n = rd.shape[1]
        out = np.full(n, np.inf, F)
        idx = np.arange(n)
        t = np.full(n, self.t_start, F)
        for _ in range(self.steps):
            p = ro[:, idx] + rd[:, idx] * t
            d = self.sdf(p)
            hit = d < F(self.eps) * (1 + t)
            out[idx[hit]] = t[hit]
            t = t + d * F(self.step_scale)
            keep = ~hit & (t < tmax[idx])
            idx, t = idx[keep], t[keep]
            if not idx.size:
                break
        return out

    def normal(self, p, e):
        # Four taps on a tetrahedron: the cheapest unbiased gradient.
        n = np.zeros_like(p)
        for k in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            k = vec(*k)
            n += k * self.sdf(p + k * e)
        return normalize(n)

    def shadow(self, p, l):
        """Share of the sun seen from p; near misses give the penumbra."""
        n = p.shape[1]
        light = np.ones(n, F)
        idx = np.arange(n)
        first, least, greatest = self.shadow_step
        t = np.full(n, first, F)
        for _ in range(self.shadow_steps):
            d = self.sdf(p[:, idx] + l * t)
            light[idx] = np.minimum(light[idx], F(self.shadow_soft) * d / t)
            t = t + np.clip(d, F(least), F(greatest))
            keep = (light[idx] > 0.005) & (t < self.shadow_reach)
            idx, t = idx[keep], t[keep]
            if not idx.size:
                break
        light = np.clip(light, 0, 1)
        return light * light * (3 - 2 * light)

    def occlusion(self, p, n, scale):
        """Ambient occlusion from five taps along the normal."""
        total, weight = F(0), F(1)
        for i in range(1, 6):
            h = F(scale * i / 5)
            total = total + weight * np.maximum(h - self.sdf(p + n * h), 0) / F(scale)
            weight *= F(0.75)
        # Never quite black: light that bounced twice reaches every corner.
        return np.clip(1 - total * F(0.42), 0.15, 1)

    def light(self, p, n, rd, albedo, gloss, shine, glow):
        l = normalize(vec(*self.sun_dir))
        facing = np.clip(dot(n, l), 0, 1)
        shade = np.zeros(p.shape[1], F)
        lit = np.flatnonzero(facing > 0)
        if lit.size and max(self.sun) > 0:
            lifted = p[:, lit] + n[:, lit] * F(0.2 * self.shadow_step[0])
            shade[lit] = self.shadow(lifted, l)
        ao = self.occlusion(p, n, self.ao_scale)
        up = n[1] * F(0.5) + F(0.5)
        rgb = vec(*self.sun) * (facing * shade)
        rgb = rgb + (vec(*self.ambient) * up + vec(*self.bounce) * (1 - up)) * ao
        for pos, power in self.lamps:
            to = vec(*pos) - p
            dist2 = np.maximum(dot(to, to), F(0.05))
            rgb = rgb + vec(*power) * (np.clip(dot(n, to / np.sqrt(dist2)), 0, 1) / dist2 * ao)
        out = albedo * rgb + albedo * glow
        if np.any(gloss > 0):
            half = normalize(l - rd)
            spec = np.clip(dot(n, half), 0, 1) ** shine * shade * gloss * F(2.0)
            refl = rd - n * (2 * dot(rd, n))
            fresnel = F(0.04) + F(0.96) * np.clip(1 + dot(rd, n), 0, 1) ** 5
            out = out + vec(*self.sun) * spec + self.sky(refl) * (fresnel * gloss * ao)
        return out

    def shade(self, ro, rd):
        """Colour seen along each ray, and the distance (inf for sky)."""
        n_rays = rd.shape[1]
        tmax = np.full(n_rays, self.tmax, F)
        t_ground = np.full(n_rays, np.inf, F)
        if self.ground is not None:
            down = rd[1] < -1e-4
            t_ground[down] = -ro[1, down] / rd[1, down]
            tmax = np.minimum(tmax, t_ground)
        t = self.march(ro, rd, tmax)
        body = np.isfinite(t)
        floor = ~body & np.isfinite(t_ground)
        rgb = np.zeros((3, n_rays), F)
        miss = ~body & ~floor
        if miss.any():
            rgb[:, miss] = self.sky(rd[:, miss])
        i = np.flatnonzero(body)
        if i.size:
            p = ro[:, i] + rd[:, i] * t[i]
            n = self.normal(p, F(0.0012))
            near = np.argmin(np.stack([q.distance(p) for q in self.parts]), 0)
            albedo = np.zeros_like(p)
            gloss, shine, glow = (np.zeros(i.size, F) for _ in range(3))
            for k, part in enumerate(self.parts):
                m = near == k
                if not m.any():
                    continue
                c = part.colour
                albedo[:, m] = c(p[:, m], n[:, m]) if callable(c) else vec(*c)
                gloss[m], shine[m], glow[m] = part.gloss, part.shine, part.glow
            rgb[:, i] = self.light(p, n, rd[:, i], albedo, gloss, shine, glow)
        i = np.flatnonzero(floor)
        if i.size:
            p = ro[:, i] + rd[:, i] * t_ground[i]
            p[1] = 0
            n = np.zeros_like(p)
            n[1] = 1
            albedo = self.ground(p, t_ground[i])
            gloss = np.full(i.size, self.ground_gloss, F)
            rgb[:, i] = self.light(p, n, rd[:, i], albedo, gloss, 40.0, 0.0)
        t = np.where(body, t, t_ground)
        if self.fog is not None:
            colour, density = self.fog
            seen = np.isfinite(t)
            f = 1 - np.exp(-np.where(seen, t, 0) * F(density))
            rgb = rgb + (vec(*colour) - rgb) * f
        return rgb, np.where(body, t, np.inf)


class Camera:
    def __init__(self, pos, target, fov, width, height):
        self.pos = np.array(pos, F)
        self.w, self.h = width, height
        fwd = np.array(target, F) - self.pos
        self.fwd = fwd / np.linalg.norm(fwd)
        right = np.cross(np.array([0, 1, 0], F), self.fwd)
        self.right = right / np.linalg.norm(right)
        self.up = np.cross(self.fwd, self.right)
        self.focal = F(height / 2 / np.tan(np.radians(fov) / 2))

    def rays(self, x, y):
        """Directions through pixel positions (top left pixel is 0, 0)."""
        u = ((x + F(0.5)) - F(self.w / 2)) / self.focal
        v = (F(self.h / 2) - (y + F(0.5))) / self.focal
        d = self.right[:, None] * u + self.up[:, None] * v + self.fwd[:, None]
        return normalize(d.astype(F))

    def project(self, p):
        """Pixel position and depth of points of shape (3, n)."""
        q = p - self.pos[:, None]
        z = self.fwd @ q
        safe = np.maximum(z, F(1e-3))
        x = (self.right @ q) / safe * self.focal + F(self.w / 2)
        y = F(self.h / 2) - (self.up @ q) / safe * self.focal
        return x, y, z


def trace(scene, camera, threshold=0.035):
    """Render to (h, w, 3) linear light, and the depth of the bodies.

    One ray per pixel first, then four more only where neighbours differ:
    most of a picture is smooth, and this is a third of the cost of plain
    supersampling.
    """
    w, h = camera.w, camera.h

    def cast(x, y):
        rd = camera.rays(x, y)
        ro = np.repeat(camera.pos[:, None], rd.shape[1], 1)
        return scene.shade(ro, rd)

    yy, xx = np.mgrid[0:h, 0:w].astype(F)
    rgb, depth = cast(xx.ravel(), yy.ravel())
    img = rgb.T.reshape(h, w, 3).copy()
    tone = np.sqrt(np.clip(img, 0, 1.5)).sum(2) / 3
    edge = np.zeros((h, w), bool)
    dx = np.abs(np.diff(tone, axis=1)) > threshold
    dy = np.abs(np.diff(tone, axis=0)) > threshold
    edge[:, 1:] |= dx
    edge[:, :-1] |= dx
    edge[1:] |= dy
    edge[:-1] |= dy
    ys, xs = np.nonzero(edge)
    if ys.size:
        total = np.zeros((3, ys.size), F)
        for ox, oy in ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375)):
            total += np.minimum(cast(xs + F(ox), ys + F(oy))[0], F(2.5))
        img[ys, xs] = (total / 4).T
    return img, depth.reshape(h, w)
