# SPDX-License-Identifier: Apache-2.0
"""What is compared: shapes, variants, floating-point operations and matrix shapes. No torch here."""
import pathlib
import re
from dataclasses import dataclass

# The language model of every case: a dense Qwen3 (Qwen2 beside encoders), small enough for two cores and wide enough that
# matrix products dominate.
SHAPE = dict(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
             intermediate_size=1536, vocab_size=32768, max_position_embeddings=32768, rms_norm_eps=1e-6,
             rope_theta=1000000.0, tie_word_embeddings=False, initializer_range=0.02, attention_bias=False,
             use_sliding_window=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)
ROWS, LENGTH = 2, 1024
TOKENS = ROWS * LENGTH
BATCHES = 128
DOCUMENT = (64, 512)             # tokens of the packed documents, from and to
VISION = dict(depth=4, embed_dim=256, num_heads=4, mlp_ratio=4, in_channels=3, patch_size=14, spatial_merge_size=2,
              temporal_patch_size=2)
PICTURES, PIXELS = 4, 224        # pictures a row, and their side
AUDIO = dict(num_mel_bins=128, d_model=256, encoder_layers=4, encoder_attention_heads=4, encoder_ffn_dim=1024, n_window=50,
             output_dim=512, max_source_positions=1500)
CLIPS, SECONDS = 2, 4            # clips a row, and their length

OURS, TWO_JOBS = "veomni.cpp", "veomni.cpp, two jobs of one rank"


@dataclass(frozen=True)
class Variant:
    """One trainer with one set of settings."""
    name: str
    trainer: str                 # ours, jobs, pytorch, veomni, torchtitan
    settings: str                # as printed
    arguments: tuple = ()        # of the trainer's script
    warmup: int = 2              # steps before measuring; compilation is over after the second
    rival: bool = True           # a peer whose result is right: the best of these is the one to beat
    key: str = ""                # what --peers calls it


def pytorch(attention, compiled=False, note=""):
    words = ["--attention", attention, *(["--compile"] if compiled else [])]
    name = f"PyTorch {attention}{' compiled' if compiled else ''}"
    settings = (f"FSDP2 + transformers, attention {attention}, "
                f"{'every layer by torch.compile; embedding, head, loss and optimizer eager' if compiled else 'not compiled'}{note}")
    return Variant(name, "pytorch", settings, tuple(words), 3 if compiled else 2, key=attention + ("-compiled" if compiled else ""))


OUR_VARIANT = Variant(OURS, "ours", "FSDP2, own kernels, caching allocator", key="veomni.cpp")
USUAL = (OUR_VARIANT, pytorch("sdpa"), pytorch("eager"), pytorch("sdpa", compiled=True))
PER_DOCUMENT = ", patched: one SDPA call a document"
# Lengths differ from batch to batch: as an operator of the graph they neither break it nor compile it anew.
PER_DOCUMENT_OPERATOR = ", patched: one call of ATen's flash kernel a document, in an operator inside the compiled layer's one graph"
PACKED = (OUR_VARIANT, pytorch("sdpa", note=", block mask as transformers makes it"),
          pytorch("per-document", note=PER_DOCUMENT), pytorch("per-document", compiled=True, note=PER_DOCUMENT_OPERATOR))


@dataclass(frozen=True)
class Case:
    """One model, data and layout. `kind` names what peer_data.py prepares and peer_model.py builds."""
    name: str
    title: str
    kind: str                    # dense, packed, pictures, sound
    dtype: str = "bfloat16"
    ranks: int = 1
    variants: tuple = USUAL
    # The peer's two runs whose difference says how far rounding alone moves a loss curve.
    curves: tuple = ("PyTorch sdpa", "PyTorch eager")
    outside: tuple = ()          # ways in which VeOmni's and TorchTitan's scripts run it, where a checkout is given

    def all_variants(self):
        return [*self.variants, *(OUTSIDE[trainer] for trainer in self.outside)]

    def chosen(self, keys, checkouts):
        """Ours, and the others whose keys are given, all if None. VeOmni and TorchTitan need their checkouts."""
        return [variant for variant in self.all_variants() if variant.trainer == "ours" or
                ((keys is None or variant.key in keys) and checkouts.get(variant.trainer, True))]

    def variant(self, name):
        return next(variant for variant in self.variants if variant.name == name)


OUTSIDE = {
    "veomni": Variant("VeOmni", "veomni", "its TextTrainer, FSDP2, made to run on a CPU (peer_veomni.py): attention by one SDPA "
                      "call a document, other ops eager", key="veomni"),
    "torchtitan": Variant("TorchTitan", "torchtitan", "its Trainer, FSDP2, made to run on a CPU (peer_torchtitan.py): attention "
                          "by one SDPA call a document, not compiled", key="torchtitan"),
}
BOTH = ("veomni", "torchtitan")


