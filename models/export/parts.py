"""What the exporter knows of a model before it writes anything."""

import dataclasses
import typing

import numpy as np


@dataclasses.dataclass
class Origin:
    """Where weights come from."""

    name: str
    revision: str
    licence: str

    def sentence(self):
        return f"{self.name}, {self.revision}"


@dataclasses.dataclass
class Towers:
    """Both towers of a dual encoder. `model` is the PyTorch original, for the self-check; `pixels` are the keys of
    pack.toml that describe the preprocessing; `state` the weights by transformers' names (none for towers that are
    traced)."""

    kind: str
    origin: Origin
    model: typing.Any
    config: typing.Any
    state: dict | None
    pixels: dict
    tokenizer: typing.Any
    tokenizer_origin: str


@dataclasses.dataclass
class LanguageModel:
    """A language model with its tokenizer."""

    kind: str
    origin: Origin
    model: typing.Any
    config: typing.Any
    state: dict
    tokenizer: typing.Any
    tokenizer_origin: str


def arrays(state):
    """A PyTorch state dictionary as f32 arrays."""
    return {name: value.detach().float().cpu().numpy() for name, value in state.items() if value.is_floating_point()}


def unit(x):
    """Rows of length one."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
