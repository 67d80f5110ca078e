#!/usr/bin/env python3
"""Trains the caption decoder of the default pack.

    python3 models/train_decoder.py --data ../shared/data --work target/decoder train
    python3 models/train_decoder.py --data ../shared/data --work target/decoder reinforce
    python3 models/train_decoder.py --data ../shared/data --work target/decoder export

  train      cross-entropy on Flickr8k's training photographs and COCO's captions alone
  reinforce  self-critical training from there: CIDEr-D of what it samples (Rennie et al., arXiv
             1612.00563, with the mean of the other samples as the baseline, arXiv 2003.09971)
  export     ONNX graphs with int8 weights and the tokenizer, into the pack

A run has a name (--name). It is seeded, writes a checkpoint after every epoch and goes on from the
last one when it's started again. Its curve goes to models/decoder/runs/NAME.jsonl, a line an epoch.
Needs the embeddings that captiond computed: --caption-cache, and `captiond embed --captions` of the
COCO captions, one a line, picture by picture (--coco-embeddings; build_default.py writes them so).
"""

import argparse
import dataclasses
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from decoder import generate, prepare, text
from decoder.batches import PARTS, Batches
from decoder.cider import CiderD
from decoder.data import pad
from decoder.model import Config, Decoder

HERE = pathlib.Path(__file__).resolve().parent
EMA = 0.998
SAMPLES = 5
# Of the policy that self-critical training samples from and improves. At 1 it spends its first epochs on
# getting rid of the flatness that label smoothing left (dev fell from 0.466 to 0.447 in two of them).
TEMPERATURE = 0.5