def cases_in(dtype):
    word = {"bfloat16": "bf16", "float32": "fp32"}[dtype]
    return (
        Case(f"dense_{word}", f"Dense, {word}, 1 process", "dense", dtype, outside=BOTH),
        Case(f"packed_{word}", f"Packed documents of 64 to 512 tokens, {word}, 1 process", "packed", dtype, variants=PACKED,
             curves=("PyTorch per-document", "PyTorch sdpa"), outside=("veomni",)),
        Case(f"pictures_{word}", f"Vision-language (Qwen2-VL), {word}, 1 process", "pictures", dtype),
        Case(f"sound_{word}", f"Audio (Qwen2.5-Omni's encoder and Qwen2), {word}, 1 process", "sound", dtype),
        Case(f"dense_{word}_2_ranks", f"Dense, {word}, 2 ranks of FSDP2", "dense", dtype, ranks=2, outside=BOTH,
             variants=(OUR_VARIANT, Variant(TWO_JOBS, "jobs", "two trainings that know nothing of each other", rival=False,
                                            key="two-jobs"),
                       pytorch("sdpa"), pytorch("sdpa", compiled=True)), curves=()),
    )


CASES = {case.name: case for dtype in ("bfloat16", "float32") for case in cases_in(dtype)}


def cpu_flags():
    """Instruction sets of this machine's processor, as Linux names them."""
    flags = re.search(r"flags\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return set(flags[1].split()) if flags else set()


def usual_cases():
    """Every case in bfloat16, and the dense one in float32. Without instructions for it PyTorch's bfloat16 products run at
    a hundredth of float32's rate and nobody trains in it: there every case in float32."""
    dtype = "bfloat16" if "avx512_bf16" in cpu_flags() else "float32"
    return list(dict.fromkeys([case.name for case in cases_in(dtype)] + ["dense_fp32"]))


def language_linears():
    """(rows, columns out, depth, times) of every product of the language model's forward over a step's tokens."""
    hidden, layers, inner = SHAPE["hidden_size"], SHAPE["num_hidden_layers"], SHAPE["intermediate_size"]
    queries, keys = (SHAPE[key] * SHAPE["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    return [(TOKENS, queries, hidden, layers), (TOKENS, keys, hidden, 2 * layers), (TOKENS, hidden, queries, layers),
            (TOKENS, inner, hidden, 2 * layers), (TOKENS, hidden, inner, layers),
            (TOKENS, SHAPE["vocab_size"], hidden, 1)]


def picture_linears():
    width, depth = VISION["embed_dim"], VISION["depth"]
    patches = ROWS * PICTURES * (PIXELS // VISION["patch_size"]) ** 2
    merged, joined = patches // VISION["spatial_merge_size"] ** 2, width * VISION["spatial_merge_size"] ** 2
    inputs = VISION["in_channels"] * VISION["temporal_patch_size"] * VISION["patch_size"] ** 2
    return [(patches, width, inputs, 1), (patches, 3 * width, width, depth), (patches, width, width, depth),
            (patches, VISION["mlp_ratio"] * width, width, depth), (patches, width, VISION["mlp_ratio"] * width, depth),
            (merged, joined, joined, 1), (merged, SHAPE["hidden_size"], joined, 1)]


def sound_linears():
    width, layers, inner = AUDIO["d_model"], AUDIO["encoder_layers"], AUDIO["encoder_ffn_dim"]
    frames = ROWS * CLIPS * SECONDS * 100
    half = frames // 2
    return [(frames, width, 3 * AUDIO["num_mel_bins"], 1), (half, width, 3 * width, 1), (half, width, width, 4 * layers),
            (half, inner, width, layers), (half, width, inner, layers), (half // 2, AUDIO["output_dim"], width, 1)]


def linears(kind):
    return language_linears() + {"pictures": picture_linears, "sound": sound_linears}.get(kind, list)()


def matrix_flops(kind):
    """Of a step and rank: forward, and in backward the gradients of both factors."""
    return sum(3 * 2.0 * m * n * k * times for m, n, k, times in linears(kind))


def attention_flops(kind, lengths):
    """Of a step and rank: two products forward and four backward over the pairs that a causal mask leaves; a picture's
    patches and a window's frames see each other."""
    width = SHAPE["num_attention_heads"] * SHAPE["head_dim"]
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    total = 12.0 * pairs * width * SHAPE["num_hidden_layers"]
    if kind == "pictures":
        patches = (PIXELS // VISION["patch_size"]) ** 2
        total += 12.0 * ROWS * PICTURES * patches ** 2 * VISION["embed_dim"] * VISION["depth"]
    if kind == "sound":
        window = AUDIO["n_window"]          # frames after the first halving
        windows = ROWS * CLIPS * SECONDS * 50 // window
        total += 12.0 * windows * window ** 2 * AUDIO["d_model"] * AUDIO["encoder_layers"]
    return total
