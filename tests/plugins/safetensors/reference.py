"""Decoders and BERT in numpy, from the definitions of the Hugging Face architectures.

Takes weights under their Hugging Face names and knows nothing of GGUF or of the converter.
"""

import math
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]
Config = dict[str, Any]


def silu(values: np.ndarray) -> np.ndarray:
    return values / (1 + np.exp(-values))


def gelu_tanh(values: np.ndarray) -> np.ndarray:
    return 0.5 * values * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def gelu(values: np.ndarray) -> np.ndarray:
    return 0.5 * values * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))


def softmax(scores: np.ndarray) -> np.ndarray:
    chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return chances / chances.sum(axis=-1, keepdims=True)


def is_gemma(config: Config) -> bool:
    return config["model_type"].startswith("gemma")


def scaling_of(config: Config, *, local: bool) -> Config:
    """The fields of the rotary positions of a layer, whichever form the config has."""
    said = dict(config.get("rope_parameters") or {})
    if "full_attention" in said:
        return dict(said["sliding_attention" if local else "full_attention"])
    if not said:
        said = dict(config.get("rope_scaling") or {})
        said["rope_theta"] = config.get("rope_theta", 10_000.0)
    if local:
        return {"rope_theta": config.get("rope_local_base_freq", said["rope_theta"])}
    return said


def frequencies(config: Config, dims: int, length: int, *, local: bool) -> tuple[np.ndarray, float]:
    """Inverse frequencies of half as many as there are dimensions, and what cos and sin gain."""
    said = scaling_of(config, local=local)
    theta, kind = said["rope_theta"], said.get("rope_type", said.get("type", "default"))
    inverse = 1.0 / theta ** (np.arange(0, dims, 2) / dims)
    original = said.get(
        "original_max_position_embeddings",
        config.get("original_max_position_embeddings", config["max_position_embeddings"]),
    )
    if kind == "linear":
        return inverse / said["factor"], 1.0
    if kind == "llama3":
        return np.array([llama3(one, said, original) for one in inverse]), 1.0
    if kind == "yarn":
        return yarn(inverse, said, original, dims)
    if kind == "longrope":
        scale = config["max_position_embeddings"] / original
        table = said["long_factor" if length > original else "short_factor"]
        return inverse / np.array(table), math.sqrt(1 + math.log(scale) / math.log(original))
    return inverse, 1.0


def llama3(inverse: float, said: Config, original: int) -> float:
    wave = 2 * math.pi / inverse
    if wave < original / said["high_freq_factor"]:
        return inverse
    if wave > original / said["low_freq_factor"]:
        return inverse / said["factor"]
    smooth = (original / wave - said["low_freq_factor"]) / (
        said["high_freq_factor"] - said["low_freq_factor"]
    )
    return (1 - smooth) * inverse / said["factor"] + smooth * inverse


def yarn(inverse: np.ndarray, said: Config, original: int, dims: int) -> tuple[np.ndarray, float]:
    theta, factor = said["rope_theta"], said["factor"]

    def dimension(rotations: float) -> float:
        return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension(said.get("beta_fast", 32))), 0)
    high = min(math.ceil(dimension(said.get("beta_slow", 1))), dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0, 1)
    gain = said.get("attention_factor") or 0.1 * math.log(factor) + 1.0
    return inverse / factor * ramp + inverse * (1 - ramp), gain


def rotated(heads: np.ndarray, inverse: np.ndarray, gain: float) -> np.ndarray:
    """`heads` is (tokens, heads, numbers); the first numbers turn, halves against each other."""
    half = len(inverse)
    angles = np.arange(len(heads))[:, None] * inverse[None, :]
    cosine, sine = np.cos(angles)[:, None, :] * gain, np.sin(angles)[:, None, :] * gain
    first, second, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    return np.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine, rest], axis=-1
    )


