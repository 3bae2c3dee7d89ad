# SPDX-License-Identifier: Apache-2.0
"""transformers' processor of Qwen2-VL's pictures."""
# The other one wants torchvision, of which PyPI has no build for the CPU's torch.
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


def qwen2_vl_pictures(**settings):
    """A processor of its own: transformers writes the sizes it is given into a dict that all its processors share."""
    shared = Qwen2VLImageProcessorPil.size
    Qwen2VLImageProcessorPil.size = dict(shared)
    try:
        return Qwen2VLImageProcessorPil(**settings)
    finally:
        Qwen2VLImageProcessorPil.size = shared
