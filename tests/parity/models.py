# SPDX-License-Identifier: Apache-2.0
"""The models that the parity suite compares with transformers; a new model adds its row."""
from dataclasses import dataclass

import transformers


@dataclass(frozen=True)
class Model:
    """Small configurations of one architecture.

    A layout is what it changes of `base`, and runs on one rank. Those in `sharded` run on several ranks too; the first
    and the last of them (one tied, one untied where the model knows both) also stand for the model in tests of one layout.
    """
    name: str
    config_class: type
    model_class: type
    base: dict
    layouts: dict
    sharded: tuple

    def config(self, layout):
        return {**self.base, **self.layouts[layout]}


MODELS = [
    Model(
        name="qwen3",
        config_class=transformers.Qwen3Config,
        model_class=transformers.Qwen3ForCausalLM,
        base=dict(vocab_size=211, hidden_size=48, intermediate_size=80, num_hidden_layers=3, rms_norm_eps=1e-6),
        layouts={
            "gqa3-tied": dict(num_attention_heads=6, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True),
            "mha-untied": dict(num_attention_heads=4, num_key_value_heads=4, head_dim=12, tie_word_embeddings=False),
            "mqa-untied": dict(num_attention_heads=5, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False),
            "wide-heads-tied": dict(num_attention_heads=2, num_key_value_heads=1, head_dim=64, tie_word_embeddings=True),
            "head128-untied": dict(num_attention_heads=8, num_key_value_heads=2, head_dim=128, hidden_size=72,
                                   tie_word_embeddings=False),
            "bias-theta-tied": dict(num_attention_heads=4, num_key_value_heads=2, head_dim=24, attention_bias=True,
                                    rope_parameters={"rope_type": "default", "rope_theta": 1e6}, hidden_size=40,
                                    tie_word_embeddings=True),
            "one-layer-odd": dict(num_attention_heads=3, num_key_value_heads=3, head_dim=10, hidden_size=33,
                                  num_hidden_layers=1, intermediate_size=49, vocab_size=97, tie_word_embeddings=False),
            "window": dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16, use_sliding_window=True,
                           sliding_window=5, max_window_layers=1, tie_word_embeddings=False),
        },
        sharded=("gqa3-tied", "mha-untied"),
    ),
    Model(
        name="qwen2",
        config_class=transformers.Qwen2Config,
        model_class=transformers.Qwen2ForCausalLM,
        base=dict(vocab_size=211, hidden_size=48, intermediate_size=80, num_hidden_layers=3, rms_norm_eps=1e-6),
        layouts={
            "gqa3-tied": dict(num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True),
            "mha-untied": dict(num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False),
            "own-head-dim-theta-tied": dict(num_attention_heads=3, num_key_value_heads=1, head_dim=24,
                                            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
                                            tie_word_embeddings=True),
            "window": dict(num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True, sliding_window=5,
                           max_window_layers=1, tie_word_embeddings=False),
        },
        sharded=("gqa3-tied", "mha-untied"),
    ),
]
QWEN3 = MODELS[0]
