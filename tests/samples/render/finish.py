"""From linear light to a picture file: lens, film, grain, compression."""

import io

import numpy as np
from PIL import Image

F = np.float32


def tone(img, exposure=1.0):
    """Filmic curve and gamma; linear light of any range to 0..1."""
    x = np.maximum(img * F(exposure), 0)
    x = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    return np.clip(x, 0, 1) ** F(1 / 2.2)


def halve(img):
    """Average of 2x2 pixels."""
    return (img[::2, ::2] + img[1::2, ::2] + img[::2, 1::2] + img[1::2, 1::2]) / 4


def blur(img, sigma):
    """Gaussian blur of (h, w, 3) in 0..1, separable, edges repeated."""
    r = max(1, int(sigma * 3 + 0.5))
    k = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2).astype(F)
    k /= k.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * img.ndim
        pad[axis] = (r, r)
        wide = np.pad(img, pad, mode="edge")
        n = img.shape[axis]
        img = sum(k[i] * np.take(wide, np.arange(i, i + n), axis) for i in range(2 * r + 1))
    return img


def photo(img, seed, grain=0.012, vignette=0.25, soft=0.5, glow=0.0):
    """What lens and sensor add to a clean render (already in 0..1)."""
    h, w = img.shape[:2]
    if glow:
        img = img + F(glow) * blur(np.clip(img - F(0.75), 0, 1), 12)
    if soft:
        img = blur(img, soft)
    y, x = np.mgrid[0:h, 0:w].astype(F)
    r2 = ((x / w - 0.5) ** 2 + (y / h - 0.5) ** 2) * 2
    img = img * (1 - F(vignette) * r2 * r2 - F(vignette) * 0.4 * r2)[..., None]
    rng = np.random.default_rng(seed)
    # Luminance grain with a little colour in it, as a small sensor gives.
    noise = rng.normal(0, 1, (h, w, 1)) + 0.35 * rng.normal(0, 1, (h, w, 3))
    return np.clip(img + (noise * grain).astype(F), 0, 1)


def to_image(img):
    return Image.fromarray((np.clip(img, 0, 1) * 255 + 0.5).astype(np.uint8), "RGB")


def resample_layer(layer, w, h):
    """A Pillow RGBA layer drawn large, reduced to (h, w, 4) in 0..1."""
    # Averaging must be done on premultiplied colour or edges go dark.
    a = np.asarray(layer, F) / 255
    a[..., :3] *= a[..., 3:]
    while a.shape[1] > w:
        a = halve(a)
    return a


def over(img, layer):
    """Composite a premultiplied (h, w, 4) layer on img."""
    return img * (1 - layer[..., 3:]) + layer[..., :3]


def save_jpeg(img, path, limit=56_000, quality=88, progressive=False):
    """JPEG at the wanted quality, or lower where the size limit asks it."""
    im = to_image(img)
    while True:
        buf = io.BytesIO()
        im.save(buf, "JPEG", quality=quality, optimize=True, progressive=progressive)
        if buf.tell() <= limit or quality <= 60:
            break
        quality -= 2
    path.write_bytes(buf.getvalue())
    return buf.tell(), f"jpeg q{quality} {im.width}x{im.height}" + " progressive" * progressive


def save_png(img, path, colours=None):
    """PNG, true colour or with a palette of so many colours."""
    im = to_image(img)
    if colours:
        im = im.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    buf = io.BytesIO()
    im.save(buf, "PNG", optimize=True)
    path.write_bytes(buf.getvalue())
    return buf.tell(), f"png {im.mode} {im.width}x{im.height}"


def shrink(img, width):
    h, w = img.shape[:2]
    size = (width, round(h * width / w))
    return np.asarray(to_image(img).resize(size, Image.Resampling.LANCZOS), F) / 255


def darken(img, seed, level=0.035):
    """The same scene as a badly underexposed shot, with its noise."""
    rng = np.random.default_rng(seed)
    dark = (img ** F(2.2) * F(level)) ** F(1 / 2.2) * F(0.8)
    return np.clip(dark + rng.normal(0, 0.007, img.shape).astype(F), 0, 1)
