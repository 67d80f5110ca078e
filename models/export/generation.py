"""Captions by transformers.generate under captiond's rules: what its own generation is held against."""

import dataclasses

import numpy as np



@dataclasses.dataclass
class Rules:
    """What captiond reads in pack.toml of how a decoder speaks."""

    begin: int | None
    ends: list
    never: list
    most_tokens: int
    beams: int = 3
    length_power: float = 0.7
    min_tokens: int = 3
    no_repeat: int = 3

    @classmethod
    def of(cls, spec, **more):
        """From a parsed pack.toml."""
        d, g = spec["decoder"], spec.get("generation", {})
        ends = [d["end_id"]] * ("end_id" in d) + d.get("end_ids", [])
        given = {"beams": g.get("candidates", 3), "length_power": g.get("length_power", 0.7),
                 "min_tokens": g.get("min_tokens", 3), "no_repeat": g.get("no_repeat", 3)}  # fmt: skip
        return cls(d.get("begin_id"), ends, d.get("never_ids", []), d["max_tokens"], **(given | more))


def generate(model, prompt, method, rules):
    """(ids without the end, sum of their log-probabilities with the end's, whether the end came) of the best caption."""
    import torch

    forbidden = [i for i in [*rules.never, rules.begin] if i is not None and i not in rules.ends]
    # Rows of the model that the tokenizer has no word for: the exported graph leaves them out.
    forbidden += range(model.tokenizer.get_vocab_size(), model.model.get_output_embeddings().weight.shape[0])
    settings = {
        "do_sample": False, "max_new_tokens": rules.most_tokens - 1, "min_new_tokens": rules.min_tokens,
        "no_repeat_ngram_size": rules.no_repeat, "suppress_tokens": sorted(set(forbidden)) or None,
        "eos_token_id": rules.ends, "pad_token_id": rules.ends[0],
        # captiond's probabilities are those among what may be said.
        "renormalize_logits": True, "return_dict_in_generate": True, "output_scores": True,
    }  # fmt: skip
    if method == "beam":
        settings |= {"num_beams": rules.beams, "length_penalty": rules.length_power, "early_stopping": False}
    ids = torch.tensor([prompt])
    if model.kind == "t5":
        start = 1
    else:
        ids = torch.tensor([[rules.begin, *prompt] if rules.begin is not None else prompt])
        start = ids.shape[1]
    with torch.no_grad():
        said = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
    tokens = said.sequences[0, start:].tolist()
    end = next((at for at, token in enumerate(tokens) if token in rules.ends), None)
    length = len(tokens) if end is None else end + 1
    if method == "beam":
        total = float(said.sequences_scores[0]) * length**rules.length_power
    else:
        steps = zip(said.scores, tokens[:length])
        total = float(np.sum([torch.log_softmax(score[0].double(), -1)[token].item() for score, token in steps]))
    return tokens[: length if end is None else end], total, end is not None


