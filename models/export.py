#!/usr/bin/env python3
"""Makes a model pack of a published CLIP-like model and a language model, on a workstation.

    pip install --no-deps --require-hashes -r models/requirements.txt -r models/export/requirements.txt
    python3 models/export.py --clip openai/clip-vit-base-patch32 --lm google/flan-t5-small --out my-pack

What is left to do then: docs/your-own-model.md. --random-init makes the same pack of random numbers in the
published shapes, without a hub: it says nonsense, and everything else is as it will be.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from export import build, check, configurations, licences, manifest, open_clip_towers, published


def load_towers(args):
    """The towers that --clip names: a folder, a hub name, or one of open_clip's."""
    name = args.clip
    is_folder = pathlib.Path(name).is_dir()
    if not is_folder and "/" not in name:
        if name not in open_clip_towers.names():
            sys.exit(f"--clip {name}: no folder, no hub name (with a slash) and none of open_clip.list_models()")
        if args.pretrained is None and not args.random_init:
            import open_clip

            tags = open_clip.list_pretrained_tags_by_model(name)
            sys.exit(f"--clip {name}: say which weights with --pretrained: {', '.join(tags) or 'there are none'}")
        return open_clip_towers.load(name, None if args.random_init else args.pretrained, args.licence, args.seed)
    if args.random_init:
        return published.random_towers(name, args.seed)
    return published.towers(name, args.revision, args.licence)


def load_language_model(args):
    """The language model that --lm names; none for "none"."""
    if args.lm == "none":
        return None
    name = configurations.SHORT.get(args.lm, args.lm)
    if args.random_init:
        return published.random_language_model(name, args.seed)
    return published.language_model(name, args.lm_revision, args.lm_licence)


def report(towers, model, folder):
    """Prints the self-check; whether all bars were met."""
    rows, good = check.compare_towers(towers, folder)
    for what, apart, cosine, int8 in rows:
        print(f"{what}: f32 against PyTorch: largest difference {apart:.1e} (at most {check.MOST_APART:.0e}), least "
              f"cosine {cosine:.7f}; int8: least cosine {int8:.5f}")  # fmt: skip
        if int8 < check.SUSPICIOUS and towers.kind != "open_clip":
            layers = ", ".join(f"{name} {value:.4f}" for name, value in check.layer_cosines(towers, what))
            print(f"  int8 layer by layer, least cosine over the positions: {layers}")
    if model is not None:
        (apart, cosine, same), fits = check.compare_language_model(model, folder)
        good &= fits
        print(f"language model: f32 against PyTorch: largest difference {apart:.1e} of the logits' deviation (at most "
              f"1e-3); int8: least cosine {cosine:.5f}, first choice the same at {same:.0%} of the places")  # fmt: skip
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    towers_known = ", ".join(configurations.TOWERS)
    parser.add_argument("--clip", required=True, metavar="NAME",
                        help=f"{towers_known}, another hub name of a CLIP or SigLIP, a folder, or an open_clip name")
    parser.add_argument("--lm", default="none", metavar="NAME",
                        help=f"{', '.join(configurations.LANGUAGE_MODELS)}, another T5 or GPT-2, a folder, or none")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the new pack")
    parser.add_argument("--name", help="the pack's name (default: the folder's)")
    parser.add_argument("--pretrained", metavar="TAG", help="open_clip's name of the weights")
    parser.add_argument("--revision", help="of --clip on the hub: branch, tag or commit (its commit is written down)")
    parser.add_argument("--lm-revision", help="of --lm on the hub")
    parser.add_argument("--licence", metavar="SPDX", help="of the towers' weights, where the hub's word is not yours")
    parser.add_argument("--lm-licence", metavar="SPDX", help="of the language model's weights")
    parser.add_argument("--accept-licence", action="append", default=[], metavar="SPDX",
                        help="export although this licence forbids use (may be repeated)")
    parser.add_argument("--retrieved", type=int, default=13, help="captions in the prompt")
    parser.add_argument("--random-init", action="store_true", help="random numbers in the published shape")
    parser.add_argument("--seed", type=int, default=0, help="of --random-init")
    parser.add_argument("--no-check", action="store_true", help="leave the self-check out")
    args = parser.parse_args()
    if (args.out / "pack.toml").exists():
        sys.exit(f"{args.out}: there is a pack in it; give another folder, or remove that one")
    towers, model = load_towers(args), load_language_model(args)
    for part in filter(None, [towers, model]):
        licences.insist(part.origin.name, part.origin.licence, args.accept_licence)
    args.out.mkdir(parents=True, exist_ok=True)
    build.towers(towers, args.out)
    towers.tokenizer.save(str(args.out / "tokenizer.json"), pretty=False)
    if model is not None:
        build.language_model(model, args.out)
        model.tokenizer.save(str(args.out / "decoder_tokenizer.json"), pretty=False)
    import onnx

    graph = onnx.load(args.out / "image.onnx", load_external_data=False).graph
    dimension = next(o.type.tensor_type.shape.dim[1].dim_value for o in graph.output if o.name == "embedding")
    manifest.write(args.out, args.name or args.out.resolve().name, towers, dimension, model, args.retrieved)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {size / 1e6:.1f} MB")
    if not args.no_check and not report(towers, model, args.out):
        sys.exit("the exported graphs are not what PyTorch computes: do not use this pack")


if __name__ == "__main__":
    main()