class Decoder:
    """A forward pass over all tokens of one text."""

    def __init__(self, weights: Weights, config: Config) -> None:
        self.weights = {name: one.astype(np.float64) for name, one in weights.items()}
        self.config = config
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads") or self.heads
        self.head = config.get("head_dim") or config["hidden_size"] // self.heads

    def logits(self, ids: list[int]) -> np.ndarray:
        rows = self.weights["model.embed_tokens.weight"][ids]
        if is_gemma(self.config):
            rows = rows * math.sqrt(self.config["hidden_size"])
        for layer in range(self.config["num_hidden_layers"]):
            rows = self.layer(rows, layer)
        rows = self.norm(rows, "model.norm")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        logits = rows @ head.T
        if cap := self.config.get("final_logit_softcapping"):
            logits = np.tanh(logits / cap) * cap
        return logits

    def norm(self, rows: np.ndarray, name: str) -> np.ndarray:
        scale = self.weights[f"{name}.weight"] + (1.0 if is_gemma(self.config) else 0.0)
        size = np.sqrt((rows**2).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return rows / size * scale

    def linear(self, rows: np.ndarray, name: str) -> np.ndarray:
        return rows @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def layer(self, rows: np.ndarray, layer: int) -> np.ndarray:
        at = f"model.layers.{layer}"
        attended = self.attention(self.norm(rows, f"{at}.input_layernorm"), layer)
        if f"{at}.post_feedforward_layernorm.weight" in self.weights:
            rows = rows + self.norm(attended, f"{at}.post_attention_layernorm")
            inner = self.mlp(self.norm(rows, f"{at}.pre_feedforward_layernorm"), f"{at}.mlp")
            return rows + self.norm(inner, f"{at}.post_feedforward_layernorm")
        rows = rows + attended
        return rows + self.mlp(self.norm(rows, f"{at}.post_attention_layernorm"), f"{at}.mlp")

    def mlp(self, rows: np.ndarray, at: str) -> np.ndarray:
        activation = gelu_tanh if is_gemma(self.config) else silu
        if f"{at}.gate_up_proj.weight" in self.weights:
            gate, up = np.split(self.linear(rows, f"{at}.gate_up_proj"), 2, axis=-1)
        else:
            gate, up = (self.linear(rows, f"{at}.{name}_proj") for name in ("gate", "up"))
        return self.linear(activation(gate) * up, f"{at}.down_proj")

    def projections(self, rows: np.ndarray, at: str) -> list[np.ndarray]:
        if f"{at}.qkv_proj.weight" in self.weights:
            sizes = [self.heads * self.head, (self.heads + self.kv_heads) * self.head]
            parts = np.split(self.linear(rows, f"{at}.qkv_proj"), sizes, axis=-1)
        else:
            parts = [self.linear(rows, f"{at}.{name}_proj") for name in "qkv"]
        return [part.reshape(len(rows), -1, self.head) for part in parts]

    def attention(self, rows: np.ndarray, layer: int) -> np.ndarray:
        at = f"model.layers.{layer}.self_attn"
        query, key, value = self.projections(rows, at)
        if f"{at}.q_norm.weight" in self.weights:
            query, key = self.norm(query, f"{at}.q_norm"), self.norm(key, f"{at}.k_norm")
        local = self.is_local(layer)
        if self.is_rotated(layer):
            said = self.config.get("rope_parameters") or {}
            share = self.config.get("partial_rotary_factor", said.get("partial_rotary_factor", 1.0))
            dims = int(self.head * share)
            inverse, gain = frequencies(self.config, dims, len(rows), local=local)
            query, key = rotated(query, inverse, gain), rotated(key, inverse, gain)
        share = self.heads // self.kv_heads
        key, value = np.repeat(key, share, axis=1), np.repeat(value, share, axis=1)
        scale = self.config.get("query_pre_attn_scalar", self.head) ** -0.5
        scores = np.einsum("qhd,khd->hqk", query, key) * scale
        if cap := self.config.get("attn_logit_softcapping"):
            scores = np.tanh(scores / cap) * cap
        mixed = np.einsum("hqk,khd->qhd", softmax(self.masked(scores, local=local)), value)
        return self.linear(mixed.reshape(len(rows), -1), f"{at}.o_proj")

    def masked(self, scores: np.ndarray, *, local: bool) -> np.ndarray:
        length = scores.shape[-1]
        distance = np.arange(length)[:, None] - np.arange(length)[None, :]
        hidden = distance < 0
        if local:
            hidden |= distance >= self.config["sliding_window"]
        return np.where(hidden, -np.inf, scores)

    def is_local(self, layer: int) -> bool:
        if "sliding_window" not in self.config or not is_gemma(self.config):
            return False
        if kinds := self.config.get("layer_types"):
            return kinds[layer] == "sliding_attention"
        step = 2 if self.config["model_type"] == "gemma2" else 6
        return (layer + 1) % step != 0

    def is_rotated(self, layer: int) -> bool:
        return self.config["model_type"] != "smollm3" or (layer + 1) % 4 != 0


def bert_rows(weights: Weights, config: Config, ids: list[int]) -> np.ndarray:
    """The last layer's rows (tokens, width)."""
    offset = config["pad_token_id"] + 1 if config["model_type"] != "bert" else 0
    heads = config["num_attention_heads"]

    def linear(rows: np.ndarray, name: str) -> np.ndarray:
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(rows: np.ndarray, name: str) -> np.ndarray:
        rows = rows - rows.mean(axis=-1, keepdims=True)
        rows = rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + config["layer_norm_eps"])
        return rows * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    rows = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][offset : offset + len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    rows = norm(rows, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        query, key, value = (
            linear(rows, f"{at}.attention.self.{name}").reshape(len(ids), heads, -1)
            for name in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1])
        mixed = np.einsum("hqk,khd->qhd", softmax(scores), value).reshape(len(ids), -1)
        rows = norm(
            rows + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        inner = gelu(linear(rows, f"{at}.intermediate.dense"))
        rows = norm(rows + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return rows
