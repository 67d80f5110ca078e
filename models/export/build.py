"""Writes a model's graphs into a folder under the names that the manifest gives them."""

from . import clip_towers, gpt2, manifest, open_clip_towers, siglip_towers, t5


def towers(given, folder, quantise=True, taps=False):
    """image.onnx and text.onnx."""
    image, text = folder / "image.onnx", folder / "text.onnx"
    if given.kind == "open_clip":
        open_clip_towers.build(given, image, text, quantise)
        return
    writer = {"clip": clip_towers, "siglip": siglip_towers}[given.kind]
    writer.build_image(given.state, given.config, image, quantise, taps)
    writer.build_text(given.state, given.config, text, quantise, taps)


def language_model(given, folder, quantise=True):
    """decoder.onnx, and encoder.onnx where there is an encoder."""
    vocabulary = given.tokenizer.get_vocab_size(with_added_tokens=True)
    if given.kind == "t5":
        t5.build_encoder(given.state, given.config, folder / "encoder.onnx", manifest.PROMPT_TOKENS, quantise)
        t5.build_decoder(given.state, given.config, folder / "decoder.onnx", vocabulary, quantise)
    else:
        gpt2.build_decoder(given.state, given.config, folder / "decoder.onnx", vocabulary, quantise)
