#!/usr/bin/env python3
"""One peer on some pictures, called by benches/peers: contender.py PEER WORK PICTURE ...

Prints the processor seconds from the start of the process to its first result, then a list: the milliseconds of
processor time that each further picture took.
"""

import json
import os
import pathlib
import sys
import time

# Tokens of a caption; random weights would never end by themselves, so every peer makes so many.
TOKENS = 10


def pixels(path, side, mean, std):
    """A picture as [1, 3, side, side]."""
    import numpy as np
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    values = (np.asarray(picture, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def clip(path):
    run = session(path).run
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return lambda picture: run(["embedding"], {"pixels": pixels(picture, 224, mean, std)})


def faster_clip(work):
    """It wants the file as bytes. Its weights are where it would keep what it downloads."""
    os.environ["FASTER_CLIP_CACHE"] = str(work / "clip/faster-clip")
    from faster_clip import ClipModel

    model = ClipModel()
    return lambda picture: model.encode_image([pathlib.Path(picture).read_bytes()])


def smolvlm(work):
    """One tile of 512 x 512, which becomes 64 embeddings, the tokens around it and a short question; then greedily.

    That is the least it can be asked for: as published, it cuts a picture into up to 16 tiles and looks at all of
    them besides the whole. Tokens are numbers here: which ones doesn't matter, since the weights are random.
    """
    import ctypes

    import llama_cpp
    from llama_cpp import mtmd_cpp as mtmd
    from PIL import Image

    folder = work / "smolvlm"
    model = llama_cpp.Llama(str(folder / "text.gguf"), n_ctx=512, n_threads=1, n_threads_batch=1, n_gpu_layers=0,
                            verbose=False)  # fmt: skip
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu, settings.print_timings, settings.n_threads, settings.warmup = False, False, 1, False
    vision = mtmd.mtmd_init_from_file(str(folder / "mmproj.gguf").encode(), model.model, settings)
    marker = mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)

    def image_chunk(chunks):
        """The whole picture comes first, the tiles after it."""
        for number in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, number)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                assert mtmd.mtmd_input_chunk_get_n_tokens(chunk) == 64
                return chunk
        raise SystemExit("llama.cpp found no picture in its input")

    def say(picture):
        rgb = Image.open(picture).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).tobytes()
        bitmap = mtmd.mtmd_bitmap_init(512, 512, (ctypes.c_uint8 * len(rgb)).from_buffer_copy(rgb))
        chunks = mtmd.mtmd_input_chunks_init()
        assert mtmd.mtmd_tokenize(vision, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1) == 0
        model.reset()
        model.eval(list(range(300, 305)))  # <|im_start|>User:<fake_token_around_image><global-img>
        past = ctypes.c_int32(0)
        failed = mtmd.mtmd_helper_eval_chunk_single(
            vision, model.ctx, image_chunk(chunks), model.n_tokens, 0, model.n_batch, False, ctypes.byref(past))
        assert failed == 0
        model.n_tokens = past.value
        model.eval(list(range(305, 317)))  # the end of the picture, "Describe this image.", who speaks next
        for _ in range(TOKENS):
            model.eval([model.sample(temp=0.0)])
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)

    return say


def blip(work):
    import torch
    from transformers import BlipForConditionalGeneration

    torch.set_num_threads(1)
    model = BlipForConditionalGeneration.from_pretrained(work / "blip").eval()
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

    @torch.inference_mode()
    def say(picture):
        values = torch.from_numpy(pixels(picture, 384, mean, std))
        model.generate(pixel_values=values, min_new_tokens=TOKENS, max_new_tokens=TOKENS, num_beams=1, do_sample=False)

    return say


def vit_gpt2(work):
    """The encoder's graph also gives every layer's keys and values of the picture; the decoder's keeps the past."""
    import numpy as np

    encode, decode = (session(work / f"vit-gpt2/{part}.onnx") for part in ("encoder", "decoder"))
    of_picture = [output.name for output in encode.get_outputs()]
    present = [output.name for output in decode.get_outputs()][1:]

    def say(picture):
        given = dict(zip(of_picture, encode.run(None, {"pixels": pixels(picture, 224, [0.5] * 3, [0.5] * 3)})))
        given |= {name.replace("present", "past"): np.zeros((1, 12, 0, 64), np.float32) for name in present}
        token = 50256  # which begins a caption
        for place in range(TOKENS):
            step = {"token": np.array([[token]]), "place": np.array([place])}
            logits, *kept = decode.run(None, given | step)
            given |= {name.replace("present", "past"): values for name, values in zip(present, kept)}
            token = int(logits[0, -1].argmax())

    return say


def main():
    peer, work, *pictures = sys.argv[1], *map(pathlib.Path, sys.argv[2:])
    made = {
        "clip-fp32": lambda: clip(work / "clip/fp32/image.onnx"),
        "clip-int8": lambda: clip(work / "clip/dynamic.onnx"),
        "faster-clip": lambda: faster_clip(work),
        "smolvlm": lambda: smolvlm(work),
        "blip": lambda: blip(work),
        "vit-gpt2": lambda: vit_gpt2(work),
    }[peer]()
    made(pictures[0])
    print(json.dumps(time.process_time()), flush=True)
    taken = []
    for picture in pictures[1:]:
        begin = time.process_time()
        made(picture)
        taken.append(1e3 * (time.process_time() - begin))
    print(json.dumps(taken), flush=True)
    os._exit(0)  # llama.cpp's and the mmproj's order of closing down is of no interest


if __name__ == "__main__":
    main()
