"""A synthesiser: phones and a voice in, frames of a mel spectrogram out, one step after the other. Its sizes, and transformers' SpeechT5 around it.

The network *is* `transformers.SpeechT5ForTextToSpeech` (`.network`; Ao et al. 2022, arXiv:2110.07205), whose text-to-speech is that of Li et al. 2019
("Neural Speech Synthesis with Transformer Network", arXiv:1809.08895): Tacotron 2 with a Transformer in the place of its LSTMs. The voice is
joined to each frame that goes into the decoder. What is ours is how it is run:
- Padding reaches nothing: in transformers the postnet's convolutions hear what stands behind the end.
- The postnet's batch norms keep mean 0 and variance 1; only scale and shift are learnt. A mean over a batch would make an update depend on how
  it is cut into micro-batches.
- The prenet's dropout is drawn by utterance: in transformers all of a batch share one mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from overture.data.batch import States, valid_mask
from overture.data.phones import PHONES
from overture.errors import OvertureError
from overture.run import Frontend

PAD, END, FIRST = 0, 1, 2  # ids: padding, what ends a text, and the first of PHONES


def symbols(phones: Sequence[str]) -> list[int]:
    """Ids of a text of `phones`, its end last. Raises ValueError for a phone that there is not."""
    if unknown := sorted(set(phones) - set(PHONES)):
        raise ValueError(f"{', '.join(unknown)}: no phones")
    return [*(FIRST + PHONES.index(phone) for phone in phones), END]


@dataclass(frozen=True, kw_only=True)
class Synthesiser:
    """Sizes of the network; its phones are those of `overture.data.phones`."""

    layers: int = 4  # of the encoder, and of the decoder
    dim: int = 256
    heads: int = 4
    ffn: int = 1024
    prenet: int = 256  # of both its layers
    postnet: int = 256  # of its five layers
    reduction: int = 2  # frames of a step
    voice: int = 256  # numbers that say who speaks
    dropout: float = 0.1
    prenet_dropout: float = 0.5  # also where it speaks
    postnet_dropout: float = 0.5

    def build(self, frontend: Frontend) -> "SynthesiserModel":
        """The network with fresh weights from torch's current generator. Raises OvertureError for sizes that do not go together."""
        if self.dim % self.heads:
            raise OvertureError(f"model.dim={self.dim} is not a multiple of model.heads={self.heads}")
        if not frontend.dim:
            raise OvertureError(
                f"a synthesiser makes frames of channels, and {type(frontend).__name__} gives samples: take NormalMel"
            )
        return SynthesiserModel(self, frontend)


class Made(NamedTuple):
    """What the decoder says of the frames of a batch."""

    before: Tensor  # (B, S r, F) ahead of the postnet
    after: Tensor  # (B, S r, F)
    stop: Tensor  # (B, S r) logits: whether this is the last frame
    hidden: Tensor  # (B, S, D)
    read: tuple[Tensor, ...]  # L of (B, H, S, N): where each step looked in the text


