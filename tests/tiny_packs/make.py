"""Makes the tiny model packs and the odd JPEG files that the tests use.

    python3 tests/tiny_packs/make.py

Needs numpy, onnx, onnxruntime, tokenizers and Pillow. Every weight comes from a seeded generator:
the packs know nothing of pictures or language, they have the SHAPES of the dual encoders that a
pack may hold. `reference.json` beside each pack has the embeddings that Pillow, the tokenizers
library and onnxruntime give for it; the tests hold captiond's against them.

    clip      ViT with class token and projection [1, d]; causal text, end-of-text pooling, padded
    cls       ViT that gives its tokens [1, T, d], class token pooled, blue first; text pools CLS
    convnet   feature map [1, C, h, w], averaged; text: attention mask, mean pooling, any length
    siglip    ViT without class token, tokens averaged; text: fixed length, [1, d] out of the graph
    int8      as clip, its matrices in int8 the way onnxruntime quantises dynamically: the integer kernels
"""

import hashlib
import io
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import tokenizers
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HERE = pathlib.Path(__file__).parent
WORDS = (
    "a an the of in on and is are with red green blue yellow white black grey small large bright dark "
    "square circle stripe picture drawing photo plain field patch left right top bottom middle colour"
).split()
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
PAD, END = 0, 3
CAPTIONS = [
    "a red square",
    "A drawing of the blue circle on a white field",
    "unheard-of zebra",
    # Longer than every tower's max_length: it has to be cut and keep its end.
    "a small red square on the left and a large green circle on the right of the bright yellow field",
]


class Graph:
    """Collects nodes and weights; every method returns the name of its result."""

    def __init__(self, seed, int8=False):
        self.random, self.int8 = np.random.default_rng(seed), int8
        self.nodes, self.weights, self.count = [], [], 0

    def constant(self, array):
        self.count += 1
        name = f"w{self.count}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape, scale=None):
        scale = scale if scale is not None else 1.0 / np.sqrt(np.prod(shape[:-1]))
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def add(self, op, *inputs, name=None, **attributes):
        self.count += 1
        name = name or f"t{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def norm(self, x, width):
        scale = self.constant((1 + 0.1 * self.random.standard_normal(width)).astype(np.float32))
        shift = self.constant((0.1 * self.random.standard_normal(width)).astype(np.float32))
        return self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)

    def linear(self, x, rows, columns):
        bias = self.constant((0.1 * self.random.standard_normal(columns)).astype(np.float32))
        product = self.integers(x, rows, columns) if self.int8 else self.add("MatMul", x, self.weight(rows, columns))
        return self.add("Add", product, bias)

    def integers(self, x, rows, columns):
        """x times a matrix of int8, x in unsigned bytes by its own range."""
        weight = self.random.standard_normal((rows, columns)) / np.sqrt(rows)
        # Seven bits: x86-64 without VNNI adds two products in 16 bits, and the reference must not saturate there.
        scale = np.abs(weight).max() / 63
        self.count += 1
        bytes_, x_scale, zero = names = [f"{part}{self.count}" for part in ("q", "s", "z")]
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names))
        quantised = self.constant((weight / scale).round().astype(np.int8))
        sums = self.add("MatMulInteger", bytes_, quantised, zero, self.constant(np.int8(0)))
        both = self.add("Mul", x_scale, self.constant(np.float32(scale)))
        return self.add("Mul", self.add("Cast", sums, to=TensorProto.FLOAT), both)

    def block(self, x, width, penalty=None):
        """One transformer block with one head; `penalty` is added to the attention's logits."""
        h = self.norm(x, width)
        q, k, v = (self.linear(h, width, width) for _ in range(3))
        logits = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 2, 1]))
        logits = self.add("Mul", logits, self.constant(np.float32(1 / np.sqrt(width))))
        if penalty is not None:
            logits = self.add("Add", logits, penalty)
        attended = self.add("MatMul", self.add("Softmax", logits, axis=-1), v)
        x = self.add("Add", x, self.linear(attended, width, width))
        h = self.linear(self.norm(x, width), width, 2 * width)
        half = self.constant(np.float32(0.5))
        erf = self.add("Erf", self.add("Mul", h, self.constant(np.float32(np.sqrt(0.5)))))
        gelu = self.add("Mul", self.add("Mul", h, half), self.add("Add", erf, self.constant(np.float32(1))))
        return self.add("Add", x, self.linear(gelu, 2 * width, width))

    def model(self, inputs, outputs):
        graph = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="captiond-tests")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def floats(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def ids(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))


