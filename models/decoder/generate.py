"""Greedy, sampled and beam decoding in PyTorch, to follow a training run.

What is reported is decoded by captiond; this is its plain counterpart (no reranking, no n-gram rule).
"""

import torch

from .batches import dev_condition
from .text import BEGIN, END, PAD, read


@torch.no_grad()
def sample(model, cache, seen, each=1, temperature=None, generator=None):
    """Token ids [n, each, t], END included and PAD behind it; greedy when `temperature` is None."""
    n = seen.shape[0]
    cache = [(k.repeat_interleave(each, 0), v.repeat_interleave(each, 0)) for k, v in cache]
    seen = seen.repeat_interleave(each, 0)
    ids = torch.full((n * each,), BEGIN)
    done = torch.zeros(n * each, dtype=torch.bool)
    said = []
    for at in range(model.config.most_tokens - 1):
        seen = torch.cat([seen, torch.ones(n * each, 1, dtype=torch.bool)], 1)
        logits, cache = model.step(ids, at, cache, seen)
        logits = logits.float()
        logits[:, PAD] = logits[:, BEGIN] = -1e9
        if temperature is None:
            ids = logits.argmax(1)
        else:
            ids = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
        ids = ids.masked_fill(done, PAD)
        said.append(ids)
        done |= ids == END
        if done.all():
            break
    return torch.stack(said, 1).view(n, each, -1)


@torch.no_grad()
def beam(model, cache, seen, width=3, length_power=0.7):
    """Token ids [n, t] of the best of `width` beams, by log-probability / length^length_power."""
    n = seen.shape[0]
    cache = [(k.repeat_interleave(width, 0), v.repeat_interleave(width, 0)) for k, v in cache]
    seen = seen.repeat_interleave(width, 0)
    ids = torch.full((n * width,), BEGIN)
    score = torch.full((n, width), -1e9)
    score[:, 0] = 0
    said = torch.zeros(n, width, 0, dtype=torch.long)
    best, best_score = [[END]] * n, [-1e9] * n
    for at in range(model.config.most_tokens - 1):
        seen = torch.cat([seen, torch.ones(n * width, 1, dtype=torch.bool)], 1)
        logits, cache = model.step(ids, at, cache, seen)
        logits[:, PAD] = logits[:, BEGIN] = -1e9
        total = score.unsqueeze(2) + logits.log_softmax(1).view(n, width, -1)
        score, at_flat = total.view(n, -1).topk(width, 1)
        parent, token = at_flat // total.shape[2], at_flat % total.shape[2]
        said = torch.cat([said.gather(1, parent.unsqueeze(2).expand(-1, -1, said.shape[2])), token.unsqueeze(2)], 2)
        for i, j in (token == END).nonzero().tolist():
            final = score[i, j].item() / (at + 1) ** length_power
            if final > best_score[i]:
                best_score[i], best[i] = final, said[i, j].tolist()
        score = score.masked_fill(token == END, -1e9)
        if all(s > score[i].max().item() / model.config.most_tokens**length_power for i, s in enumerate(best_score)):
            break
        rows = (torch.arange(n).unsqueeze(1) * width + parent).view(-1)
        cache = [(k[rows], v[rows]) for k, v in cache]
        ids = token.view(-1)
    return best


@torch.no_grad()
def say_dev(model, tokenizer, p, k=8, width=0, count=None, **parts):
    """{photograph: caption} of dev (`p`: as `batches.dev_condition` reads it); greedy, or a beam of `width`.
    `parts`: whole parts of the prefix that are hidden, for `batches.visible`."""
    names = list(p.dev)[:count]
    said = {}
    for start in range(0, len(names), 100):
        block = slice(start, min(start + 100, len(names)))
        condition = dev_condition(p, block, k, model.config.texts, **parts)
        cache = model.prefix(*condition.arguments())
        if width:
            ids = beam(model, cache, condition.seen, width)
        else:
            ids = sample(model, cache, condition.seen)[:, 0].tolist()
        said.update(zip(names[block], (read(tokenizer, caption) for caption in ids)))
    return said