class SynthesiserModel(nn.Module):
    """`.network` (transformers' `SpeechT5ForTextToSpeech`) as objectives, samplers and the exporter call it."""

    def __init__(self, spec: Synthesiser, frontend: Frontend) -> None:
        super().__init__()
        from transformers import SpeechT5Config, SpeechT5ForTextToSpeech

        self.spec, self.dim, self.reduction = spec, spec.dim, spec.reduction
        self.frame_rate = frontend.frame_rate / spec.reduction
        self.network: Any = SpeechT5ForTextToSpeech(
            SpeechT5Config(
                vocab_size=len(PHONES) + FIRST,
                pad_token_id=PAD,
                eos_token_id=END,
                bos_token_id=None,
                decoder_start_token_id=None,
                hidden_size=spec.dim,
                encoder_layers=spec.layers,
                decoder_layers=spec.layers,
                encoder_attention_heads=spec.heads,
                decoder_attention_heads=spec.heads,
                encoder_ffn_dim=spec.ffn,
                decoder_ffn_dim=spec.ffn,
                initializer_range=spec.dim**-0.5,
                encoder_layerdrop=0.0,
                decoder_layerdrop=0.0,
                hidden_dropout=spec.dropout,
                attention_dropout=spec.dropout,
                activation_dropout=spec.dropout,
                positional_dropout=spec.dropout,
                num_mel_bins=frontend.dim,
                reduction_factor=spec.reduction,
                speech_decoder_prenet_units=spec.prenet,
                speech_decoder_prenet_dropout=spec.prenet_dropout,
                speech_decoder_postnet_units=spec.postnet,
                speech_decoder_postnet_dropout=spec.postnet_dropout,
                speaker_embedding_dim=spec.voice,
            )
        )
        speech = self.network.speecht5
        with torch.no_grad():  # as loud as positions, or the decoder finds where before what
            nn.init.normal_(speech.encoder.prenet.embed_tokens.weight)[PAD] = 0
        for prenet in (
            speech.encoder.prenet,
            speech.decoder.prenet,
        ):  # FSDP shards no scalars, and this is one in transformers
            prenet.encode_positions.alpha = nn.Parameter(torch.ones(1))
        self.train()

    def weights(self) -> dict[str, Tensor]:
        """Those of `network` as transformers stores them."""
        return {n: w.reshape(()) if n.endswith(".alpha") else w for n, w in self.network.state_dict().items()}

    def train(self, mode: bool = True) -> Self:
        """As of any module, but for the batch norms."""
        super().train(mode)
        for layer in self.network.speech_decoder_postnet.layers:
            layer.batch_norm.eval()
        return self

    @property
    def layers(self) -> list[nn.Module]:
        """What a sharded run shards one by one."""
        speech = self.network.speecht5
        return [*speech.encoder.wrapped_encoder.layers, *speech.decoder.wrapped_decoder.layers]

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) steps: the last may be longer than what is left."""
        return (lengths + self.reduction - 1) // self.reduction

    def encode(self, ids: Tensor, valid: Tensor) -> Tensor:
        """(B, N) ids, (B, N) bool -> (B, N, D). Raises OvertureError for a longer text than it has positions for."""
        most = self.network.config.max_text_positions
        if ids.shape[1] > most:
            raise OvertureError(f"a text of {ids.shape[1]} phones, and this network has positions for {most}")
        found: Tensor = self.network.speecht5.encoder(input_values=ids, attention_mask=valid.long()).last_hidden_state
        return found

    def prenet(self, frames: Tensor, voices: Tensor, kept: Tensor | None = None, at: int = 0) -> Tensor:
        """(B, S, F) one frame of each step from step `at` on, (B, E) -> (B, S, D).

        `kept` (B, S, 2, P): what dropout leaves of its two layers, as 0 and 1; None: drawn from torch's generator in training, else all.
        """
        prenet = self.network.speecht5.decoder.prenet
        share, h = self.spec.prenet_dropout, frames
        for i, layer in enumerate(prenet.layers):
            h = F.relu(layer(h))
            h = F.dropout(h, share, self.training) if kept is None else h * kept[:, :, i] / (1 - share)
        positions = prenet.encode_positions
        if (end := at + h.shape[1]) > positions.max_len:
            raise OvertureError(f"{end} steps of speech, and this network has positions for {positions.max_len}")
        h = positions.dropout(prenet.final_layer(h) + positions.alpha * positions.pe[:, at:end])
        told = F.normalize(voices, dim=-1)[:, None].expand(-1, h.shape[1], -1)  # (B, S, E)
        return F.relu(prenet.speaker_embeds_layer(torch.cat([h, told.to(h.dtype)], -1)))

    def decode(self, h: Tensor, valid: Tensor | None, memory: Tensor, readable: Tensor, **options: Any) -> Any:
        """(B, S, D) of `prenet`, (B, S) bool, (B, N, D) of `encode`, (B, N) bool -> transformers' output; `options` as of its decoder."""
        return self.network.speecht5.decoder.wrapped_decoder(
            hidden_states=h,
            attention_mask=None if valid is None else valid.long(),
            encoder_hidden_states=memory,
            encoder_attention_mask=readable.long(),
            **options,
        )

    def frames(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D) -> (B, S r, F) frames ahead of the postnet, and (B, S r) logits of the end."""
        postnet = self.network.speech_decoder_postnet
        before = postnet.feat_out(hidden).view(len(hidden), -1, self.network.config.num_mel_bins)
        return before, postnet.prob_out(hidden).view(len(hidden), -1)

    def postnet(self, before: Tensor, valid: Tensor) -> Tensor:
        """(B, S r, F), (B, S r) bool, true in all steps that there are -> (B, S r, F)."""
        h, there = before.transpose(1, 2), valid[:, None]
        for layer in self.network.speech_decoder_postnet.layers:
            h = layer(h * there)
        return before + h.transpose(1, 2)

    def forward(self, x: Tensor, lengths: Tensor, ids: Tensor, id_lengths: Tensor, voices: Tensor) -> Made:
        """(B, T, F) frames, (B,), (B, N) ids, (B,), (B, E): each step sees the text, the voice and the frames before it."""
        readable, steps = valid_mask(id_lengths, ids.shape[1]), self.steps(lengths)
        given = self.given(x)
        valid = valid_mask(steps, given.shape[1])
        out = self.decode(
            self.prenet(given, voices),
            valid,
            self.encode(ids, readable),
            readable,
            output_attentions=True,
            use_cache=False,
        )
        before, stop = self.frames(out.last_hidden_state)
        after = self.postnet(before, valid.repeat_interleave(self.reduction, 1))
        return Made(before, after, stop, out.last_hidden_state, out.cross_attentions)

    def given(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, S, F): what each step gets, the last frame of the step before, and none at first."""
        short = -x.shape[1] % self.reduction
        last = F.pad(x, (0, 0, 0, short))[:, self.reduction - 1 :: self.reduction]
        return F.pad(last, (0, 0, 1, 0))[:, :-1]

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, T, F), (B,) -> what the decoder makes of these frames where it reads an empty text and is told no voice: (L + 1) of (B, S, D)."""
        steps, given = self.steps(lengths), self.given(x)
        ids = torch.full((len(x), 1), END, device=x.device)
        nobody = x.new_zeros(len(x), self.spec.voice)
        out = self.decode(
            self.prenet(given, nobody),
            valid_mask(steps, given.shape[1]),
            self.encode(ids, ids == END),
            ids == END,
            output_hidden_states=True,
            use_cache=False,
        )
        return States(out.hidden_states, steps)