def vit(seed, size, patch, width, class_token, output, out_width, int8=False):
    """output: "projected" [1, out], "tokens" [1, T, width]."""
    g = Graph(seed, int8)
    x = g.add("Conv", "pixels", g.weight(width, 3, patch, patch, scale=0.15), strides=[patch, patch])
    positions = (size[0] // patch) * (size[1] // patch)
    x = g.add("Reshape", x, g.constant(np.array([1, width, positions], np.int64)))
    x = g.add("Transpose", x, perm=[0, 2, 1])
    if class_token:
        x = g.add("Concat", g.weight(1, 1, width, scale=0.5), x, axis=1)
        positions += 1
    x = g.add("Add", x, g.weight(1, positions, width, scale=0.3))
    x = g.block(x, width)
    if output == "tokens":
        # Unlike a layer norm's output, no direction is lost: what is pooled can be mapped back.
        g.linear(x, width, width)
        g.nodes[-1].output[0] = "tokens"
        out = floats("tokens", 1, positions, width)
    else:
        first = g.add("Gather", g.norm(x, width), g.constant(np.int64(0)), axis=1)
        g.add("MatMul", first, g.weight(width, out_width), name="projected")
        out = floats("projected", 1, out_width)
    return g.model([floats("pixels", 1, 3, *size)], [out])


def convnet(seed, size, channels):
    g = Graph(seed)
    x = "pixels"
    for before, after in ((3, 8), (8, channels)):
        kernel = g.weight(after, before, 3, 3, scale=0.35 / np.sqrt(before))
        bias = g.constant((0.2 * g.random.standard_normal(after)).astype(np.float32))
        x = g.add("Conv", x, kernel, bias, strides=[2, 2], pads=[1, 1, 1, 1])
        x = g.add("Clip", x, g.constant(np.float32(0)), g.constant(np.float32(6)))
    g.add("Identity", x, name="features")
    return g.model([floats("pixels", 1, 3, *size)], [floats("features", 1, channels, size[0] // 4, size[1] // 4)])


def words(g, width):
    return g.add("Gather", g.weight(len(SPECIAL) + len(WORDS), width, scale=1.0), "input_ids", axis=0)


def text_fixed(seed, length, width, out, int8=False):
    """out: "end" [1, length, width] behind a causal mask, "first" the same without it, "pooled" [1, width]."""
    g = Graph(seed, int8)
    x = g.add("Add", words(g, width), g.weight(1, length, width, scale=0.3))
    penalty = None
    if out == "end":
        penalty = g.constant(np.triu(np.full((1, length, length), -1e4, np.float32), 1))
    x = g.norm(g.block(x, width, penalty), width)
    if out == "pooled":
        last = g.add("Gather", x, g.constant(np.int64(length - 1)), axis=1)
        mean = g.add("ReduceMean", x, axes=[1], keepdims=0)
        g.add("MatMul", g.add("Add", last, mean), g.weight(width, width), name="text")
        value = floats("text", 1, width)
    else:
        g.linear(x, width, width)
        g.nodes[-1].output[0] = "hidden"
        value = floats("hidden", 1, length, width)
    return g.model([ids("input_ids", 1, length)], [value])


def text_masked(seed, longest, width):
    """Any length up to `longest`; padding is kept out of the attention by the mask."""
    g = Graph(seed)
    one, nought = g.constant(np.array([1], np.int64)), g.constant(np.array([0], np.int64))
    length = g.add("Slice", g.add("Shape", "input_ids"), one, g.constant(np.array([2], np.int64)))
    table = g.weight(longest, width, scale=0.3)
    positions = g.add("Slice", table, nought, length, nought)
    x = g.add("Add", words(g, width), positions)
    mask = g.add("Unsqueeze", g.add("Cast", "attention_mask", to=TensorProto.FLOAT), one)
    penalty = g.add("Mul", g.add("Sub", g.constant(np.float32(1)), mask), g.constant(np.float32(-1e4)))
    g.linear(g.block(x, width, penalty), width, width)
    g.nodes[-1].output[0] = "hidden"
    shape = [1, "length"]
    return g.model([ids("input_ids", *shape), ids("attention_mask", *shape)], [floats("hidden", 1, "length", width)])


def tokenizer():
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", END)]
    )
    return made


def pictures():
    """A wide and a tall one, smooth with one hard edge, all three channels different."""
    for name, width, height in (("wide.png", 53, 37), ("tall.png", 29, 64)):
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        red = 255 * x / width
        green = 127 + 120 * np.sin(y / 5)
        blue = np.where((x - width / 2) ** 2 + (y - height / 3) ** 2 < 120, 230, 30 + 60 * y / height)
        yield name, Image.fromarray(np.stack([red, green, blue], -1).round().astype(np.uint8))


FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


def resize(picture, spec):
    """torchvision's Resize."""
    height, width = spec["size"]
    full = (width, height)
    if spec["resize"] == "shortest-edge":
        edge, (w, h) = spec.get("shortest_edge", min(height, width)), picture.size
        full = (edge, int(edge * h / w)) if w <= h else (int(edge * w / h), edge)
    return picture.resize(full, FILTERS[spec["interpolation"]])


def normalise(picture, spec):
    """torchvision's CenterCrop and Normalize."""
    height, width = spec["size"]
    left, top = (int(round((picture.width - width) / 2.0)), int(round((picture.height - height) / 2.0)))
    picture = picture.crop((left, top, left + width, top + height))
    pixels = np.asarray(picture).astype(np.float64).transpose(2, 0, 1) / 255
    if spec.get("channels") == "bgr":
        pixels = pixels[::-1]
    mean, std = (np.array(spec[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    return ((pixels - mean) / std)[None].astype(np.float32)


def unit(vector):
    vector = vector.astype(np.float64)
    return [round(float(v), 7) for v in vector / np.linalg.norm(vector)]


def embed_picture(session, picture, spec):
    (out,) = session.run([spec["output"]], {"pixels": normalise(picture, spec)})
    if spec["pooling"] == "none":
        return unit(out[0])
    if spec["pooling"] == "cls":
        return unit(out[0, 0])
    return unit(out[0].mean(0) if out.ndim == 3 else out[0].mean((1, 2)))


def embed_caption(session, made, caption, spec):
    made.enable_truncation(spec["max_length"])
    tokens = made.encode(spec.get("prefix", "") + caption).ids
    used = len(tokens)
    if "pad_id" in spec:
        tokens = tokens + [spec["pad_id"]] * (spec["max_length"] - used)
    inputs = {"input_ids": np.array([tokens], np.int64)}
    if "attention_mask" in spec:
        inputs["attention_mask"] = np.array([[int(i < used) for i in range(len(tokens))]], np.int64)
    (out,) = session.run([spec["output"]], inputs)
    pooled = {
        "none": lambda: out[0],
        "cls": lambda: out[0, 0],
        "mean": lambda: out[0, :used].mean(0),
        "end-of-text": lambda: out[0, tokens.index(spec.get("end_of_text_id"))],
    }
    return unit(pooled[spec["pooling"]]())


def toml(value):
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value)


def write_pack(name, image, text, image_spec, text_spec):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    made = tokenizer()
    files = {"image.onnx": image, "text.onnx": text, "tokenizer.json": made.to_str().encode()}
    lines = ["# Made by tests/tiny_packs/make.py", "format = 1", f'name = "tiny-{name}"', 'version = "1.0.0"']
    for section, spec in (("image_tower", image_spec), ("text_tower", text_spec)):
        lines += ["", f"[{section}]"] + [f"{key} = {toml(value)}" for key, value in spec.items()]
    for file, content in files.items():
        (folder / file).write_bytes(content)
        lines += ["", f'[files."{file}"]', f'sha256 = "{hashlib.sha256(content).hexdigest()}"']
        lines += ['licence = "Apache-2.0"', 'provenance = "tests/tiny_packs/make.py, seeded random weights"']
    (folder / "pack.toml").write_text("\n".join(lines) + "\n")
    eyes, ears = (onnxruntime.InferenceSession(content) for content in (image, text))
    # Resized by Pillow, before the crop: what captiond's own resize has to come close to.
    resized = {f"resized_{n}": resize(p, image_spec) for n, p in pictures()}
    for file, small in resized.items():
        small.save(folder / file, optimize=True)
    reference = {
        "images": {n: embed_picture(eyes, p, image_spec) for n, p in resized.items()},
        "captions": {c: embed_caption(ears, made, c, text_spec) for c in CAPTIONS},
    }
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


def packs():
    for name, seed, width, int8 in (("clip", 1, 16, False), ("int8", 9, 32, True)):
        write_pack(
            name, vit(seed, (24, 24), 8, width, True, "projected", 16, int8), text_fixed(seed + 1, 12, width, "end", int8),
            {"file": "image.onnx", "output": "projected", "pooling": "none", "dimension": 16, "size": [24, 24],
             "resize": "shortest-edge", "shortest_edge": 28, "interpolation": "bicubic",
             "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
            {"file": "text.onnx", "tokenizer": "tokenizer.json", "output": "hidden", "pooling": "end-of-text",
             "dimension": width, "max_length": 12, "pad_id": PAD, "end_of_text_id": END},
        )
    write_pack(
        "cls", vit(3, (16, 24), 8, 24, True, "tokens", None), text_fixed(4, 10, 16, "first"),
        {"file": "image.onnx", "output": "tokens", "pooling": "cls", "dimension": 24, "size": [16, 24],
         "resize": "shortest-edge", "shortest_edge": 24, "interpolation": "bilinear", "channels": "bgr",
         "mean": [0.406, 0.456, 0.485], "std": [0.225, 0.224, 0.229]},
        {"file": "text.onnx", "tokenizer": "tokenizer.json", "output": "hidden", "pooling": "cls",
         "dimension": 16, "max_length": 10, "pad_id": PAD, "prefix": "a drawing of "},
    )
    write_pack(
        "convnet", convnet(5, (20, 28), 16), text_masked(6, 14, 16),
        {"file": "image.onnx", "output": "features", "pooling": "average", "dimension": 16, "size": [20, 28],
         "resize": "stretch", "interpolation": "bicubic",
         "mean": [0.498, 0.5, 0.25], "std": [0.502, 0.5, 0.4]},
        {"file": "text.onnx", "tokenizer": "tokenizer.json", "attention_mask": "attention_mask",
         "output": "hidden", "pooling": "mean", "dimension": 16, "max_length": 14, "prefix": "a photo of "},
    )
    write_pack(
        "siglip", vit(7, (16, 16), 4, 12, False, "tokens", None), text_fixed(8, 16, 20, "pooled"),
        {"file": "image.onnx", "output": "tokens", "pooling": "average", "dimension": 12, "size": [16, 16],
         "resize": "stretch", "interpolation": "lanczos", "mean": [0.5] * 3, "std": [0.5] * 3},
        {"file": "text.onnx", "tokenizer": "tokenizer.json", "output": "text", "pooling": "none",
         "dimension": 20, "max_length": 16, "pad_id": END},
    )


def patches():
    """Four flat patches of 16 x 16 in CMYK, 0 to 255 of ink."""
    inks = [(0, 220, 220, 10), (200, 20, 220, 30), (230, 150, 0, 60), (20, 10, 40, 0)]
    sheet = np.zeros((32, 32, 4), np.uint8)
    for index, ink in enumerate(inks):
        y, x = divmod(index, 2)
        sheet[16 * y:16 * y + 16, 16 * x:16 * x + 16] = ink
    return sheet


def jpeg(sheet):
    out = io.BytesIO()
    Image.fromarray(sheet, "CMYK").save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def odd_pictures():
    """CMYK JPEGs in the three forms that exist, and the colours that Pillow reads in them."""
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    for name, picture in pictures():
        picture.save(folder / name)
    sheet = patches()
    # Pillow writes an Adobe marker (transform 0) and inverted inks, as Photoshop does.
    adobe = jpeg(sheet)
    at = adobe.index(b"\xff\xee")
    length = int.from_bytes(adobe[at + 2:at + 4], "big")
    assert adobe[at + 4:at + 9] == b"Adobe" and adobe[at + 15] == 0
    # YCCK: the inverted inks as YCbCr, and the marker says so (transform 2).
    inverted = 255 - sheet
    ycc = np.asarray(Image.fromarray(inverted[..., :3], "RGB").convert("YCbCr"))
    ycck = bytearray(jpeg(255 - np.concatenate([ycc, inverted[..., 3:]], -1)))
    ycck[ycck.index(b"\xff\xee") + 15] = 2
    # Without the marker the inks stand as they are.
    plain = jpeg(255 - sheet)
    start = plain.index(b"\xff\xee")
    files = {
        "cmyk_adobe.jpg": adobe,
        "cmyk_ycck.jpg": bytes(ycck),
        "cmyk_plain.jpg": plain[:start] + plain[start + 2 + length:],
    }
    colours = {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        read = Image.open(io.BytesIO(content))
        assert read.mode == "CMYK"
        rgb = np.asarray(read.convert("RGB"))
        colours[name] = [[int(v) for v in rgb[y, x]] for y, x in ((8, 8), (8, 24), (24, 8), (24, 24))]
    (folder / "colours.json").write_text(json.dumps(colours, indent=1) + "\n")


if __name__ == "__main__":
    packs()
    odd_pictures()
