"""Random encoders of the papers' architectures, each a few thousand parameters, in the files the real ones come in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import timm
import torch
from timm.models import save_for_hf, vgg
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    RobertaConfig,
    RobertaForMaskedLM,
)

WORDS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "tram", "late", "very", "again", "good", "bad", "the", "is")
SIZES: Final = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
TEXT_LIMIT: Final = 40
"""Positions of the text encoders, fewer than the bench would give a text."""
TIMM: Final[dict[str, dict[str, Any]]] = {
    "resnet50": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
    "vgg19": {"mlp_ratio": 0.001},
    "vit_base_patch16_224": {"embed_dim": 32, "depth": 2, "num_heads": 2},
}


@contextmanager
def narrow_vgg() -> Iterator[None]:
    """VGG-19 at a sixteenth of its width, which timm keeps in a table and takes no argument for."""
    narrow = [size if size == "M" else int(size) // 16 for size in vgg.cfgs["vgg19"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vgg.cfgs, "vgg19", narrow)
        yield


def write_tiny_weights(name: str, folder: Path, *, seed: int = 0) -> Path:
    """folder/name as a user would have it; returns it."""
    torch.manual_seed(seed)
    own = folder / name
    own.mkdir(parents=True)
    if name in TIMM:
        with narrow_vgg():
            network = timm.create_model(name, num_classes=3, **TIMM[name])
        save_for_hf(network, str(own), model_args=TIMM[name], safe_serialization=True)
        return own
    tokenizer = TOKENIZERS[name]()
    tokenizer.save(str(own / "tokenizer.json"))
    _network(name, tokenizer.get_vocab_size()).save_pretrained(own)
    return own


def _network(name: str, vocabulary: int) -> Any:
    """With the heads the published files hold, too."""
    match name:
        case "bert-base-uncased" | "e5-small-v2":
            return BertForMaskedLM(BertConfig(vocab_size=vocabulary, max_position_embeddings=TEXT_LIMIT, **SIZES))
        case "roberta-base":
            return RobertaForMaskedLM(
                RobertaConfig(vocab_size=vocabulary, max_position_embeddings=TEXT_LIMIT + 2, type_vocab_size=1, **SIZES)
            )
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=TEXT_LIMIT,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        projection_dim=24,
        **SIZES,
    )
    image = CLIPVisionConfig(image_size=224, patch_size=32, projection_dim=24, **SIZES)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=image.to_dict(), projection_dim=24))


def _bert() -> Tokenizer:
    tokenizer = Tokenizer(WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=TEXT_LIMIT)  # as in the published file of MiniLM: it must not stay
    return tokenizer


def _roberta() -> Tokenizer:
    """Byte by byte; `<s>` is 0, where BERT's padding is, and padding 1."""
    return _bytes(["<s>", "<pad>", "</s>", "<unk>"], [], start="<s>", end="</s>")


def _clip() -> Tokenizer:
    return _bytes([], ["<|startoftext|>", "<|endoftext|>"], start="<|startoftext|>", end="<|endoftext|>")


def _bytes(first: list[str], last: list[str], *, start: str, end: str) -> Tokenizer:
    pieces = [*first, *sorted(ByteLevel.alphabet()), *last]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token=None))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = RobertaProcessing((end, vocabulary[end]), (start, vocabulary[start]))
    return tokenizer


TOKENIZERS: Final = {
    "bert-base-uncased": _bert,
    "e5-small-v2": _bert,
    "roberta-base": _roberta,
    "clip-vit-base-patch32": _clip,
}
