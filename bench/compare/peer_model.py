# SPDX-License-Identifier: Apache-2.0
"""The models and batches of plain PyTorch: transformers' classes, from the files that the other side reads."""
import functools

import tokenizers
import torch
import transformers
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

import peer_data
from cases import AUDIO, BATCHES, CLIPS, LENGTH, PICTURES, ROWS, SHAPE, TOKENS, VISION

# Time, height and width share the 32 frequencies of a head as in Qwen2-VL.
MROPE = {"rope_type": "default", "rope_theta": SHAPE["rope_theta"], "mrope_section": [8, 12, 12]}
QWEN2 = {key: value for key, value in SHAPE.items() if key not in ("head_dim", "attention_bias")}


class Listener(torch.nn.Module):
    """An audio encoder whose rows take the places of their tokens in a language model."""
    _no_split_modules = ["Qwen2DecoderLayer", "Qwen2_5OmniAudioEncoderLayer"]

    def __init__(self, text, audio):
        super().__init__()
        self.text, self.audio, self.config = text, audio, text.config

    def forward(self, input_ids, labels, input_features, feature_lens, placeholders, use_cache=False):
        rows = self.audio(input_features, feature_lens=feature_lens).last_hidden_state
        x = self.text.get_input_embeddings()(input_ids)
        x = x.masked_scatter(placeholders[..., None], rows.to(x.dtype))
        return self.text(inputs_embeds=x, labels=labels, use_cache=use_cache)


def text_config(kind):
    if kind in ("dense", "packed"):
        return transformers.Qwen3Config(**SHAPE)
    return transformers.Qwen2Config(**QWEN2)


def picture_config(tokenizer):
    ids = {name: tokenizer.token_to_id(token) for name, token in (
        ("image_token_id", "<|image_pad|>"), ("vision_start_token_id", "<|vision_start|>"),
        ("vision_end_token_id", "<|vision_end|>"))}
    text = {key: value for key, value in QWEN2.items() if key not in ("rope_theta", "tie_word_embeddings")}
    return transformers.Qwen2VLConfig(
        text_config=dict(text, rope_parameters=MROPE), vision_config=dict(VISION, hidden_size=SHAPE["hidden_size"]),
        tie_word_embeddings=False, video_token_id=SHAPE["vocab_size"] - 1, **ids)


def create(folder, kind):
    """Random weights from one seed, saved for both sides."""
    torch.manual_seed(0)
    if kind == "pictures":
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        model = transformers.Qwen2VLForConditionalGeneration(picture_config(tokenizer))
        model.save_pretrained(folder / "model")
        picture_processor().save_pretrained(folder / "model")
        return
    transformers.AutoModelForCausalLM.from_config(text_config(kind)).save_pretrained(folder / "model")
    if kind == "sound":
        Qwen2_5OmniAudioEncoder(Qwen2_5OmniAudioEncoderConfig(**AUDIO)).save_pretrained(folder / "audio")
        sound_processor().save_pretrained(folder / "audio")


def load(folder, kind, attention):
    """In float32, whatever it is computed in: the master of training."""
    options = dict(dtype=torch.float32, attn_implementation=attention)
    if kind == "pictures":
        model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder / "model", **options)
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", **options)
    model.config.use_cache = False
    if kind == "sound":
        model = Listener(model, Qwen2_5OmniAudioEncoder.from_pretrained(folder / "audio", **options))
    return model


def picture_processor():
    # The class that resizes with Pillow: the other needs torchvision.
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    return Qwen2VLImageProcessorPil()


def sound_processor():
    return transformers.WhisperFeatureExtractor(feature_size=AUDIO["num_mel_bins"], chunk_length=300)


@functools.cache
def picture(path):
    from PIL import Image
    with Image.open(path) as image:
        out = picture_processor()(images=[image.convert("RGB")], return_tensors="pt")
    return out["pixel_values"], out["image_grid_thw"]


@functools.cache
def clip(path):
    import soundfile
    sound, rate = soundfile.read(path, dtype="float32")
    out = sound_processor()(sound, sampling_rate=rate, padding=False, return_tensors="pt")
    return out["input_features"][0]


class Batches:
    """Every step's inputs, by number; made before they are needed, as a loader would."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        if kind in ("dense", "packed"):
            lines = (folder / "tokens.txt").read_text().splitlines()
            self.ids = torch.tensor([i for line in lines for i in self.tokenizer.encode(line).ids])
        else:
            self.rows = peer_data.media_rows(kind)

    def __call__(self, number):
        return getattr(self, self.kind)(number % BATCHES)

    def dense(self, number):
        ids = self.ids.view(BATCHES, ROWS, LENGTH)[number]
        return {"input_ids": ids, "labels": ids}

    def packed(self, number):
        """One row of documents. No attention mask is given: transformers sees from the positions where documents begin."""
        ids = self.ids.view(BATCHES, 1, TOKENS)[number]
        lengths = peer_data.packed_lengths()[number]
        labels = ids.clone()
        labels[0, torch.tensor([0, *lengths[:-1]]).cumsum(0)] = -100       # nothing predicts a document's first token
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        return {"input_ids": ids, "labels": labels, "position_ids": positions}

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def text_rows(self, number, begin, pad, end, tokens):
        """Ids and labels [ROWS, LENGTH] of conversations in the template `plain`: only the answer is learned."""
        begin, pad, end = (self.tokenizer.token_to_id(token) for token in (begin, pad, end))
        ids, labels, files = [], [], []
        for numbers, question, answer in self.rows[number * ROWS:(number + 1) * ROWS]:
            asked = [i for _ in numbers for i in [begin, *[pad] * tokens, end]] + self.encode(question) + self.encode("\n")
            said = self.encode(answer) + self.encode("\n")
            ids.append(asked + said)
            labels.append([-100] * len(asked) + said)
            files += numbers
        ids = torch.tensor(ids)
        return ids, torch.tensor(labels), ids == pad, files

    def pictures(self, number):
        ids, labels, pads, files = self.text_rows(number, *peer_data.MEDIA[:3], peer_data.IMAGE_TOKENS)
        parts = [picture(self.folder / "pictures" / f"{n}.png") for n in files]
        assert len(parts) == ROWS * PICTURES
        return {"input_ids": ids, "labels": labels, "mm_token_type_ids": pads.int(),
                "pixel_values": torch.cat([pixels for pixels, _ in parts]), "image_grid_thw": torch.cat([grid for _, grid in parts])}

    def sound(self, number):
        ids, labels, pads, files = self.text_rows(number, *peer_data.MEDIA[3:], peer_data.AUDIO_TOKENS)
        mels = [clip(self.folder / "clips" / f"{n}.wav") for n in files]
        assert len(mels) == ROWS * CLIPS
        return {"input_ids": ids, "labels": labels, "placeholders": pads, "input_features": torch.cat(mels, dim=1),
                "feature_lens": torch.tensor([mel.shape[1] for mel in mels])}
