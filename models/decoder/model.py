"""The decoder: a small transformer whose first positions are the frame and the retrieved captions.

Prefix positions see each other, words see the prefix and what was said before (a prefix language
model, Raffel et al., arXiv 1910.10683, section 3.2.1). One stack of weights serves both, and the
prefix's keys and values are computed once for all captions of a picture.

prefix = [grid cells] + [realigned embedding] + [retrieved captions] (+ [their words], an experiment)
  grid cells   the image tower's last map averaged to 3 x 3 cells; pooling it again gives the embedding
  realigned    W (f - mean_x), length one
  retrieved    centred caption embeddings, length one, best first, each with its score
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Config:
    vocabulary: int = 4000
    width: int = 256
    layers: int = 4
    heads: int = 4
    cells: int = 9
    cell_width: int = 1280
    embedding: int = 384
    most_retrieved: int = 20
    most_tokens: int = 22
    # Retrieved captions that are also read as words; 0 in the pack (models/README.md says why).
    texts: int = 0
    dropout: float = 0.25


class Layer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, c):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width)
        self.out = nn.Linear(c.width, c.width)
        self.up, self.down = nn.Linear(c.width, 4 * c.width), nn.Linear(4 * c.width, c.width)
        self.drop = nn.Dropout(c.dropout)

    def split(self, x):
        """[n, s, width] -> query, key, value [n, heads, s, width / heads]."""
        n, s, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def rest(self, x, q, k, v, mask):
        """Attention over the given keys, then the feed-forward."""
        n, s, width = x.shape
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(n, s, width)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))


class Decoder(nn.Module):
    """See the module. `prefix` then `say`, or `prefix` then `step` with a cache."""

    def __init__(self, config):
        super().__init__()
        c = self.config = config
        self.cell = nn.Linear(c.cell_width, c.width)
        self.realigned = nn.Linear(c.embedding, c.width)
        self.retrieved = nn.Linear(c.embedding, c.width)
        self.score = nn.Linear(1, c.width)
        # Positions of the cells, one kind for the realigned, ranks of the retrieved.
        self.place = nn.Parameter(torch.randn(c.cells + 1 + c.most_retrieved, c.width) * 0.02)
        self.text_rank = nn.Parameter(torch.randn(c.texts, c.width) * 0.02) if c.texts else None
        self.word = nn.Embedding(c.vocabulary, c.width)
        self.position = nn.Embedding(c.most_tokens, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.drop = nn.Dropout(c.dropout)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.layers:
            for last in (layer.out, layer.down):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * c.layers))

    def embed_prefix(self, cells, realigned, retrieved, scores):
        """[n, 9, 1280], [n, 384], [n, k, 384], [n, k] -> [n, 9 + 1 + k, width]."""
        c = self.config
        # Embeddings have length one: about the size of a normal vector brings them to the weights' scale.
        parts = [
            self.cell(cells),
            self.realigned(realigned * math.sqrt(c.embedding)).unsqueeze(1),
            self.retrieved(retrieved * math.sqrt(c.embedding)) + self.score(scores.unsqueeze(2)),
        ]
        x = torch.cat(parts, 1)
        return x + self.place[: x.shape[1]]

    def embed_texts(self, texts):
        """Token ids [n, texts, t] -> [n, texts * t, width]."""
        n, count, t = texts.shape
        x = self.word(texts) + self.position.weight[:t] + self.text_rank[:count, None]
        return x.view(n, count * t, -1)

    def prefix(self, cells, realigned, retrieved, scores, seen, texts=None):
        """Keys and values of every layer, each [n, heads, p, d]. `seen` [n, p]: False hides a position."""
        x = self.embed_prefix(cells, realigned, retrieved, scores)
        if texts is not None:
            x = torch.cat([x, self.embed_texts(texts)], 1)
        x = self.drop(x)
        mask = seen[:, None, None, :]
        cache = []
        for layer in self.layers:
            q, k, v = layer.split(x)
            cache.append((k, v))
            x = layer.rest(x, q, k, v, mask)
        return cache

    def say(self, ids, cache, seen):
        """Logits [n, m, t, vocabulary] of m captions a picture, ids [n, m, t], given each word's forerunners."""
        n, m, t = ids.shape
        x = self.drop(self.word(ids.view(n * m, t)) + self.position.weight[:t])
        causal = torch.ones(t, t, dtype=torch.bool).tril()
        mask = torch.cat([seen[:, None, None, :].expand(n, 1, t, -1), causal.expand(n, 1, t, t)], 3)
        mask = mask.repeat_interleave(m, 0)
        for layer, (pk, pv) in zip(self.layers, cache):
            q, k, v = layer.split(x)
            k = torch.cat([pk.repeat_interleave(m, 0), k], 2)
            v = torch.cat([pv.repeat_interleave(m, 0), v], 2)
            x = layer.rest(x, q, k, v, mask)
        return F.linear(self.norm(x), self.word.weight).view(n, m, t, -1)

    def step(self, ids, at, cache, seen):
        """Logits [n, vocabulary] after one more token ids [n] at position `at`, and the longer cache.
        `seen` [n, keys so far + 1]."""
        x = (self.word(ids) + self.position.weight[at]).unsqueeze(1)
        mask = seen[:, None, None, :]
        longer = []
        for layer, (pk, pv) in zip(self.layers, cache):
            q, k, v = layer.split(x)
            k, v = torch.cat([pk, k], 2), torch.cat([pv, v], 2)
            longer.append((k, v))
            x = layer.rest(x, q, k, v, mask)
        return F.linear(self.norm(x[:, -1]), self.word.weight), longer