class Run:
    """A model with its optimiser, average and curve."""

    def __init__(self, args, p, tokenizer):
        self.args, self.p, self.tokenizer = args, p, tokenizer
        self.folder = args.work / args.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.curve = HERE / "decoder" / "runs" / f"{args.name}.jsonl"
        self.curve.parent.mkdir(exist_ok=True)
        torch.manual_seed(args.seed)
        self.config = Config(
            vocabulary=tokenizer.get_vocab_size(), width=args.width, layers=args.layers, dropout=args.dropout,
            texts=args.texts,
        )  # fmt: skip
        self.model = Decoder(self.config)
        self.average = Decoder(self.config)
        self.average.load_state_dict(self.model.state_dict())
        self.dev = CiderD({name: [text.tokens(c) for c in several] for name, several in p.dev.items()})

    def load(self, name):
        """Restores a checkpoint; returns the epochs it has seen, 0 when there is none."""
        path = self.folder / name
        if not path.exists():
            return 0
        saved = torch.load(path, weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.saved_optimiser = saved.get("optimiser")
        return saved["epochs"]

    def load_mixed(self, share):
        """Weights between those of cross-entropy and those of self-critical training (Wortsman et al.,
        arXiv 2109.01903): nearly all of the reward's CIDEr, with most of the fluency and variety that
        the reward costs."""
        if not self.load("train.pt"):
            raise SystemExit(f"{self.folder}: no train.pt there; run `train` first")
        before = {name: value.clone() for name, value in self.average.state_dict().items()}
        if self.load("reinforce.pt"):
            after = self.average.state_dict()
            self.average.load_state_dict({name: torch.lerp(before[name], after[name], share) for name in before})

    def save(self, name, epochs, optimiser):
        part = self.folder / (name + ".part")
        torch.save(
            {
                "model": self.model.state_dict(), "average": self.average.state_dict(), "epochs": epochs,
                "optimiser": optimiser.state_dict(), "config": dataclasses.asdict(self.config),
            },
            part,
        )  # fmt: skip
        part.rename(self.folder / name)

    def update_average(self, decay):
        with torch.no_grad():
            for ours, theirs in zip(self.average.parameters(), self.model.parameters()):
                ours.lerp_(theirs, 1 - decay)

    def score_dev(self, **options):
        """(mean CIDEr-D by our tokens, mean words) on dev."""
        options = {part: False for part in self.args.hide} | options
        said = generate.say_dev(self.average.eval(), self.tokenizer, self.p, **options)
        scores = [self.dev.score(name, text.tokens(caption)) for name, caption in said.items()]
        return float(np.mean(scores)), float(np.mean([len(c.split()) for c in said.values()]))

    def log(self, **entry):
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()})
        print(line, flush=True)
        with open(self.curve, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def optimiser_for(model, rate, decay):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def train(run, batches):
    """Cross-entropy with label smoothing, cosine schedule with a warm-up."""
    args = run.args
    optimiser = optimiser_for(run.model, args.rate, 0.05)
    first = run.load("train.pt")
    if first:
        optimiser.load_state_dict(run.saved_optimiser)
    per_epoch = math.ceil(len(batches.train) / batches.photographs)
    steps = per_epoch * args.epochs
    for epoch in range(first, args.epochs):
        torch.manual_seed(args.seed * 1000 + epoch)
        run.model.train()
        begun, losses = time.time(), []
        for at, (condition, ids, _) in enumerate(batches.epoch(epoch)):
            step = epoch * per_epoch + at
            rate = args.rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            for group in optimiser.param_groups:
                group["lr"] = rate
            # bfloat16 products take half the time on CPUs that have them, and cost no CIDEr.
            with torch.autocast("cpu", dtype=torch.bfloat16):
                cache = run.model.prefix(*condition.arguments())
                logits = run.model.say(ids[:, :, :-1], cache, condition.seen)
            loss = F.cross_entropy(
                logits.float().flatten(0, 2), ids[:, :, 1:].flatten(), ignore_index=text.PAD, label_smoothing=0.1
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
            optimiser.step()
            run.update_average(min(EMA, (1 + step) / (10 + step)))
            losses.append(loss.item())
        cider, length = run.score_dev()
        run.save("train.pt", epoch + 1, optimiser)
        run.log(stage="train", epoch=epoch + 1, loss=float(np.mean(losses)), dev_cider_greedy=cider,
                mean_words=length, seconds=time.time() - begun)  # fmt: skip


def reinforce(run, batches):
    """Self-critical training on the photographs."""
    args = run.args
    optimiser = optimiser_for(run.model, args.reinforce_rate, 0.0)
    first = run.load("reinforce.pt")
    if first:
        optimiser.load_state_dict(run.saved_optimiser)
    elif not run.load("train.pt"):
        raise SystemExit(f"{run.folder}: no train.pt there; run `train` first")
    else:
        run.model.load_state_dict(run.average.state_dict())
    # The end counts as a word: otherwise sentences that break off after "in a" are rewarded.
    end = ["</s>"]
    reward = CiderD({i: [text.tokens(c) + end for c in several] for i, several in enumerate(run.p.train)})
    generator = torch.Generator()
    for epoch in range(first, args.reinforce_epochs):
        generator.manual_seed(args.seed * 7919 + epoch)
        begun, rewards, losses = time.time(), [], []
        for condition, ids, photographs in batches.epoch(1000 + epoch):
            # Dropout stays off: the samples have to come from the policy whose gradient is taken.
            run.model.eval()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                cache = run.model.prefix(*condition.arguments())
                detached = [(k.detach(), v.detach()) for k, v in cache]
                said = generate.sample(run.model, detached, condition.seen, SAMPLES, TEMPERATURE, generator)
            scores = np.array([
                [reward.score(photo, text.tokens(text.read(run.tokenizer, i)) + (end if text.END in i else [])) for i in several]
                for photo, several in zip(photographs, said.tolist())
            ])  # fmt: skip
            advantage = (scores - (scores.sum(1, keepdims=True) - scores) / (SAMPLES - 1)).astype(np.float32)
            n, m, t = said.shape
            inputs = torch.cat([torch.full((n, m, 1), text.BEGIN), said[:, :, :-1]], 2)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = run.model.say(inputs, cache, condition.seen)
            logits = logits.float() / TEMPERATURE
            logits[..., text.PAD] = logits[..., text.BEGIN] = -1e9
            chosen = logits.log_softmax(-1).gather(3, said.unsqueeze(3)).squeeze(3)
            live = (said != text.PAD).float()
            loss = -(torch.from_numpy(advantage).unsqueeze(2) * chosen * live).sum() / live.sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
            optimiser.step()
            run.update_average(0.98)
            rewards.append(scores.mean())
            losses.append(loss.item())
        cider, length = run.score_dev()
        run.save("reinforce.pt", epoch + 1, optimiser)
        run.log(stage="reinforce", epoch=epoch + 1, reward=float(np.mean(rewards)), dev_cider_greedy=cider,
                mean_words=length, seconds=time.time() - begun)  # fmt: skip


def load_prepared(args):
    coco = load_file(args.coco_embeddings)["captions"]
    p = prepare.prepare(args.pack, args.data, args.work, args.caption_cache, coco)
    path = args.work / "decoder_tokenizer.json"
    if not path.exists():
        captions = [text.clean(c, p.forms) for s in p.train + p.coco for c in s]
        captions += [text.clean(c, p.forms) for c in p.store_captions]
        text.train_tokenizer([c for c in captions if c], args.vocabulary).save(str(path))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    if args.texts:
        cleaned = (text.clean(caption, p.forms) for caption in p.row_captions)
        p.row_ids = pad([tokenizer.encode(c).ids[:14] if c else [] for c in cleaned], 14)
    return p, tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["prepare", "train", "reinforce", "export"])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k and coco")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for features and checkpoints")
    parser.add_argument("--pack", type=pathlib.Path, default=HERE / "default")
    parser.add_argument("--caption-cache", type=pathlib.Path, help="captiond's cache file of caption embeddings")
    parser.add_argument("--coco-embeddings", type=pathlib.Path, help="of `captiond embed --captions`")
    parser.add_argument("--name", default="default", help="of the run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=3500)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--coco", type=int, default=16, help="COCO pictures in each batch, beside 64 photographs")
    parser.add_argument("--retrieved", type=int, default=8, help="captions that the pack's decoder is given")
    parser.add_argument("--texts", type=int, default=0, help="retrieved captions read as words too (experiment)")
    parser.add_argument("--share", type=float, default=0.7, help="of self-critical training in the mixed weights")
    parser.add_argument("--hide", choices=PARTS, action="append", default=[], help="parts never shown (ablation)")
    parser.add_argument("--reinforce-epochs", type=int, default=8)
    parser.add_argument("--reinforce-rate", type=float, default=1e-4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    p, tokenizer = load_prepared(args)
    if args.stage == "prepare":
        return
    run = Run(args, p, tokenizer)
    fixed = {part: part not in args.hide for part in PARTS} if args.hide else None
    batches = lambda coco: Batches(p, tokenizer, run.config.most_tokens, coco=coco, fixed=fixed, texts=args.texts)
    if args.stage == "train":
        train(run, batches(args.coco))
    elif args.stage == "reinforce":
        reinforce(run, batches(0))
    else:
        run.load_mixed(args.share)
        from decoder import export

        state = {name: value.numpy() for name, value in run.average.state_dict().items()}
        export.export(state, run.config, args.work / "decoder_tokenizer.json", args.pack, args.retrieved)


if __name__ == "__main__":
    main()
